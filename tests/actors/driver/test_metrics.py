"""What Prometheus is told: names it likes, values that are right, and nothing that could stop a job."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from actors.driver.metrics import BOUND_BY, METRICS, RayMetrics, Sample, samples
from actors.messages import DriverStatus, EndpointStatus, Verdict

URL, OTHER = "http://one", "http://two"
FULL = Verdict("server", "GPU 97% busy: the server is the limit", "add a GPU and an --endpoint")


def endpoint(url: str, **changes: Any) -> EndpointStatus:
    errors = {"backend": 2, "overloaded": 1}
    return replace(
        EndpointStatus(url, 8, 7, 64, 8192, 20.0, 1200.0, "hold", 600, 500, 9000, 12, 3, errors), **changes
    )


def line(url: str, **changes: Any) -> dict[str, Any]:
    return {"endpoint": url, "gpu_util": 0.97, "queue": 40, "p50_ms": 51.2, "p99_ms": 120.0} | changes


STATUS = DriverStatus(
    (endpoint(URL), endpoint(OTHER, rows=7, errors={})), 60.0, 2, None, None, None, 300, 12.5, FULL, FULL, {}
)


def told(status: DriverStatus, *lines: dict[str, Any]) -> dict[tuple[str, ...], float]:
    return {(each.name, *each.tags.values()): each.value for each in samples(status, lines)}


def test_the_names_are_as_prometheus_wants_them() -> None:
    assert len(METRICS) > 10
    for metric in METRICS.values():
        assert re.fullmatch(r"rayembed(_[a-z]+)+", metric.name)
        assert not metric.name.endswith("_total"), "Ray appends that"
        assert metric.exported.endswith("_total") is metric.counts
        assert not {"ms", "percent", "pct", "util"} & set(metric.name.split("_")), "base units only"
        assert metric.about.endswith(".")


def test_each_sample_is_of_a_metric_with_its_tags() -> None:
    found = samples(STATUS, [line(URL), line(OTHER)])
    assert {each.name for each in found} == METRICS.keys()
    for each in found:
        assert tuple(each.tags) == METRICS[each.name].tags


def test_values() -> None:
    found = told(STATUS, line(URL), line(OTHER, gpu_util=None, queue=None, p50_ms=None, p99_ms=None))
    assert found["rayembed_rows", URL] == 600
    assert found["rayembed_rows", OTHER] == 7
    assert found["rayembed_errors", URL, "backend"] == 2
    assert found["rayembed_requests_in_flight", URL] == 7
    assert found["rayembed_requests_in_flight_limit", URL] == 8
    assert found["rayembed_request_latency_seconds", URL, "0.5"] == pytest.approx(0.0512)
    assert found["rayembed_request_latency_seconds", URL, "0.99"] == pytest.approx(0.12)
    assert found["rayembed_gpu_utilization_ratio", URL] == 0.97
    assert found["rayembed_server_queue_inputs", URL] == 40
    assert found["rayembed_client_cpu_seconds",] == 12.5
    unknown = {"rayembed_gpu_utilization_ratio", "rayembed_server_queue_inputs", "rayembed_request_latency_seconds"}
    assert not [key for key in found if key[0] in unknown and key[1] == OTHER], "what is not known is not told"


def test_one_thing_holds_the_job_back() -> None:
    held = {by: told(STATUS)["rayembed_bound_by", by] for by in BOUND_BY}
    assert held == {"server": 1, "client": 0, "input": 0, "output": 0, "rate-limit": 0}
    assert not any(told(replace(STATUS, recently=None))["rayembed_bound_by", by] for by in BOUND_BY)


class _Made:
    """Ray's metrics, as far as they are used; a counter takes only what is new."""

    told: dict[tuple[str, ...], float]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tag_keys = name, tag_keys

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.tag_keys
        type(self).told[self.name, *tags.values()] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        key = (self.name, *tags.values())
        type(self).told[key] = type(self).told.get(key, 0.0) + value


def test_a_counter_is_told_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    _Made.told = {}
    monkeypatch.setattr("ray.util.metrics.Gauge", _Made)
    monkeypatch.setattr("ray.util.metrics.Counter", _Made)
    metrics = RayMetrics("/out")
    for rows in (0, 5, 5, 12):
        metrics.publish([Sample("rayembed_rows", {"endpoint": URL}, rows), Sample("rayembed_embedders", {}, rows)])
    assert _Made.told == {("rayembed_rows", "/out", URL): 12, ("rayembed_embedders", "/out"): 12}


def test_whatever_is_wrong_with_rays_metrics_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def broken(*_: object, **__: object) -> None:
        asked.append(1)
        raise RuntimeError("no agent")

    monkeypatch.setattr("ray.util.metrics.Gauge", broken)
    metrics = RayMetrics("/out")
    for _ in range(3):
        metrics.publish([Sample("rayembed_embedders", {}, 1)])
    assert len(asked) == 1
