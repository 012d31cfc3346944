"""All gauges of an embedder together: what counts for which endpoint, and that nothing waits for them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from actors.embedder.gauges import PAGE_GAUGES, look, open_gauge
from actors.embedder.gauges.base import CardGauge
from actors.embedder.gauges.reading import machine as machine_module
from actors.embedder.gauges.reading import poller
from actors.embedder.gauges.reading.poller import Poller
from actors.embedder.gauges.reading.together import Gauges, Readable
from actors.messages import Endpoint, GpuSample
from tests.actors.embedder.metric_pages import Pages, serve_pages
from tests.conftest import eventually

TRITON = "nv_gpu_utilization 0.5\n"


@pytest.fixture
def pages() -> Iterator[Pages]:
    with serve_pages() as served:
        yield served


@pytest.fixture
def other() -> Iterator[Pages]:
    with serve_pages() as served:
        yield served


@pytest.fixture
def gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML says 0.25 for every endpoint."""
    monkeypatch.setattr(machine_module.Machine, "gpu", lambda self, url: GpuSample(0.25, "nvml", 0.5))


def endpoint(url: str, metrics_url: str | None = None, **fields: Any) -> Endpoint:
    return Endpoint(
        url, **{"model": "m", "dialect": "openai", "api_key_env": None, "metrics_url": metrics_url} | fields
    )


def gauges_of(*endpoints: Endpoint) -> Gauges:
    """Not started: they are told when to look."""
    cards: tuple[CardGauge, ...] = ()
    return Gauges(endpoints, cards, PAGE_GAUGES)


def after(gauges: Gauges, looks: int = 1) -> Gauges:
    for _ in range(looks):
        for source in gauges._sources():
            source.look()
    return gauges


def gpu(gauges: Gauges, url: str) -> tuple[float, str] | None:
    sample = gauges.gpu(url)
    return (sample.utilisation, sample.source) if sample else None


def test_each_endpoint_has_what_its_own_page_tells(pages: Pages, other: Pages) -> None:
    pages.shown["/metrics"] = 200, TRITON + "nv_inference_pending_request_count 3\n"
    other.shown["/metrics"] = 200, "te_queue_size 5\n"
    one, two = f"{pages.url}/v1", other.url
    gauges = after(gauges_of(endpoint(one), endpoint(two)))
    assert (gpu(gauges, one), gpu(gauges, two)) == ((0.5, "triton"), None)
    queues = [gauges.queue(one), gauges.queue(two)]
    assert [(each.waiting, each.source) for each in queues if each] == [(3, "triton"), (5, "tei")]


def test_models_of_one_server_have_their_own_queues(pages: Pages) -> None:
    model = '{{"id":"{}","stats":{{"queue_absolute":{}}}}}'
    pages.shown["/v1/models"] = 200, f'{{"data":[{model.format("a", 1)},{model.format("b", 2)}]}}'
    one, two = endpoint(pages.url, model="a"), endpoint(f"{pages.url}/v1", model="b")
    gauges = after(gauges_of(one, two))
    assert [each.waiting for url in (one.url, two.url) if (each := gauges.queue(url))] == [1, 2]
    assert pages.times("/v1/models") == 1, "one page, one request"


def test_the_page_that_the_user_names_counts_first_and_the_servers_own_for_its_queue(
    pages: Pages, other: Pages, gpu_here: None
) -> None:
    pages.shown["/metrics"] = 200, TRITON + "te_queue_size 5\n"
    other.shown["/gpu"] = 200, TRITON.replace("0.5", "0.9") + "te_queue_size 7\n"
    named = gauges_of(endpoint(pages.url, f"{other.url}/gpu"))
    for share in (0.7, 0.8, 0.9):
        other.shown["/gpu"] = 200, TRITON.replace("0.5", str(share)) + "te_queue_size 7\n"
        after(named)
    assert gpu(named, pages.url) == (0.9, "triton")
    queue = named.queue(pages.url)
    assert queue is not None
    assert queue.waiting == 5


def test_a_slow_exporter_gives_way_to_this_machines_gpus(pages: Pages, gpu_here: None) -> None:
    """It has not been refreshed yet: nobody knows how old it is."""
    pages.shown["/gpu"] = 200, 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 90\n'
    gauges = after(gauges_of(endpoint(pages.url, f"{pages.url}/gpu")), looks=3)
    assert gpu(gauges, pages.url) == (0.25, "nvml")


def test_a_slow_exporter_is_better_than_nothing(pages: Pages) -> None:
    pages.shown["/gpu"] = 200, 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 90\n'
    gauges = after(gauges_of(endpoint(pages.url, f"{pages.url}/gpu")))
    sample = gauges.gpu(pages.url)
    assert sample is not None
    assert sample.utilisation == 0.9
    assert sample.age_s >= 30


