"""Machines of a Ray cluster, on this one: each a real `ray start`, with processes and perhaps mounts of its own."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.conftest import ROOT, eventually

_BIN = Path(sys.executable).parent
RAY = str(_BIN / "ray")
TRIES = 3  # a port that was free when we looked may be another's when Ray takes it


def free_port() -> int:
    """Below those that the system gives to whoever connects, and above those of Ray's workers."""
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def own_mounts() -> tuple[str, ...] | None:
    """The words before a command that then may mount what it likes and nobody else sees; None: not allowed here."""
    for words in (("unshare", "-m"), ("unshare", "-rm")):
        with suppress(OSError):
            mounts = [*words, "mount", "-t", "tmpfs", "none", "/mnt"]
            if not subprocess.run(mounts, capture_output=True, check=False).returncode:
                return words
    return None


class Machine:
    """`ray start ARGUMENTS`, up or ended when this returns; `hides`: it has an empty folder where others have that
    one. Its metrics are on `metrics_port`."""

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str], log: Path, hides: Path | None = None
    ) -> None:
        self.metrics_port = free_port()
        ports = [f"--dashboard-agent-{kind}-port={free_port()}" for kind in ("listen", "grpc")]
        command = [RAY, "start", *arguments, *ports, f"--metrics-export-port={self.metrics_port}", "--block"]
        command += ["--object-store-memory=80000000", "--disable-usage-stats"]
        if hides:
            words = own_mounts()
            assert words
            command = [*words, "sh", "-c", f"mount -t tmpfs none {hides} && exec {' '.join(command)}"]
        self.log = log
        self._id = ""
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"PATH": f"{_BIN}:{os.environ['PATH']}"} | environment,
                cwd=log.parent,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(lambda: self._up() or not self.running)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def _up(self) -> bool:
        return "Ray runtime started" in self.log.read_text()

    @property
    def id(self) -> str:
        """Of the Ray node."""
        for process in self._family():
            if found := re.search(r"--node_id=([0-9a-f]+)", _name(process)):
                self._id = found[1]
        return self._id

    def runs(self, actor: str) -> bool:
        """Whether an actor of this class lives here."""
        return bool(self._processes(actor))

    def process(self, actor: str) -> psutil.Process:
        """The one of the one actor of this class that lives here."""
        (process,) = self._processes(actor)
        return process

    def _processes(self, actor: str) -> list[psutil.Process]:
        return [each for each in self._family() if f"ray::{actor}" in _name(each)]

    def kill(self) -> None:
        """SIGKILL of everything on it, as when its power fails. Harmless twice."""
        family = self._family()
        for process in family:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.Error:
            return []


class Machines:
    """One cluster's. `address` is that of its head, which has its dashboard on `dashboard_port` if it has one; all
    have addresses of their own, where they are named."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self.all: list[Machine] = []
        self.address = ""
        self.dashboard_port = 0

    def head(self, *arguments: str) -> Machine:
        import ray

        def ports() -> list[str]:
            port, self.dashboard_port = free_port(), free_port()
            self.address = f"{ray.util.get_node_ip_address()}:{port}"
            named = {"port": port, "dashboard-port": self.dashboard_port, "ray-client-server-port": free_port()}
            return [f"--{name}={number}" for name, number in named.items()]

        return self._start(lambda: ["--head", "--temp-dir", str(self.folder), *ports(), *arguments])

    def join(self, ip: str, *arguments: str, hides: Path | None = None) -> Machine:
        named = [f"--address={self.address}", f"--node-ip-address={ip}", "--num-cpus=2"]
        return self._start(lambda: [*named, *arguments], hides)

    def _start(self, arguments: Callable[[], list[str]], hides: Path | None = None) -> Machine:
        for _ in range(TRIES):
            log = self.folder / f"machine-{len(self.all)}.log"
            machine = Machine(arguments(), self._environment, log, hides)
            self.all.append(machine)
            if machine.running:
                return machine
        raise AssertionError(log.read_text())

    def end(self) -> None:
        for machine in self.all:
            machine.kill()


@contextmanager
def machines(**environment: str) -> Iterator[Machines]:
    """None yet. All of them end with the block. `environment` is theirs beside this process's."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the names of sockets are short
    these = Machines(folder, {"PYTHONPATH": str(ROOT), **environment})
    try:
        yield these
    finally:
        these.end()
        shutil.rmtree(folder, ignore_errors=True)


def _name(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else "".join(process.cmdline())
    except psutil.Error:
        return ""
