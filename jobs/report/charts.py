"""Time lines as SVG: pure functions from numbers to markup. Colours and type are the page's, by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from jobs.report.wording import compact, duration

Numbers = npt.NDArray[np.float64]
Height = TypeVar("Height", float, Numbers)

WIDTH, HEIGHT = 900, 168
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 20, 22
FLOOR = HEIGHT - BOTTOM
_MOST_GAPS = 0.15  # of the width
_GAP = 12.0
_SILENT_S = 5.0  # a longer pause between two points is a hole in the line
_TURN_PX = 3.0  # half of a triangle's width
_TICK_PX, _LABEL_PX, _ZERO_PX, _START_PX = 110.0, 70.0, 45.0, 115.0  # room for texts

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_STEPS_S = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 5, 10, 20, 50, 100)),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one line within one stretch; `low` and `high` are the extremes that each point stands for."""

    stretch: int
    t: Numbers
    y: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart. `look` names classes of the page; `stepped`: its height holds up to the next point."""

    look: str
    curves: tuple[Curve, ...]
    stepped: bool = False
    band: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """Stretches of time side by side, to one scale: where each begins (px), its seconds, and px per second."""

    names: tuple[str, ...]
    begins: tuple[float, ...]
    seconds: tuple[float, ...]
    scale: float

    @property
    def step(self) -> float:
        """Seconds between two labels."""
        return next((step for step in _STEPS_S if step * self.scale >= _TICK_PX), _STEPS_S[-1])

    def end(self, stretch: int) -> float:
        return self.begins[stretch] + self.seconds[stretch] * self.scale


def lay_out(names: Sequence[str], seconds: Sequence[float]) -> Axis:
    """The axis of one stretch or more; the shortest still gets a hundredth of the width."""
    shortest = max(0.01 * sum(seconds), 0.1)
    lengths = [max(shortest, each) for each in seconds]
    plot = WIDTH - LEFT - RIGHT
    gap = min(_GAP, _MOST_GAPS * plot / len(lengths))
    scale = (plot - gap * (len(lengths) - 1)) / sum(lengths)
    begins = [LEFT + sum(lengths[:index]) * scale + index * gap for index in range(len(lengths))]
    return Axis(tuple(names), tuple(begins), tuple(lengths), scale)


def thin(stretch: int, t: Numbers, y: Numbers, width_s: float, middle: Callable[[Numbers], float]) -> Curve:
    """The points within each `width_s` seconds as one, at `middle` of them; where `y` is NaN there is nothing.

    `t` and `y` are float64[n], `t` in ascending order. A width of 0 keeps every point.
    """
    known = ~np.isnan(y)
    t, y = t[known], y[known]
    if width_s <= 0 or not len(t):
        return Curve(stretch, t, y, y, y)
    starts = np.flatnonzero(np.diff(t // width_s, prepend=-1))
    if len(starts) > 1 and 2 * (len(t) - starts[-1]) < starts[-1] - starts[-2]:
        starts = starts[:-1]  # a few points at the end would look like a fall
    parts = np.split(y, starts[1:])
    return Curve(
        stretch,
        np.array([part.mean() for part in np.split(t, starts[1:])]),
        np.array([middle(part) for part in parts]),
        np.minimum.reduceat(y, starts),
        np.maximum.reduceat(y, starts),
    )


def chart(
    axis: Axis,
    lines: Sequence[Line],
    label: str,
    *,
    show: Callable[[float], str] = compact,
    top: float | None = None,
    marks: Sequence[Curve] = (),
    turns: Sequence[Numbers] = (),
) -> Markup:
    """An `<svg>` of `lines` over `axis`, from 0 to `top` or to what they need.

    `marks` are ticks at its foot; `turns` are times, float64[n] for each stretch, with a triangle at its head.
    """
    heights = _heights(lines, top)
    inside = [
        *_grid(axis, heights, show),
        *_times(axis),
        *(band for line in lines if line.band for band in _bands(axis, line, heights[-1])),
        *(path for line in lines for path in _paths(axis, line, heights[-1])),
        *(_ticks(axis, curve) for curve in marks),
        *(_triangles(axis, stretch, times) for stretch, times in enumerate(turns) if len(times)),
    ]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(inside)
    )


def _heights(lines: Sequence[Line], top: float | None) -> list[float]:
    """Round numbers from 0 to above all that is drawn."""
    if top is not None:
        return [top * quarter / 4 for quarter in range(5)]
    drawn = [curve.high if line.band else curve.y for line in lines for curve in line.curves if len(curve.t)]
    most = max((float(each.max()) for each in drawn), default=0.0) or 1.0
    rough = most / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in (1, 2, 2.5, 5, 10) if size * magnitude >= rough * 0.999)
    return [step * index for index in range(math.ceil(most / step - 1e-9) + 1)]


def _grid(axis: Axis, heights: Sequence[float], show: Callable[[float], str]) -> Iterator[Markup]:
    for height in heights:
        y = _y(height, heights[-1])
        runs = " ".join(f"M{begin:.1f} {y:.1f}H{axis.end(i):.1f}" for i, begin in enumerate(axis.begins))
        yield Markup('<path class="{}" d="{}"/>').format("grid" if height else "base", runs)
        yield Markup('<text class="y" x="{}" y="{:.1f}">{}</text>').format(LEFT - 8, y + 4, show(height))


def _times(axis: Axis) -> Iterator[Markup]:
    """Below, time from the start of each stretch; above, when each began, if there are several.

    Where there is no room for all labels, the longest stretches have theirs.
    """
    several = len(axis.begins) > 1
    below: list[float] = []
    above: list[float] = []
    for index in sorted(range(len(axis.begins)), key=lambda index: -axis.seconds[index]):
        begin = axis.begins[index]
        for place in range(int(axis.seconds[index] / axis.step + 1e-9) + 1):
            x = begin + place * axis.step * axis.scale
            if _claim(below, x, _LABEL_PX if place else _ZERO_PX):
                anchor = "end" if x > WIDTH - _LABEL_PX / 2 else "middle"
                said = duration(place * axis.step) if place else "0"
                yield Markup('<text class="{}" x="{:.1f}" y="{}">{}</text>').format(anchor, x, HEIGHT - 5, said)
        if several and begin < WIDTH - _START_PX and _claim(above, begin, _START_PX):
            yield Markup('<text class="start" x="{:.1f}" y="10">{}</text>').format(begin, axis.names[index])


def _claim(taken: list[float], x: float, room: float) -> bool:
    """Whether a label at `x` is `room` away from the others; it is one of them then."""
    free = all(abs(x - other) >= room for other in taken)
    if free:
        taken.append(x)
    return free


def _paths(axis: Axis, line: Line, top: float) -> Iterator[Markup]:
    whole = _staircase if line.stepped else _polyline
    for curve in line.curves:
        x, y = _x(axis, curve), _y(curve.y, top)
        pieces = " ".join((whole if len(piece) > 1 else _dash)(x[piece], y[piece]) for piece in _pieces(curve))
        if pieces:
            yield Markup('<path class="line {}" d="{}"/>').format(line.look, pieces)


def _bands(axis: Axis, line: Line, top: float) -> Iterator[Markup]:
    """What lies between the extremes, where the points are means of many."""
    for curve in line.curves:
        x, low, high = _x(axis, curve), _y(curve.low, top), _y(curve.high, top)
        around = [
            _polyline(np.append(x[piece], x[piece][::-1]), np.append(high[piece], low[piece][::-1])) + "Z"
            for piece in _pieces(curve)
            if (low[piece] != high[piece]).any()
        ]
        if around:
            yield Markup('<path class="band {}" d="{}"/>').format(line.look, " ".join(around))


def _ticks(axis: Axis, curve: Curve) -> Markup:
    marks = "".join(f"M{x:.1f} {FLOOR}v-9" for x in _x(axis, curve))
    return Markup('<path class="mark" d="{}"/>').format(marks)


def _triangles(axis: Axis, stretch: int, times: Numbers) -> Markup:
    """Those that would lie on each other are one."""
    x = axis.begins[stretch] + times * axis.scale
    places = np.unique(np.round(x / _TURN_PX)) * _TURN_PX
    drawn = "".join(f"M{place - _TURN_PX:.1f} {TOP - 6}h{2 * _TURN_PX:.0f}l-{_TURN_PX:.0f} 6z" for place in places)
    return Markup('<path class="turn" d="{}"/>').format(drawn)


def _pieces(curve: Curve) -> list[npt.NDArray[np.int64]]:
    """Indexes of the points that belong together: where nothing was recorded, no line is drawn."""
    between = np.diff(curve.t)
    pause = max(_SILENT_S, 3 * float(np.median(between))) if len(between) else _SILENT_S
    return [piece for piece in np.split(np.arange(len(curve.t)), np.flatnonzero(between > pause) + 1) if len(piece)]


def _polyline(x: Numbers, y: Numbers) -> str:
    return "M" + " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _dash(x: Numbers, y: Numbers) -> str:
    """A single point, wide enough to be seen."""
    return f"M{x[0] - 3:.1f},{y[0]:.1f}h6"


def _staircase(x: Numbers, y: Numbers) -> str:
    turns = np.flatnonzero(np.diff(y)) + 1
    return f"M{x[0]:.1f},{y[0]:.1f}" + "".join(f"H{x[i]:.1f}V{y[i]:.1f}" for i in turns) + f"H{x[-1]:.1f}"


def _x(axis: Axis, curve: Curve) -> Numbers:
    return axis.begins[curve.stretch] + curve.t * axis.scale


def _y(value: Height, top: float) -> Height:
    return FLOOR - value / top * (FLOOR - TOP)
