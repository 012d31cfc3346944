"""GPU utilisation: what NVML says, through a hand-made module with its functions; and no GPU as on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from actors.embedder.gauges import open_gauge
from actors.embedder.gauges.nvml import Nvml, open_nvml
from actors.embedder.gauges.prometheus import Prometheus, open_prometheus
from actors.embedder.gauges.prometheus import utilisation as on_page
from actors.messages import Endpoint
from tests.conftest import eventually


def at(*urls: str) -> list[Endpoint]:
    return [Endpoint(url, "m", "openai", None) for url in urls]


HERE = at("http://127.0.0.1:8080")
NO_HOSTS = [f"http://{'a' * 70}:80", "http://a..b", "http://[::1"]
ELSEWHERE = at("http://192.0.2.1:8080")  # an address that is nobody's


class NVMLError(Exception):
    pass


@dataclass
class Gpu:
    """A GPU with `percent` utilisation on which so many processes compute; what is not `known` raises."""

    percent: int
    processes: int = 1
    known: set[str] = field(default_factory=lambda: {"utilisation", "processes"})


class FakeNvml:
    """The functions of the module `pynvml` that a gauge needs."""

    NVMLError = NVMLError

    def __init__(self, gpus: Sequence[Gpu], starts: bool = True) -> None:
        self.gpus = gpus
        self.starts = starts
        self.ready = False

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.starts:
            raise NVMLError("Driver Not Loaded")
        self.ready = True

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        assert self.ready
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        assert self.ready
        return self.gpus[index]

    def nvmlDeviceGetUtilizationRates(self, gpu: Gpu) -> Any:  # noqa: N802
        if "utilisation" not in gpu.known:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=gpu.percent, memory=0)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: Gpu) -> list[object]:  # noqa: N802
        if "processes" not in gpu.known:
            raise NVMLError("Insufficient Permissions")
        return [object()] * gpu.processes


def gauge_of(*gpus: Gpu) -> Nvml:
    nvml = FakeNvml(gpus)
    nvml.nvmlInit()
    return Nvml(nvml)


def utilisation(*gpus: Gpu) -> float | None:
    sample = gauge_of(*gpus).read()
    return sample.utilisation if sample else None


@pytest.mark.parametrize("percent", [0, 1, 50, 100])
def test_utilisation_is_a_share(percent: int) -> None:
    sample = gauge_of(Gpu(percent)).read()
    assert sample is not None
    assert (sample.utilisation, sample.source) == (percent / 100, "nvml")
    assert 0 < sample.age_s <= 1


def test_only_gpus_on_which_something_computes_count() -> None:
    assert utilisation(Gpu(80), Gpu(0, processes=0), Gpu(40, processes=3)) == pytest.approx(0.6)


def test_all_count_when_nothing_computes() -> None:
    assert utilisation(Gpu(10, processes=0), Gpu(30, processes=0)) == pytest.approx(0.2)


def test_a_gpu_that_does_not_say_is_left_out() -> None:
    mig = Gpu(0, known={"processes"})
    assert utilisation(mig, Gpu(70)) == pytest.approx(0.7)
    assert utilisation(mig) is None
    assert utilisation() is None


def test_processes_that_may_not_be_seen_do_not_hide_the_utilisation() -> None:
    assert utilisation(Gpu(70, known={"utilisation"})) == pytest.approx(0.7)


def test_a_gpu_may_fall_off_and_come_back() -> None:
    gpu = Gpu(70)
    gauge = gauge_of(gpu)
    gpu.known = set()
    assert gauge.read() is None
    gpu.known = {"utilisation", "processes"}
    assert gauge.read() is not None


def test_a_gauge_opens_for_an_endpoint_on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([Gpu(50)]))
    own = next(
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name == "AF_INET"
    )
    for here in ("http://127.0.0.1:1", "http://127.3.2.1", "http://localhost:8080/v1", f"http://{own}:9"):
        assert isinstance(open_gauge([*ELSEWHERE, *at(here)]), Nvml), here
    for elsewhere in ("http://192.0.2.1", "http://nobody.invalid:80", "http://", "nonsense", "", *NO_HOSTS):
        assert open_nvml(at(elsewhere)) is None, elsewhere
    assert open_nvml([]) is None


def test_no_driver_or_no_gpu_is_no_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([Gpu(50)], starts=False))
    assert open_nvml(HERE) is None
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([]))
    assert open_nvml(HERE) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    assert open_nvml(HERE) is None


def test_the_real_nvml_on_this_machine() -> None:
    """Without a GPU there is no gauge; with one it can be read."""
    gauge = open_gauge(HERE)
    try:
        import pynvml

        pynvml.nvmlInit()
        gpus = pynvml.nvmlDeviceGetCount()
    except Exception:
        gpus = 0
    assert (gauge is not None) == (gpus > 0)
    if gauge is not None and (sample := gauge.read()):
        assert 0 <= sample.utilisation <= 1


DCGM = """# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA H200"} 80
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",modelName="NVIDIA H200"} 60
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-3",modelName="NVIDIA H200"} 0
DCGM_FI_DEV_FB_USED{gpu="0"} 1234
"""


@pytest.mark.parametrize(
    ("page", "share"),
    [
        (DCGM, 0.7),
        (DCGM.replace("80", "0").replace("60", "0"), 0.0),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO 50\n", 0.5),
        ('DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",GPU_I_ID="1"} 0.25\n', 0.25),
        ('nv_gpu_utilization{gpu_uuid="GPU-1"} 0.9 1700000000\n', 0.9),
        ("nv_gpu_utilization NaN\n", None),
        ("te_queue_size 3\n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_what_a_page_says_of_its_gpus(page: str, share: float | None) -> None:
    assert on_page(page) == (share if share is None else pytest.approx(share))


@pytest.fixture
def page() -> Iterator[tuple[str, dict[str, str]]]:
    """A base URL, and what it shows at each path."""
    shown: dict[str, str] = {}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in shown else 404)
            self.end_headers()
            self.wfile.write(shown.get(self.path, "").encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", shown
    server.shutdown()


def test_a_servers_own_page_is_found_and_followed(page: tuple[str, dict[str, str]]) -> None:
    url, shown = page
    assert open_prometheus(at(url)) is None
    shown["/metrics"] = "nv_gpu_utilization 0.5\n"
    gauge = open_prometheus(at(f"{url}/v1"))
    assert isinstance(gauge, Prometheus)
    sample = eventually(gauge.read)
    assert (sample.utilisation, sample.source) == (0.5, "metrics")
    shown["/metrics"] = "nv_gpu_utilization 0.75\n"
    assert eventually(lambda: (gauge.read() or sample).utilisation == 0.75)


def test_the_page_that_the_user_names_counts(page: tuple[str, dict[str, str]]) -> None:
    url, shown = page
    shown["/gpu"] = DCGM
    gauge = open_prometheus([Endpoint(url, "m", "openai", None, metrics_url=f"{url}/gpu")])
    assert gauge is not None
    assert eventually(gauge.read).utilisation == pytest.approx(0.7)
