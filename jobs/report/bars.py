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

_WIDTH, _ROW_PX = 900, 22
_WHAT_PX, _VALUE_PX, _GAP_PX, _MORE_PX = 160, 54, 12, 192  # of the columns
_WHAT, _MORE = 23, 28  # characters that there is room for
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
            for look, x, text in (
                ("what", 0, shortened(bar.what, _WHAT)),
                ("value", _WHAT_PX + _VALUE_PX, show(bar.value)),
                ("more", _WIDTH - _MORE_PX, shortened(bar.more, _MORE)),
            ):
                axes.annotate(
                    printable(text),
                    (0, place),
                    xytext=(x - sheet.left, 0),
                    textcoords="offset points",
                    ha="right" if look == "value" else "left",
                    va="center_baseline",
                    gid=look,
                )

    left, right = _WHAT_PX + _VALUE_PX + _GAP_PX, _GAP_PX + _MORE_PX
    sheet = Sheet(_WIDTH, _ROW_PX * len(bars), left, right, top=0, bottom=0)
    return picture(sheet, label, draw)
