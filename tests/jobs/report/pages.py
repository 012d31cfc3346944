"""A written page, read as a browser would: its elements, and what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

VOID = {"meta", "br"}
BARS = "of each result"

Attributes = dict[str, str | None]


@dataclass
class Element:
    tag: str
    attributes: Attributes
    text: str = ""


class Page(HTMLParser):
    """Every element with all text inside it; fails where the tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html[: html.index("</html>") + len("</html>")])
        self.close()
        assert not self._open, f"left open: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, look: str | None = None) -> list[Element]:
        found = [element for element in self.elements if element.tag == tag]
        return found if look is None else [each for each in found if look in words(each)]

    @property
    def text(self) -> str:
        return " ".join(self.all("main")[0].text.split())

    def tiles(self) -> dict[str, str]:
        return {
            name.text: f"{value.text} {more.text}".strip()
            for name, value, more in zip(self.all("dt"), self.all("dd")[::2], self.all("dd")[1::2], strict=True)
        }

    def charts(self) -> list[str]:
        """The time lines; bars are elsewhere."""
        return [name for name in map(_name, self.all("svg")) if not name.endswith(BARS)]

    def drawn(self, chart: str, look: str) -> list[Element]:
        """The paths of this look in one chart, and its texts."""
        inside = False
        found = []
        for element in self.elements:
            if element.tag == "svg":
                inside = _name(element) == chart
            elif inside and look in words(element):
                found.append(element)
        return found


def _name(svg: Element) -> str:
    return str(svg.attributes["aria-label"])


def points(path: Element) -> list[tuple[float, float]]:
    pairs = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.attributes["d"] or "")
    return [(float(x), float(y)) for x, y in pairs]


def words(element: Element) -> list[str]:
    return (element.attributes.get("class") or "").split()
