"""What the report draws and says is worked out in plain functions: thinned lines, places, numbers in words."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.report.charts import lay_out, thin
from jobs.report.wording import compact, duration, short_url
from tests.jobs.report.recorded import A


def test_thinning_keeps_means_and_extremes() -> None:
    t = np.arange(1000) / 2
    y = np.where(np.arange(1000) == 321, 90.0, np.arange(1000) % 2)
    thinned = thin(0, t, y, 25.0, lambda part: float(part.mean()))
    assert len(thinned.t) == 20
    assert thinned.high.max() == 90.0
    assert thinned.low.max() == 0.0
    assert thinned.y.mean() == pytest.approx(y.mean())
    assert (np.diff(thinned.t) == 25.0).all()


def test_thinning_leaves_out_what_is_not_known() -> None:
    t = np.arange(100.0)
    thinned = thin(0, t, np.where(t < 50, np.nan, 1.0), 10.0, lambda part: float(part.mean()))
    assert (len(thinned.t), thinned.t[0]) == (5, 54.5)
    assert len(thin(0, t, np.full(100, np.nan), 10.0, lambda part: float(part.mean())).t) == 0


@pytest.mark.parametrize("seconds", [[0.0], [0.5], [10.0, 0.0, 3600.0], [1.0] * 20, [86400.0 * 30, 1.0]])
def test_stretches_fill_the_width_in_order(seconds: list[float]) -> None:
    axis = lay_out([""] * len(seconds), seconds)
    edges = list(axis.edges[~np.isnan(axis.edges)])
    assert edges == sorted(edges)
    assert len(set(edges)) == len(edges) == 2 * len(seconds)
    assert (edges[0], edges[-1]) == (0, axis.whole)


def test_durations_in_words() -> None:
    said: dict[float, str] = {0: "0 s", 0.5: "0.5 s", 4.24: "4.2 s", 59.94: "59.9 s", 59.97: "1 min", 60: "1 min"}
    said |= {90: "1 min 30 s", 3600: "1 h", 5400: "1 h 30 min", 86400: "1 d", 108000: "1 d 6 h"}
    assert {seconds: duration(seconds) for seconds in said} == said


def test_compact_numbers() -> None:
    said = {0: "0", 0.25: "0.25", 950: "950", 999.4: "999", 999.6: "1k", 1200: "1.2k", 36_000: "36k", 1.5e6: "1.5M"}
    assert {number: compact(number) for number in said} == said


def test_short_urls() -> None:
    said = {A: "gpu-a:8000", "https://h/embed/": "h/embed", "http://[::1]:80/v1/": "[::1]:80"}
    assert {url: short_url(url) for url in said} == said
