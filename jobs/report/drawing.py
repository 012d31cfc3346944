"""What matplotlib draws, as SVG within a page: shapes and scales are its own, colours and type the page's."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SVG = "{http://www.w3.org/2000/svg}"
_PER_INCH = 72  # so that matplotlib's points are px
_NO_GID = re.compile(r"[a-z0-9]+_\d+")
_ANCHOR = re.compile(r"text-anchor: (\w+)")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Its size in px, and the room around the axes."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    @property
    def across(self) -> float:
        """Px from one end of the axes to the other."""
        return self.width - self.left - self.right

    @property
    def floor(self) -> float:
        """The y of the axes' foot."""
        return self.height - self.bottom


def picture(sheet: Sheet, label: str, draw: Callable[[Axes], None]) -> Markup:
    """An `<svg>` of what `draw` puts into axes that have neither frame nor ticks.

    An artist's gid names its classes; nothing else of its look is kept, and no id: the page's style has colours
    for each class by day and by night, and many pictures go into one page.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its list of fonts is kept is nobody's concern
    from matplotlib import rc_context  # here: the import costs 0.3 s, which only those pay who draw
    from matplotlib.figure import Figure

    drawn = io.StringIO()
    plain = rc_context(
        {"svg.fonttype": "none", "text.parse_math": False, "text.usetex": False, "savefig.bbox": None}
    )
    with plain, warnings.catch_warnings(action="ignore", category=UserWarning):  # of glyphs that only it lacks
        figure = Figure((sheet.width / _PER_INCH, sheet.height / _PER_INCH), dpi=_PER_INCH)
        left, bottom = sheet.left / sheet.width, sheet.bottom / sheet.height
        size = (sheet.across / sheet.width, (sheet.floor - sheet.top) / sheet.height)
        axes = figure.add_axes((left, bottom, *size), frameon=False)
        axes.tick_params(length=0, pad=6)
        draw(axes)
        figure.savefig(drawn, format="svg", dpi=_PER_INCH)
    return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        sheet.width, sheet.height, label, Markup("").join(_marks(drawn.getvalue()))
    )


def printable(text: str) -> str:
    """Names may hold anything, but XML may not."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _marks(svg: str) -> Iterator[Markup]:
    """Its paths and texts without what is around them; paths without a gid are backgrounds."""
    for group in ElementTree.fromstring(svg).iter(f"{_SVG}g"):
        look = _NO_GID.sub("", group.get("id", ""))
        for path in group.findall(f"{_SVG}path") if look else ():
            yield Markup('<path class="{}" d="{}"/>').format(look, _short(path.get("d", "")))
        for text in group.findall(f"{_SVG}text"):
            x, y = (f"{float(text.get(each, 0)):.1f}" for each in "xy")
            (anchor,) = _ANCHOR.findall(text.get("style", ""))
            said = Markup('<text class="{}" text-anchor="{}" x="{}" y="{}">{}</text>')
            yield said.format(look or "tick", anchor, x, y, text.text or "")


def _short(path: str) -> str:
    """To a tenth of a px."""
    rounded = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", path)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded)
