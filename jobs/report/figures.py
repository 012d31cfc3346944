"""Which time lines the report has, and which endpoints are drawn in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from jobs.report.charts import Axis, Curve, Line, Numbers, chart, lay_out, thin
from jobs.report.timeline import Series, Stretch, Timeline
from jobs.report.wording import percent

MOST_LINES = 8  # as many colours can be told apart

_Points = tuple[Numbers, Numbers]  # t and y
_Middle = Callable[[Numbers], float]  # what stands for many: the usual value of a setting, the mean of a rate

_POINTS, _ALL_POINTS = 300, 1200  # of a line, and of all lines of a chart: they bound the size of the page
_FEW = 3  # lines that leave room for more in their chart
_LUMP_S = 4.0  # rows come a request at a time, so a rate over less is noise
_WHOLE = "whole"  # the class of a line that stands for all endpoints


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its caption; `svg` is None when there is only something to say."""

    title: str
    note: str
    svg: Markup | None


def looks(timeline: Timeline) -> dict[str, str]:
    """The endpoints that are drawn, the busiest ones if there are many, and the class of each one's colour."""
    rows: dict[str, float] = {}
    for stretch in reversed(timeline.stretches):
        for url, series in stretch.series.items():
            rows[url] = rows.get(url, 0.0) + float(series.rows_per_s.sum())
    busiest = sorted(rows, key=lambda url: -rows[url])[:MOST_LINES]
    return {url: f"s{place}" for place, url in enumerate(url for url in rows if url in busiest)}


def figures(timeline: Timeline, looks: dict[str, str]) -> tuple[Figure, ...]:
    """What is drawn, from top to bottom; empty when nothing was recorded."""
    stretches = timeline.stretches
    if not stretches:
        return ()
    axis = lay_out([each.started for each in stretches], [each.seconds for each in stretches])
    sampled = _Sampled(stretches, looks, _width_s(stretches, len(looks)))
    smooth_s = min(_LUMP_S, sum(each.seconds for each in stretches) / 10)
    return (
        *_rows(axis, replace(sampled, width_s=max(sampled.width_s, smooth_s))),
        _requests(axis, sampled),
        _batch(axis, sampled, "batch_rows", "Texts in one request"),
        _batch(axis, sampled, "batch_tokens", "Tokens in one request"),
        _gpu(axis, sampled, timeline.gpu_source),
        *_latency(axis, sampled),
    )


