"""A local server as a child process, for whatever needs an endpoint for a while."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

from actors.errors import FAILED, UserError

# Importing the libraries from a cold disk is the slow part.
_START_S = 180
_STOP_S = 10


@contextmanager
def start_local_server(*options: str) -> Iterator[str]:
    """Yields the base URL, `http://127.0.0.1:PORT/v1`, of a server that answers already.

    `options` are those of `python -m jobs.serve`; without any it has the default model.
    The server ends with the block, and with this process however that ends. What it writes to stderr meanwhile goes
    to this process's stderr. Raises UserError when it does not start.
    """
    child = subprocess.Popen(
        # -P and the same path: the child imports what this process would, from a checkout, installed, or in Ray.
        [sys.executable, "-P", "-m", "jobs.serve", "--port", "0", "--until-stdin-closes", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        # A Ctrl-C in the terminal is for this process, which then ends the child.
        start_new_session=True,
    )
    assert child.stderr is not None
    url: Future[str] = Future()
    Thread(target=_follow, args=(child.stderr, url), daemon=True, name="local-server-stderr").start()
    try:
        yield _wait_for(url)
    finally:
        _end(child)


def _wait_for(url: Future[str]) -> str:
    try:
        return url.result(timeout=_START_S)
    except TimeoutError:
        raise UserError(f"the local server did not answer within {_START_S} s", FAILED) from None


def _follow(stderr: IO[str], url: Future[str]) -> None:
    """Reads all that the child says, so that it never blocks on a full pipe; the ready line sets `url`."""
    last = "it said nothing"
    for line in stderr:
        ready = re.match(r"serving .* at (http://\S+)$", line)
        if ready and not url.done():
            url.set_result(ready[1])
        elif url.done():
            sys.stderr.write(line)
        else:
            last = line.strip() or last
    if not url.done():
        url.set_exception(UserError(f"the local server did not start: {last}", FAILED))


def _end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.terminate()
    child.stdin.close()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
