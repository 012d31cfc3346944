"""What all tests share: one Ray and one embedding server for the session, and the real command line."""

from __future__ import annotations

import os

# Ray reads these when it is imported
os.environ.update(RAY_AUTH_MODE="disabled", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_USAGE_STATS_ENABLED="0")

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.examples  # noqa: F401 (its profile has to be known before any test is collected)
from tests.servers.fixture import server
from tests.servers.s3 import s3, s3_of_the_session

ROOT = Path(__file__).parents[1]

__all__ = ["s3", "s3_of_the_session", "server"]


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a local Ray that lives as long as the test session."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 << 20,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


class Command:
    """One `rayembed …` as a child process, from the checkout. `out` and `err` are complete once it has ended."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobs", *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out = self.err = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> int:
        self.out, self.err = self._process.communicate(timeout=300)
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def summary(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def rayembed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Command]]:
    """Starts the command line in a folder of its own, on the session's Ray, or (`own_ray=True`) on none."""
    started: list[Command] = []

    def start(*arguments: object, own_ray: bool = False, **environment: str) -> Command:
        if not own_ray:
            environment["RAY_ADDRESS"] = request.getfixturevalue("ray_address")
        started.append(Command([str(each) for each in arguments], environment, tmp_path))
        return started[-1]

    yield start
    for command in started:
        if command._process.poll() is None:
            command.send(signal.SIGKILL)
            command.wait()


def eventually(condition: Callable[[], Any], timeout: float = 180.0) -> Any:
    """The first true value of `condition`; fails when there is none in time, which is long: a run's start alone
    takes 45 s where the cores are shared by four."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail("it did not happen in time")
        time.sleep(0.02)
    return value
