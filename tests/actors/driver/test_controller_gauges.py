"""What the driver makes of the gauges that its embedders read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.driver.controller import RAMP_S, Controller
from actors.messages import GpuSample, QueueSample
from tests.actors.driver.reporting import (
    OTHER,
    URL,
    Steps,
    counted,
    report,
    sampled,
    work,
)


def test_the_gpu_is_the_mean_over_the_nodes_that_see_one() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    for now in (0.5, 1.0):
        controller.report(report("a", sampled(0.8, age_s=1.5), node="x"), now)
        controller.report(report("b", sampled(0.9, age_s=0.5), node="x"), now)
        controller.report(report("c", sampled(0.3, age_s=2.0), node="y"), now)
        controller.report(report("d", counted(), node="z"), now)
        lines = controller.tick(now)
    (line,) = lines
    assert policy.seen[-1].gpu == GpuSample((0.9 + 0.3) / 2, "nvml", 2.0)
    assert (line["gpu_util"], line["gpu_source"], line["gpu_age_s"]) == (0.6, "nvml", 2.0)


def test_each_endpoint_is_told_of_its_own_gpus() -> None:
    ones, others, thirds = Steps(), Steps(), Steps()
    controller = Controller({URL: ones, OTHER: others, "http://three": thirds})
    several = sampled(0.9), sampled(0.5, OTHER, "dcgm", 12.0), counted("http://three")
    for now in (0.5, 1.0):
        controller.report(report("a", *several), now)
        lines = controller.tick(now)
    assert ones.seen[-1].gpu == GpuSample(0.9, "nvml", 0.5)
    assert others.seen[-1].gpu == GpuSample(0.5, "dcgm", 12.0)
    assert thirds.seen[-1].gpu is None, "another machine's GPU says nothing of it"
    assert [line["gpu_source"] for line in lines] == ["nvml", "dcgm", None]
    status = controller.status()
    assert status.gpu == GpuSample(0.7, "dcgm+nvml", 12.0)


def test_a_sample_grows_older_while_its_embedder_is_silent() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    controller.report(report("a", sampled(0.9, age_s=0.5)), 1.0)
    for now in (1.0, 3.0):
        controller.tick(now)
    assert policy.seen[-1].gpu == GpuSample(0.9, "nvml", 2.5)


def test_what_waits_at_a_server_is_what_was_read_last() -> None:
    controller = Controller({URL: Steps(), OTHER: Steps()})
    for now in (0.5, 1.0):
        controller.report(report("a", counted(queue=QueueSample(7, 4, "vllm", 0.9))), now)
        controller.report(report("b", counted(queue=QueueSample(5, None, "tei", 0.1))), now)
        controller.report(report("c", counted()), now)
        lines = controller.tick(now)
    assert [(line["queue"], line["queue_running"]) for line in lines] == [(5, None), (None, None)]
    controller.report(report("b", leaving=True), 1.1)
    assert [(line["queue"], line["queue_running"]) for line in controller.tick(1.2)] == [(7, 4), (None, None)]


def test_what_embedders_know_of_their_own_texts_counts_together_where_nobody_can_look() -> None:
    controller = Controller({URL: Steps()})
    controller.report(report("a", counted(queue=QueueSample(7, 4, "tei-headers", 0.9, own=True))), 1.0)
    controller.report(report("b", counted(queue=QueueSample(5, 1, "tei-headers", 0.1, own=True))), 1.0)
    for now, queue in ((1.0, (12, 5)), (1.5, (40, 3))):
        controller.tick(now - 0.1)
        (line,) = controller.tick(now)
        assert (line["queue"], line["queue_running"]) == queue
        controller.report(report("c", counted(queue=QueueSample(40, 3, "tei", 0.5))), now)


def test_the_steady_state_of_the_gpu_begins_after_the_ramp() -> None:
    controller = Controller({URL: Steps()})
    for second in range(1, 60):
        answers = max(0, second - 5)  # the first at 6 s
        busy = 1.0 if second > 6 + RAMP_S else 0.1
        controller.report(report("a", replace(sampled(busy), answers=answers)), second)
        controller.tick(second)
    status = controller.status()
    assert (status.gpu_mean, status.gpu_p10, status.gpu_source) == (1.0, 1.0, "nvml")


def test_a_sample_that_is_older_than_the_steady_state_is_not_of_it() -> None:
    controller = Controller({URL: Steps()})
    for second in range(1, 60):
        aged = sampled(0.1, age_s=second - 5.0) if second < 40 else sampled(0.8, age_s=second - 39.0)
        controller.report(report("a", replace(aged, answers=second)), second)
        controller.tick(second)
    assert controller.status().gpu_mean == pytest.approx(0.8)


def test_where_the_gpu_was_read_is_still_known_when_all_have_gone() -> None:
    controller = Controller({URL: Steps()})
    for now in (0.5, 1.0):
        controller.report(report("a", sampled(0.9)), now)
        controller.tick(now)
    controller.report(report("a", sampled(0.9), leaving=True), 1.1)
    controller.tick(1.2)
    assert (controller.status().gpu, controller.status().gpu_source) == (None, "nvml")


def test_no_gpu_anywhere_is_none() -> None:
    controller = Controller({URL: Steps()})
    for second in range(1, 60):
        controller.report(report("a", work(second)), second)
        (line,) = controller.tick(second + 0.5) or [{}]
    status = controller.status()
    assert (status.gpu, status.gpu_mean, status.gpu_p10) == (None, None, None)
    assert (line["gpu_util"], line["gpu_source"]) == (None, None)
