"""The embedding server as a child process, and the pytest fixture `server` that lends it to a test."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
import pytest

from tests.servers.embedding_server import API_KEY_VARIABLE, Behaviour, changed

_ROOT = Path(__file__).parents[2]
_RUNNING = pytest.StashKey["EmbeddingServer"]()


class EmbeddingServer:
    """A running server on 127.0.0.1; `fields` are those of `Behaviour`.

    Ends with `stop` or by leaving the `with` block. `stats` and `seen` live in the process: they are gone
    after `kill`, `stop` or `restart`.
    """

    def __init__(self, **fields: Any) -> None:
        self._behaviour = changed(Behaviour(), fields)
        self._port = 0
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.servers.embedding_server", f"--port={self._port}"]
        environment = os.environ | {API_KEY_VARIABLE: self._behaviour.api_key}
        self._process = subprocess.Popen(
            command + _flags(self._behaviour), cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            ready = stdout.readline()
        if not ready:
            raise RuntimeError(f"embedding server did not start: {command}, exit code {self._process.wait()}")
        self._port = int(ready.removeprefix("READY "))
        self._client = httpx.Client(base_url=self.url, trust_env=False)

    @property
    def url(self) -> str:
        """The base URL, without `/v1`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def behave(self, **fields: Any) -> None:
        """Changes these fields of the behaviour from the next request on.

        Raises msgspec.ValidationError on a wrong name or value.
        """
        self._behaviour = changed(self._behaviour, fields)
        self._client.post("/_behaviour", content=msgspec.json.encode(fields)).raise_for_status()

    def stats(self) -> dict[str, Any]:
        """`Stats.report` since the last reset."""
        return self._get("/_stats")

    def seen(self) -> dict[str, int]:
        """How many times each text was answered with its right vector since the last reset."""
        return self._get("/_seen")

    def reset(self) -> None:
        """Clears stats and seen; the behaviour stays."""
        self._client.post("/_reset").raise_for_status()

    def stop(self) -> None:
        """Ends the process: idle connections at once, open requests get a second. Harmless twice."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """SIGKILL: open connections are cut."""
        self._process.kill()
        self._reap()

    def restart(self) -> None:
        """Starts again on the same port, after `stop` if it runs, with the behaviour last set.

        Counts (`fail_next`, `drop_next`, `next:N`) begin again where they were set.
        """
        if self.running:
            self.stop()
        self._start()

    def _get(self, path: str) -> dict[str, Any]:
        return msgspec.json.decode(self._client.get(path).raise_for_status().content, type=dict[str, Any])

    def _reap(self) -> None:
        self._process.wait()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _flags(behaviour: Behaviour) -> list[str]:
    """The command line of what differs from the default, but for the key: that goes by the environment."""
    flags = []
    for field in dataclasses.fields(Behaviour):
        value = getattr(behaviour, field.name)
        if value != field.default and field.name != "api_key":
            flag = "--" + field.name.replace("_", "-")
            flags.append(flag if value is True else f"{flag}={value}")
    return flags


@pytest.fixture
def server(request: pytest.FixtureRequest) -> EmbeddingServer:
    """The session's embedding server with default behaviour and empty stats, alive even if one killed it."""
    return lend(request.config)


def lend(config: pytest.Config) -> EmbeddingServer:
    """What the fixture `server` gives: the one process of this test session, as new."""
    # In the stash and not a session fixture: that would be a second process for each module that imports it.
    running = config.stash.get(_RUNNING, None)
    if running is None:
        running = config.stash[_RUNNING] = EmbeddingServer()
        config.add_cleanup(running.stop)
    if not running.running:
        running.restart()
    running.behave(**dataclasses.asdict(Behaviour()))
    running.reset()
    return running
