"""Bars below each other: pure functions from numbers to markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from jobs.report.drawing import Sheet, picture, printable
from jobs.report.wording import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_PX, _WHAT_PX, _MORE_PX, _VALUE_PX = 22, 150, 190, 70
_MORE = 28  # characters that there is room for
_THICK = 0.68  # of a row


@dataclass(frozen=True, slots=True)
class Bar:
    """One result, with its extremes. `look` names a class of the page."""

    what: str
    more: str
    look: str
    value: float
    least: float
    most: float


def bar_chart(bars: Sequence[Bar], label: str, show: Callable[[float], str], top: float) -> Markup:
    """An `<svg>` of `bars` from 0 to `top`; a thin line goes from one extreme to the other."""

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.set_xlim(0, top)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.barh(range(len(bars)), top, _THICK, gid="track")
        for place, bar in enumerate(bars):
            axes.barh(place, bar.value, _THICK, gid=f"bar {bar.look}")
            if bar.least < bar.most:
                axes.plot([bar.least, bar.most], [place, place], gid="spread")
            _beside(axes, place, -_WHAT_PX - _MORE_PX, bar.what, "what")
            _beside(axes, place, -_MORE_PX, shortened(bar.more, _MORE), "more")
            _beside(axes, place, sheet.across + _VALUE_PX, show(bar.value), "value")

    sheet = Sheet(900, _ROW_PX * len(bars), left=_WHAT_PX + _MORE_PX, right=_VALUE_PX, top=0, bottom=0)
    return picture(sheet, label, draw)


def _beside(axes: Axes, place: int, x: float, text: str, look: str) -> None:
    """`x` is in px from the foot of the bars."""
    axes.annotate(
        printable(text),
        (0, place),
        xytext=(x, 0),
        textcoords="offset points",
        ha="right" if x > 0 else "left",
        va="center_baseline",
        gid=look,
        annotation_clip=False,
    )
