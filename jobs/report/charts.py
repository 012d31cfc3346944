"""Time lines: pure functions from numbers to markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from jobs.report.drawing import Sheet, picture, printable
from jobs.report.wording import compact, duration, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Numbers = npt.NDArray[np.float64]

SHEET = Sheet(width=900, height=174, left=46, right=8, top=26, bottom=22)
_GAP, _MOST_GAPS = 0.014, 0.15  # of the width: one, and all of them
_SILENT_S = 5.0  # a longer pause between two points is a hole in the line
_DASH_PX, _TURN_PX = 6.0, 6.0  # the widths of a point on its own, and of a triangle
_TICK_PX, _LABEL_PX, _ZERO_PX, _START_PX = 110.0, 70.0, 45.0, 115.0  # room for texts
_NAME = 18  # characters of a stretch's name

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
    """Stretches of time side by side, in seconds: where each begins and how long it is drawn, and all of it."""

    names: tuple[str, ...]
    begins: tuple[float, ...]
    seconds: tuple[float, ...]
    whole: float

    def px(self, px: float) -> float:
        """So many pixels, in seconds."""
        return px / SHEET.across * self.whole

    @property
    def step(self) -> float:
        """Seconds between two labels."""
        return next((step for step in _STEPS_S if step >= self.px(_TICK_PX)), _STEPS_S[-1])

    @property
    def edges(self) -> Numbers:
        """A line from end to end of each stretch: float64[3 * n], a NaN after each."""
        begins = np.array(self.begins)
        return np.column_stack((begins, begins + self.seconds, np.full_like(begins, np.nan))).ravel()


def lay_out(names: Sequence[str], seconds: Sequence[float]) -> Axis:
    """The axis of one stretch or more; the shortest still gets a hundredth of the width."""
    shortest = max(0.01 * sum(seconds), 0.1)
    lengths = [max(shortest, each) for each in seconds]
    gap = min(_GAP, _MOST_GAPS / len(lengths)) * sum(lengths)
    begins = [sum(lengths[:index]) + index * gap for index in range(len(lengths))]
    return Axis(tuple(names), tuple(begins), tuple(lengths), begins[-1] + lengths[-1])


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

    def draw(axes: Axes) -> None:
        _scales(axes, axis, _most(lines) if top is None else top, show)
        for line in lines:
            _line(axes, axis, line)
        for curve in marks:
            _ticks(axes, axis.begins[curve.stretch] + curve.t)
        if any(len(times) for times in turns):
            times = [begin + each for begin, each in zip(axis.begins, turns, strict=True)]
            _triangles(axes, axis, np.concatenate(times))

    return picture(SHEET, label, draw)


def _most(lines: Sequence[Line]) -> float:
    drawn = [curve.high if line.band else curve.y for line in lines for curve in line.curves if len(curve.t)]
    return max((float(each.max()) for each in drawn), default=0.0) or 1.0


def _scales(axes: Axes, axis: Axis, most: float, show: Callable[[float], str]) -> None:
    """Round numbers from 0 to above all that is drawn, each with a line; and the times."""
    from matplotlib.ticker import MaxNLocator

    heights = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0, most)
    axes.set_xlim(0, axis.whole)
    axes.set_ylim(0, heights[-1])
    axes.set_yticks(heights, [show(height) for height in heights])
    for height in heights:
        axes.plot(axis.edges, np.full(len(axis.edges), height), gid="grid" if height else "base", zorder=0)
    times = dict(_times(axis))
    axes.set_xticks(list(times), list(times.values()))
    for time, label in zip(times, axes.get_xticklabels(), strict=True):
        label.set_horizontalalignment("right" if time > axis.whole - axis.px(_LABEL_PX / 2) else "center")
    if len(axis.begins) > 1:
        for begin, name in _starts(axis):
            said = shortened(printable(name), _NAME)
            axes.text(begin, 1.12, said, transform=axes.get_xaxis_transform(), gid="start")


def _times(axis: Axis) -> Iterator[tuple[float, str]]:
    """From the start of each stretch. Where there is no room for all labels, the longest stretches have theirs."""
    taken: list[float] = []
    for index in _longest_first(axis):
        for place in range(int(axis.seconds[index] / axis.step + 1e-9) + 1):
            x = axis.begins[index] + place * axis.step
            if _claim(taken, x, axis.px(_LABEL_PX if place else _ZERO_PX)):
                yield x, duration(place * axis.step) if place else "0"


def _starts(axis: Axis) -> Iterator[tuple[float, str]]:
    """When the stretches began."""
    taken = [axis.whole]
    for index in _longest_first(axis):
        if _claim(taken, axis.begins[index], axis.px(_START_PX)):
            yield axis.begins[index], axis.names[index]


def _longest_first(axis: Axis) -> list[int]:
    return sorted(range(len(axis.begins)), key=lambda index: -axis.seconds[index])


def _claim(taken: list[float], x: float, room: float) -> bool:
    """Whether a label at `x` is `room` away from the others; it is one of them then."""
    free = all(abs(x - other) >= room for other in taken)
    if free:
        taken.append(x)
    return free


def _line(axes: Axes, axis: Axis, line: Line) -> None:
    """With a band between the extremes, where the points are means of many."""
    for curve in (curve for curve in line.curves if len(curve.t)):
        t, y, low, high = _pieces(axis, curve)
        axes.plot(t, y, gid=f"line {line.look}", drawstyle="steps-post" if line.stepped else "default")
        if line.band and (curve.low != curve.high).any():
            axes.fill_between(t, low, high, gid=f"band {line.look}")


def _pieces(axis: Axis, curve: Curve) -> Numbers:
    """Rows t, y, low, high, with a NaN where nothing was recorded; a point on its own is a dash."""
    points = np.array([axis.begins[curve.stretch] + curve.t, curve.y, curve.low, curve.high])
    between = np.diff(curve.t)
    pause = max(_SILENT_S, 3 * float(np.median(between))) if len(between) else _SILENT_S
    half_dash = np.array([[axis.px(_DASH_PX / 2)], [0], [0], [0]])
    pieces: list[Numbers] = []
    for piece in np.split(points, np.flatnonzero(between > pause) + 1, axis=1):
        pieces += [piece] if piece.shape[1] > 1 else [piece - half_dash, piece + half_dash]
        pieces.append(np.full((4, 1), np.nan))
    return np.hstack(pieces)


def _ticks(axes: Axes, times: Numbers) -> None:
    up = np.tile([0, 0.07, np.nan], len(times))
    axes.plot(np.repeat(times, 3), up, transform=axes.get_xaxis_transform(), gid="mark")


def _triangles(axes: Axes, axis: Axis, times: Numbers) -> None:
    """Those that would lie on each other are one."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    half = axis.px(_TURN_PX / 2)
    places = np.unique(np.round(times / half)) * half
    x = places[:, np.newaxis] + np.array([-half, half, 0])
    corners = np.stack((x, np.broadcast_to([1.08, 1.08, 1.03], x.shape)), axis=2)
    shape = Path.make_compound_path_from_polys(corners)
    axes.add_patch(PathPatch(shape, transform=axes.get_xaxis_transform(), clip_on=False, gid="turn"))