def _width_s(stretches: Sequence[Stretch], lines: int) -> float:
    """Seconds that one drawn point stands for; 0 when there is room for all."""
    room = max(60, min(_POINTS, _ALL_POINTS // lines))
    points = sum(max(len(series.t) for series in stretch.series.values()) for stretch in stretches)
    return sum(stretch.seconds for stretch in stretches) / room if points > room else 0.0


@dataclass(frozen=True, slots=True)
class _Sampled:
    """The stretches as few enough points: `width_s` seconds each."""

    stretches: tuple[Stretch, ...]
    looks: dict[str, str]
    width_s: float

    def each(self, column: str, middle: _Middle, *, stepped: bool = False, band: bool = False) -> list[Line]:
        """A line for each endpoint."""
        band = band and len(self.looks) <= _FEW
        lines = []
        for url, colour in self.looks.items():
            curves = self.curves((_column(each.series.get(url), column) for each in self.stretches), middle)
            lines.append(Line(colour, curves, stepped=stepped, band=band))
        return lines

    @property
    def turns(self) -> list[Numbers]:
        """When a setting moved, in each stretch."""
        return [stretch.turns for stretch in self.stretches]

    def curves(self, per_stretch: Iterable[_Points | None], middle: _Middle) -> tuple[Curve, ...]:
        numbered = enumerate(per_stretch)
        return tuple(thin(index, *points, self.width_s, middle) for index, points in numbered if points)


def _rows(axis: Axis, sampled: _Sampled) -> tuple[Figure, ...]:
    """The sum goes into the same chart as long as it leaves room there for the endpoints."""
    title = "Rows per second"
    lines = sampled.each("rows_per_s", _mean)
    failed = [curve for curve in sampled.curves(map(_failures, sampled.stretches), _mean) if len(curve.t)]
    note = "red ticks: requests failed" if failed else ""
    if max(len(stretch.series) for stretch in sampled.stretches) == 1:
        return (Figure(title, note, chart(axis, lines, title, marks=failed)),)
    sums = (_sum(each, "rows_per_s") for each in sampled.stretches)
    whole = Line(_WHOLE, sampled.curves(sums, _mean))
    if len(lines) <= _FEW:
        both = "; ".join(filter(None, ["grey: all endpoints together", note]))
        return (Figure(title, both, chart(axis, [*lines, whole], title, marks=failed)),)
    together, apart = f"{title}, all endpoints together", f"{title} of each endpoint"
    return (
        Figure(together, note, chart(axis, [whole], together, marks=failed)),
        Figure(apart, "", chart(axis, lines, apart)),
    )


def _requests(axis: Axis, sampled: _Sampled) -> Figure:
    limits = [replace(line, look=f"{line.look} dashed") for line in sampled.each("limit", _median, stepped=True)]
    title = "Requests in flight"
    svg = chart(axis, [*sampled.each("inflight", _median, band=True), *limits], title, turns=sampled.turns)
    moved = "; ▾ it changed a setting" if any(len(each) for each in sampled.turns) else ""
    return Figure(title, f"dashed: the limit that the driver set{moved}", svg)


def _batch(axis: Axis, sampled: _Sampled, column: str, title: str) -> Figure:
    """Endpoints often agree here, so each line is drawn wider than those over it."""
    lines = sampled.each(column, _median, stepped=True)
    wider = [
        replace(line, look=f"{line.look} w{above if len(lines) <= _FEW else 0}")
        for above, line in enumerate(reversed(lines))
    ]
    svg = chart(axis, wider[::-1], title, turns=sampled.turns)
    return Figure(title, "the most that the driver allowed", svg)


def _gpu(axis: Axis, sampled: _Sampled, source: str | None) -> Figure:
    title = "GPU utilisation"
    if source is None:
        return Figure(title, "no GPU was seen", None)
    lines = sampled.each("gpu", _mean, band=True)
    if all(_shared_gpu(stretch) for stretch in sampled.stretches):
        first = (_column(next(iter(each.series.values())), "gpu") for each in sampled.stretches)
        lines = [Line(_WHOLE if len(lines) > 1 else "s0", sampled.curves(first, _mean), band=True)]
    return Figure(title, f"read by {source}", chart(axis, lines, title, show=percent, top=1.0))


def _latency(axis: Axis, sampled: _Sampled) -> Iterator[Figure]:
    """Nothing where no request ended."""
    usual = sampled.each("p50_ms", _median)
    slowest = [replace(line, look=f"{line.look} dashed") for line in sampled.each("p99_ms", _median)]
    if any(len(curve.t) for line in usual for curve in line.curves):
        title = "Latency in ms"
        yield Figure(title, "of the requests that ended, p50; dashed: p99", chart(axis, [*usual, *slowest], title))


def _column(series: Series | None, name: str) -> _Points | None:
    return (series.t, getattr(series, name)) if series else None


def _sum(stretch: Stretch, name: str) -> _Points:
    """Over the endpoints: they tick together, but a torn last line can cost one of them a tick."""
    ticks = min(len(series.t) for series in stretch.series.values())
    several = [getattr(series, name)[:ticks] for series in stretch.series.values()]
    return next(iter(stretch.series.values())).t[:ticks], np.sum(several, axis=0)


def _failures(stretch: Stretch) -> _Points:
    t, errors = _sum(stretch, "errors")
    return t[errors > 0], errors[errors > 0]


def _shared_gpu(stretch: Stretch) -> bool:
    """Whether all endpoints were given the same reading, as they are when they share the GPUs."""
    first, *others = (series.gpu for series in stretch.series.values())
    ticks = min(len(each) for each in (first, *others))
    return all(np.array_equal(first[:ticks], other[:ticks], equal_nan=True) for other in others)


def _mean(values: Numbers) -> float:
    return float(values.mean())


def _median(values: Numbers) -> float:
    return float(np.median(values))
