"""The second half of a run: what it delivered once it was tuned, from its telemetry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.bench.measure import second_half
from jobs.bench.results import Steady
from jobs.report.timeline import read_timeline
from tests.jobs.bench.made import timeline
from tests.jobs.report.recorded import A, B, record, tick


def half(folder: Path, lines: list[dict[str, Any]]) -> Steady | None:
    record(folder, lines)
    return second_half(read_timeline(folder))


def test_only_the_second_half_counts(tmp_path: Path) -> None:
    lines = [
        tick(t / 2, A, rows_per_s=100.0, gpu_util=0.1)
        if t <= 20
        else tick(t / 2, A, rows_per_s=900.0, gpu_util=0.9)
        for t in range(1, 41)
    ]
    found = half(tmp_path, lines)
    assert found == Steady(begin_s=10.5, rows_per_s=900.0, gpu_util=0.9, p50_ms=51.2, p99_ms=120.5)


def test_waiting_before_and_after_the_answers_is_not_in_it(tmp_path: Path) -> None:
    lines = [tick(t / 2, A, rows_per_s=400.0 if 20 < t <= 60 else 0.0) for t in range(1, 101)]
    found = half(tmp_path, lines)
    assert found
    assert (found.begin_s, found.rows_per_s) == (20.5, 400.0)


def test_endpoints_add_up_and_their_gpus_do_not(tmp_path: Path) -> None:
    lines = [
        tick(t / 2, url, rows_per_s=rate, gpu_util=gpu)
        for t in range(1, 41)
        for url, rate, gpu in ((A, 100.0, 0.2), (B, 300.0, 0.4))
    ]
    found = half(tmp_path, lines)
    assert found
    assert (found.rows_per_s, found.gpu_util) == (400.0, 0.3)


def test_uneven_ticks_count_by_their_length(tmp_path: Path) -> None:
    times = [0.5 * t for t in range(1, 21)] + [10.0 + 2.0 * t for t in range(1, 11)]
    found = half(tmp_path, [tick(t, A, rows_per_s=100.0 if t < 29 else 400.0) for t in times])
    assert found
    assert 7 <= found.begin_s <= 12
    assert found.rows_per_s == pytest.approx((100 * (28 - found.begin_s) + 400 * 2) / (30 - found.begin_s), abs=0.1)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0])
def test_too_short_a_run_has_none(seconds: float) -> None:
    assert second_half(timeline(seconds)) is None


def test_what_nobody_saw_is_not_known() -> None:
    found = second_half(timeline(20, gpu_util=None, gpu_source=None, p50_ms=None, p99_ms=None))
    assert found
    assert (found.gpu_util, found.p50_ms, found.p99_ms) == (None, None, None)
    assert second_half(timeline(20, rows_per_s=0.0)) is None
