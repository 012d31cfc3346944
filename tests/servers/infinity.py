"""Infinity itself, with its debug engine, in a virtual environment of its own: its dependencies are not ours."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

REQUIREMENTS = Path(__file__).with_name("infinity-requirements.txt")
DIM = 13  # of the debug engine, each number of a vector being the length of the text in characters
API_KEY, QUEUE_SIZE = "a-key-of-the-tests", 1
_ONLY = ("--only-binary", ":all:")  # to compile NumPy takes minutes, and fails
_READY_S = 120.0
_PYTHON = ">=3.11,<3.13"  # it needs NumPy 1


@pytest.fixture(scope="session")
def infinity_command(request: pytest.FixtureRequest) -> str:
    """The path of its command line; skips the test where it cannot be installed."""
    assert request.config.cache is not None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + version.encode()).hexdigest()[:16]
    folder = request.config.cache.mkdir("infinity") / digest
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _install(folder)
        (folder / "whole").touch()
    return str(folder / "bin" / "infinity_emb")


@pytest.fixture(scope="session")
def infinity(infinity_command: str) -> Iterator[str]:
    """The base URL of one as it is by default."""
    with _running(infinity_command, {}) as url:
        yield url


@pytest.fixture(scope="session")
def tight_infinity(infinity_command: str) -> Iterator[str]:
    """One with a prefix, a key and room for few texts; the URL is without the prefix."""
    fields = {"URL_PREFIX": "/v1", "API_KEY": API_KEY, "QUEUE_SIZE": str(QUEUE_SIZE)}
    with _running(infinity_command, fields) as url:
        yield url


def _install(folder: Path) -> None:
    python = folder / "bin" / "python"
    if shutil.which("uv"):
        _try("uv", "venv", "--quiet", "--python", _PYTHON, folder)
        _try("uv", "pip", "install", "--quiet", "--python", python, *_ONLY, "-r", REQUIREMENTS)
    else:
        _try(sys.executable, "-m", "venv", folder)
        _try(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_ONLY, "-r", REQUIREMENTS)


def _try(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        why = " ".join(done.stderr.split())[-300:]
        pytest.skip(f"Infinity cannot be installed here: {why}")


@contextmanager
def _running(command: str, fields: Mapping[str, str]) -> Iterator[str]:
    port = _free_port()
    environment = {f"INFINITY_{name}": value for name, value in fields.items()}
    environment |= {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    arguments = ["v2", "--engine", "debugengine", "--model-id", "a/b", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [command, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Until it answers anything: it does so only when the model is there."""
    deadline = time.monotonic() + _READY_S
    with httpx.Client(trust_env=False) as client:
        while True:
            assert process.poll() is None, f"Infinity ended with {process.returncode}"
            try:
                client.get(url)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "Infinity does not answer"
                time.sleep(0.1)
            else:
                return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
