"""One page over HTTP: what was told last, when it is asked again, and who sees the key."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from actors.embedder.gauges import PAGE_GAUGES
from actors.embedder.gauges.reading import watch as watch_module
from actors.embedder.gauges.reading.watch import Watch
from tests.actors.embedder.metric_pages import Pages, serve_pages

PAGE = "/metrics"
SOON_S, LATER_S = 1.0, 30.0
BOTH = "nv_gpu_utilization 0.5\nnv_inference_pending_request_count 3\n"


@pytest.fixture
def pages() -> Iterator[Pages]:
    with serve_pages() as served:
        yield served


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `watch` is told."""
    now = [1000.0]
    monkeypatch.setattr(watch_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def watch_of(pages: Pages, key_env: str | None = None, *, named: bool = False) -> Watch:
    return Watch(pages.url + PAGE, key_env, ["m", "n"], PAGE_GAUGES, named=named)


def utilisation(watch: Watch) -> float | None:
    told = watch.gpu()
    return told[0].utilisation if told else None


def test_one_page_is_fetched_once_for_all_that_it_tells(pages: Pages) -> None:
    pages.shown[PAGE] = 200, BOTH
    watch = watch_of(pages)
    assert (watch.gpu(), watch.queue("m")) == (None, None)
    assert watch.look() == SOON_S
    gpu, queue = watch.gpu(), watch.queue("m")
    assert gpu is not None
    assert queue is not None
    assert (gpu[0].utilisation, gpu[0].source) == (0.5, "triton")
    assert (queue.waiting, queue.running, queue.source) == (3, None, "triton")
    assert watch.queue("n") is not None
    assert watch.queue("o") is None
    assert pages.times(PAGE) == 1


def test_what_it_tells_is_followed(pages: Pages) -> None:
    pages.shown[PAGE] = 200, BOTH
    watch = watch_of(pages)
    watch.look()
    pages.shown[PAGE] = 200, BOTH.replace("0.5", "0.75")
    assert watch.look() == SOON_S
    assert utilisation(watch) == 0.75


@pytest.mark.parametrize(
    ("status", "text", "named", "after_s"),
    [
        (200, "<html>", False, math.inf),
        (404, BOTH, False, math.inf),
        (401, BOTH, False, math.inf),
        (302, BOTH, False, math.inf),
        (501, "", False, math.inf),  # llama.cpp without --metrics
        (404, BOTH, True, LATER_S),
        (200, "", True, LATER_S),
        (503, BOTH, False, LATER_S),
        (429, "", False, LATER_S),
    ],
)
def test_a_page_that_tells_nothing(pages: Pages, status: int, text: str, named: bool, after_s: float) -> None:
    pages.shown[PAGE] = status, text
    watch = watch_of(pages, named=named)
    assert watch.look() == after_s
    assert (watch.gpu(), watch.queue("m")) == (None, None)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/metrics", "nonsense", "http://[::1", "http://", "gopher://h/", ""]
)
def test_nobody_there(url: str) -> None:
    watch = Watch(url, None, ["m"], PAGE_GAUGES, named=False)
    assert watch.look() == LATER_S
    assert watch.gpu() is None
    watch.close()


def test_a_page_that_was_there_once_is_asked_again(pages: Pages, clock: list[float]) -> None:
    pages.shown[PAGE] = 200, BOTH
    watch = watch_of(pages)
    watch.look()
    pages.shown[PAGE] = 404, ""
    assert watch.look() == LATER_S
    assert utilisation(watch) == 0.5
    clock[0] += 11
    assert (watch.gpu(), watch.queue("m")) == (None, None)
    pages.shown[PAGE] = 200, BOTH
    assert watch.look() == SOON_S
    assert utilisation(watch) == 0.5


def test_the_ages_grow_until_the_next_look(pages: Pages, clock: list[float]) -> None:
    watch = watch_of(pages)
    for share in (0.5, 0.6, 0.7):
        pages.shown[PAGE] = 200, BOTH.replace("0.5", str(share))
        clock[0] += 1
        watch.look()
    clock[0] += 3
    gpu, queue = watch.gpu(), watch.queue("m")
    assert gpu is not None
    assert queue is not None
    assert (gpu[0].age_s, gpu[1], queue.age_s) == (3.5, False, 3.0)


def test_an_exporter_that_is_slow_is_known_to_be(pages: Pages, clock: list[float]) -> None:
    watch, ages = watch_of(pages), []
    for second in range(70):
        energy = second // 30
        page = f'DCGM_FI_DEV_GPU_UTIL{{gpu="0"}} 100\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0"}} {energy}\n'
        pages.shown[PAGE] = 200, page
        clock[0] += 1
        watch.look()
        told = watch.gpu()
        assert told is not None
        assert told[1], "slow"
        ages.append(told[0].age_s)
    assert ages[:30] == [30.0] * 30
    assert ages[30:60] == [0.5 + second for second in range(30)]
    assert ages[60] == 0.5


def test_the_key_goes_where_it_is_named_and_is_read_anew(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.shown[PAGE] = 200, BOTH
    monkeypatch.delenv("SOME_KEY", raising=False)
    watch, without = watch_of(pages, "SOME_KEY"), watch_of(pages)
    watch.look()
    for key in ("sk-1", " sk-2\n", "sk-ü", "sk\x07"):
        monkeypatch.setenv("SOME_KEY", key)
        assert watch.look() == SOON_S
    without.look()
    assert [key for _, key in pages.asked] == [None, "Bearer sk-1", "Bearer sk-2", None, None, None]


def test_a_page_that_leads_elsewhere_is_not_followed(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    with serve_pages() as elsewhere:
        elsewhere.shown["/taken"] = 200, BOTH
        pages.shown[PAGE], pages.to = (302, ""), f"{elsewhere.url}/taken"
        watch = watch_of(pages, "SOME_KEY")
        watch.look()
        assert elsewhere.asked == []
    assert watch.gpu() is None


def test_no_page_is_read_for_ever(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_MOST_BYTES", 1000)
    pages.shown[PAGE] = 200, BOTH + "x 1\n" * 1000
    watch = watch_of(pages)
    assert watch.look() == LATER_S
    assert watch.gpu() is None
