"""The processes of `chaos.py`: a job that can be hurt in many ways, and nothing left behind.

All of them carry a mark in their environment, which Ray hands on, so that those whose parents are dead are found
too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
MARK = "RAYEMBED_CHAOS"
ROLES = {  # by their first words: Ray's daemons name each other in the arguments after those
    "embedder": ("ray::EmbedderActor",),
    "queue": ("ray::QueueActor",),
    "driver": ("ray::DriverActor",),
    "worker": ("ray::IDLE", "monitor.py", "dashboard.py"),  # and what is not needed
    "raylet": ("raylet/raylet", "ray::DashboardAgent", "ray::RuntimeEnvAgent"),  # it ends with its agents
    "gcs": ("gcs_server",),
}
FIRST_WORDS = 3
ENDS_S = 60.0  # that a job has after SIGTERM


def mark() -> None:
    """From now on this process's children can be told from all others."""
    os.environ[MARK] = uuid.uuid4().hex


def end_all() -> int:
    """SIGKILL every process with the mark but this one; how many there were."""
    killed = 0
    while marked := _marked():
        for process in marked:
            _signal(process, signal.SIGKILL)
        killed += len(marked)
        psutil.wait_procs(marked, timeout=5)
    return killed


def _marked() -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _is_marked(process)]


def _is_marked(process: psutil.Process) -> bool:
    try:
        if Path("/proc").is_dir():
            # not psutil's dict: a process that renames itself, as Ray's do, leaves holes in what is there
            return f"{MARK}={os.environ[MARK]}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
        return process.environ().get(MARK) == os.environ[MARK]
    except (psutil.Error, OSError):
        return False


class Job:
    """One `rayembed run`, with a Ray of its own, in a session of its own. What it says goes into `log`."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobs", "run", *arguments],
                cwd=log.parent,
                env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(log.parent)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for chaos.py alone
            )

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def processes(self, role: str) -> list[psutil.Process]:
        """Those of its processes that have this part in it."""
        return [each for each in self._family() if _plays(role, each)]

    def kill(self) -> None:
        """SIGKILL of the job alone; its Ray ends by itself, some seconds later."""
        self._process.kill()
        self._process.wait()

    def kill_with_ray(self) -> None:
        """SIGKILL of all there is of it."""
        family = self._family()
        self.kill()
        for process in family:
            _signal(process, signal.SIGKILL)

    def terminate(self) -> bool:
        """SIGTERM; whether it ended in time."""
        self._process.terminate()
        try:
            self._process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """The last line it said."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "nothing"

    def _family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []


class Frozen:
    """Processes that were stopped and go on later, as on a machine that was paused."""

    def __init__(self) -> None:
        self._until: list[tuple[float, psutil.Process]] = []

    def freeze(self, process: psutil.Process, seconds: float) -> None:
        _signal(process, signal.SIGSTOP)
        self._until.append((time.monotonic() + seconds, process))

    def thaw(self) -> None:
        """Let go on whoever's time has come."""
        due = [process for at, process in self._until if at <= time.monotonic()]
        self._until = [(at, process) for at, process in self._until if process not in due]
        for process in due:
            _signal(process, signal.SIGCONT)


def kill(process: psutil.Process) -> None:
    _signal(process, signal.SIGKILL)


def _plays(role: str, process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline()[:FIRST_WORDS])
        return process.status() != psutil.STATUS_ZOMBIE and any(word in command for word in ROLES[role])
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)  # psutil looks that it is no other process by the same number