def test_this_machines_gpus_count_before_a_page_that_was_found(pages: Pages, gpu_here: None) -> None:
    pages.shown["/metrics"] = 200, TRITON
    assert gpu(after(gauges_of(endpoint(pages.url))), pages.url) == (0.25, "nvml")


def test_only_the_servers_own_pages_see_its_key(
    pages: Pages, other: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    after(gauges_of(endpoint(pages.url, f"{other.url}/gpu", api_key_env="SOME_KEY")))
    assert other.asked == [("/gpu", None)]
    assert dict(pages.asked) == dict.fromkeys(["/metrics", "/v1/models", "/models"], "Bearer sk-1")


def test_a_page_of_two_endpoints_is_asked_with_each_ones_own_key(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", "a")
    monkeypatch.setenv("KEY_B", "b")
    after(gauges_of(endpoint(pages.url, api_key_env="KEY_A"), endpoint(f"{pages.url}/v1", api_key_env="KEY_B")))
    assert {key for path, key in pages.asked if path == "/metrics"} == {"Bearer a", "Bearer b"}


def threads() -> int:
    return sum(thread.name == "gauge" for thread in threading.enumerate())


def test_opened_it_reads_in_the_background_until_closed(pages: Pages) -> None:
    pages.shown["/metrics"] = 200, TRITON
    before = threads()
    gauge = open_gauge([endpoint(pages.url)])
    assert gauge is not None
    assert eventually(lambda: gauge.gpu(pages.url)).utilisation == 0.5
    pages.shown["/metrics"] = 200, TRITON.replace("0.5", "0.75")
    assert eventually(lambda: (gauge.gpu(pages.url) or pytest.fail("lost")).utilisation == 0.75)
    gauge.close()
    eventually(lambda: threads() <= before)


def test_a_page_that_does_not_come_holds_up_nothing(pages: Pages, other: Pages) -> None:
    pages.silent.add("/metrics")
    other.shown["/metrics"] = 200, TRITON
    gauge = open_gauge([endpoint(pages.url), endpoint(other.url)])
    assert gauge is not None
    assert gauge.gpu(pages.url) is None
    assert eventually(lambda: gauge.gpu(other.url)).utilisation == 0.5
    assert gauge.gpu(pages.url) is None
    gauge.close()


def test_no_gauge_is_a_normal_state(pages: Pages) -> None:
    assert open_gauge([]) is None
    before = threads()
    for url in ("http://127.0.0.1:1", "http://[::1", "nonsense", "", pages.url):
        gauge = open_gauge([endpoint(url, "nonsense")])
        assert gauge is not None
        assert (gauge.gpu(url), gauge.queue(url)) == (None, None)
        gauge.close()
    eventually(lambda: threads() <= before)


class Faulty:
    """A driver with a fault that nobody has seen yet, twice."""

    def __init__(self) -> None:
        self.looks, self.closed = 0, False

    def look(self) -> float:
        self.looks += 1
        if self.looks <= 2:
            raise OSError
        return math.inf

    def close(self) -> None:
        self.closed = True


def test_a_source_with_a_fault_of_its_own_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "_AGAIN_S", 0.0)
    faulty = Faulty()
    Poller(faulty)
    eventually(lambda: faulty.closed)
    assert faulty.looks == 3


def test_a_look_at_sources_with_faults_tells_what_the_others_do(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module.Machine, "look", lambda _: 1 / 0)
    pages.shown["/metrics"] = 200, TRITON
    assert [each.value for each in look([endpoint(pages.url), endpoint("http://127.0.0.1:1")])] == [0.5]


def test_a_look_tells_all_that_can_be_read_and_where(pages: Pages, other: Pages, gpu_here: None) -> None:
    pages.shown["/metrics"] = 200, "te_queue_size 5\n"
    other.shown["/gpu"] = 200, 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 90\n'
    before = threads()
    assert look([endpoint(pages.url, f"{other.url}/gpu"), endpoint("http://127.0.0.1:1")]) == [
        Readable(pages.url, "GPU utilisation", "nvml", "NVML, this machine", 0.25),
        Readable(pages.url, "GPU utilisation", "dcgm", f"{other.url}/gpu", 0.9),
        Readable(pages.url, "queue", "tei", f"{pages.url}/metrics", 5),
        Readable("http://127.0.0.1:1", "GPU utilisation", "nvml", "NVML, this machine", 0.25),
    ]
    assert threads() <= before
