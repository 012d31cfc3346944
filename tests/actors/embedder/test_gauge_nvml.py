"""This machine's GPUs: the real `pynvml`, in a process of its own, with a stub in place of the driver's library."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from actors.embedder.gauges import CARD_GAUGES
from actors.embedder.gauges.reading.listener import is_here, listeners
from actors.embedder.gauges.reading.machine import Machine
from actors.messages import Endpoint
from tests.servers.nvml.library import nvml_stub

__all__ = ["nvml_stub"]
ROOT = Path(__file__).parents[3]
NOBODY = "http://127.0.0.1:1"
NO_HOSTS = [f"http://{'a' * 70}:80", "http://a..b", "http://[::1", "http://127.0.0.1:x"]
LISTENING = """
import socket, subprocess, sys, time
server = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(server.getsockname()[1], child.pid, flush=True)
sys.stdin.read()
"""

Seen = tuple[float, tuple[float, str, float] | None]
Steps = Callable[..., list[Seen]]


@pytest.fixture
def steps(nvml_stub: dict[str, str]) -> Steps:
    """What each look of a new process sees; a step's variables are without their STUB_."""

    def run(*changes: dict[str, str | None], url: str = NOBODY, **environment: str) -> list[Seen]:
        named = [json.dumps({f"STUB_{name}": value for name, value in each.items()}) for each in changes]
        command = [sys.executable, "-m", "tests.actors.embedder.machine_steps", url, *named]
        done = subprocess.run(
            command, env=os.environ | nvml_stub | environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def last(seen: list[Seen]) -> tuple[float, str] | None:
    _, sample = seen[-1]
    return (sample[0], sample[1]) if sample else None


@contextmanager
def server(**environment: str) -> Iterator[tuple[str, int, int]]:
    """The URL of a process that listens, its pid, and its child's."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port, child = process.stdout.readline().split()
    yield f"http://127.0.0.1:{port}/v1", process.pid, int(child)
    process.communicate()


def test_only_gpus_on_which_something_computes_count(steps: Steps) -> None:
    assert last(steps({"BUSY": "0,80,40", "PIDS": ";11;12,13"}, {})) == (pytest.approx(0.6), "nvml")
    assert last(steps({"BUSY": "0", "PIDS": "11"}, {})) == (0.0, "nvml")


@pytest.mark.parametrize("unseen", [{}, {"HIDDEN": "1"}])
def test_all_count_when_nothing_computes_or_nobody_says_where(steps: Steps, unseen: dict[str, str]) -> None:
    assert last(steps({"BUSY": "10,30", "PIDS": ";11" if unseen else None, **unseen}, {})) == (0.2, "nvml")


@pytest.mark.parametrize("of_child", [False, True])
def test_the_gpus_of_the_process_that_listens_count_alone(steps: Steps, of_child: bool) -> None:
    with server() as (url, pid, child):
        mine = {"BUSY": "90,20,50", "PIDS": f"11;{child if of_child else pid};12"}
        assert last(steps(mine, {}, url=url)) == (0.2, "nvml")
        assert last(steps(mine, {})) == (pytest.approx(0.9 / 3 + 0.2 / 3 + 0.5 / 3), "nvml")


@pytest.mark.parametrize(
    ("visible", "share"),
    [
        ({"CUDA_VISIBLE_DEVICES": "GPU-00000001"}, 0.2),
        ({"CUDA_VISIBLE_DEVICES": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, 0.5),
        ({"CUDA_VISIBLE_DEVICES": "2"}, 0.9),  # in CUDA's own order, whatever that is
    ],
)
def test_the_servers_environment_names_its_gpus(steps: Steps, visible: dict[str, str], share: float) -> None:
    """Its processes are in another container, say: NVML shows none of them."""
    with server(**visible) as (url, _, _):
        assert last(steps({"BUSY": "90,20,50", "PIDS": "11"}, {}, url=url)) == (share, "nvml")


def test_our_own_cuda_visible_devices_hides_nothing(steps: Steps) -> None:
    """Ray empties it for each actor that has asked for no GPU."""
    assert last(steps({"BUSY": "70"}, {}, CUDA_VISIBLE_DEVICES="")) == (0.7, "nvml")


def test_hopper_tells_how_many_multiprocessors_have_work(steps: Steps) -> None:
    assert last(steps({"BUSY": "100,100", "SM": "37.5,62.5"}, {}, {}, {}, {})) == (0.5, "gpm")
    (_, opening), (_, first), *_ = steps({"BUSY": "100", "SM": "40"}, {}, {})
    assert (opening, first and first[:2]) == (None, [0.4, "gpm"])


def test_a_gpu_without_that_speaks_of_time_and_so_do_its_neighbours(steps: Steps) -> None:
    assert last(steps({"BUSY": "100,50", "SM": "40"}, {})) == (0.75, "nvml")
    seen = steps({"BUSY": "100", "SM": "40"}, {}, {"SM": None}, {"SM": "60"})
    assert [each and each[1] for _, each in seen] == [None, "gpm", "nvml", "gpm"]


def test_nvmls_reading_is_as_old_as_half_its_longest_period(steps: Steps) -> None:
    _, sample = steps({"BUSY": "50"}, {})[-1]
    assert sample is not None
    assert sample[2] >= 0.5


@pytest.mark.parametrize("sm", [None, "40"])
def test_a_gpu_cut_into_instances_is_no_signal(steps: Steps, sm: str | None) -> None:
    seen = steps({"BUSY": "50", "MIG": "1", "SM": sm, "PIDS": "11"}, {}, {"MIG": None}, {})
    assert [each and each[0] for _, each in seen] == [None, None, None, 0.4 if sm else 0.5]
    assert seen[1][0] > 10


def test_no_permission_is_no_signal(steps: Steps) -> None:
    assert [sample for _, sample in steps({"BUSY": "50", "SM": "40", "DENIED": "1"}, {}, {})] == [None] * 3


def test_a_driver_that_goes_between_two_looks_and_comes_back(steps: Steps) -> None:
    seen = steps({"BUSY": "50"}, {}, {"GONE": "1"}, {}, {"GONE": None}, {})
    assert [sample and sample[0] for _, sample in seen] == [None, 0.5, None, None, None, 0.5]
    assert [after_s > 10 for after_s, _ in seen] == [False, False, True, True, False, False]


def test_a_driver_without_gpus_may_yet_have_some(steps: Steps) -> None:
    assert [sample and sample[0] for _, sample in steps({}, {}, {"BUSY": "60"}, {})] == [None, None, None, 0.6]


def test_no_library_is_never_asked_again() -> None:
    def nothing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def no_library() -> Any:
        names = {name: getattr(pynvml, name) for name in ("NVMLError", "NVML_ERROR_LIBRARY_NOT_FOUND")}
        return SimpleNamespace(nvmlInit=nothing, **names)

    def no_package() -> Any:
        raise ImportError

    for load in (no_library, no_package):
        machine = Machine([Endpoint(NOBODY, "m", "openai", None)], CARD_GAUGES, load)
        assert machine.look() == math.inf
        assert machine.gpu(NOBODY) is None


def test_the_gpus_here_say_nothing_of_an_endpoint_elsewhere(steps: Steps) -> None:
    for url in ("http://192.0.2.1", "http://", "nonsense", "", *NO_HOSTS):
        machine = Machine([Endpoint(url, "m", "openai", None)], CARD_GAUGES, lambda: pytest.fail("asked"))
        assert machine.look() == math.inf, url
    assert steps({"BUSY": "50"}, url="http://192.0.2.1") == [[math.inf, None]]


def test_what_is_here() -> None:
    own = next(
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name == "AF_INET"
    )
    for url in (
        "http://127.0.0.1:1",
        "http://127.3.2.1",
        "http://localhost:8080/v1",
        f"http://{own}:9",
        "http://[::1]",
    ):
        assert is_here(url), url


def test_who_listens() -> None:
    with server(CUDA_VISIBLE_DEVICES="GPU-1", CUDA_DEVICE_ORDER="PCI_BUS_ID") as (url, pid, child):
        port = int(url.removesuffix("/v1").rpartition(":")[2])
        found = listeners({port, 1})
    assert set(found) == {port}
    assert {pid, child} <= found[port].pids
    assert os.getpid() not in found[port].pids
    assert (found[port].visible, found[port].by_bus) == ("GPU-1", True)


def test_the_real_nvml_of_this_machine() -> None:
    """Without a GPU there is nothing; with one that can be read it is a share."""
    machine = Machine([Endpoint(NOBODY, "m", "openai", None)], CARD_GAUGES)
    machine.look()
    machine.look()
    sample = machine.gpu(NOBODY)
    assert sample is None or 0 <= sample.utilisation <= 1
    machine.close()
