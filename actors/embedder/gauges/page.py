"""A page of metrics in Prometheus' text format, searched by name. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_LABELS = r'\{(?P<labels>(?:[^"}\n]|"(?:\\.|[^"\\\n])*")*)\}'
_LABEL = re.compile(r'(?P<name>\w+)\s*=\s*"(?P<value>(?:\\.|[^"\\])*)"')
_OF_MODEL = ("model_name", "model")  # labels of vLLM and SGLang, and of Triton


@dataclass(frozen=True, slots=True)
class Page:
    """Its text; searching for a few names is much cheaper than parsing all of a server's histograms."""

    text: str

    def values(self, name: str, *, longer: bool = False) -> list[float]:
        """Of every sample of this name, or (`longer`) whose name begins so. What is no number >= 0 is left out."""
        return [value for _, value in self._samples(name, longer)]

    def total(self, name: str, model: str) -> float | None:
        """Over the samples of this name that are of `model`, or over all where none says that it is."""
        samples = self._samples(name, longer=False)
        of_model = [value for labels, value in samples if model in _models(labels)]
        values = of_model or [value for _, value in samples]
        return sum(values) if values else None

    def family(self, start: str) -> tuple[str, ...]:
        """All lines whose name begins so."""
        return tuple(_lines(start).findall(self.text))

    def _samples(self, name: str, longer: bool) -> list[tuple[str, float]]:
        found = (
            (match["labels"] or "", _number(match["value"])) for match in _sample(name, longer).finditer(self.text)
        )
        return [(labels, value) for labels, value in found if value is not None]


def of_busy(shares: Sequence[float]) -> float:
    """The mean over the GPUs that do something: a page often tells of some that this server does not have."""
    busy = [share for share in shares if share > 0]
    return sum(busy) / len(busy) if busy else 0.0


@cache
def _sample(name: str, longer: bool) -> re.Pattern[str]:
    rest = r"[\w:]*" if longer else ""
    return re.compile(rf"^{re.escape(name)}{rest}(?:{_LABELS})?[ \t]+(?P<value>\S+)", re.MULTILINE)


@cache
def _lines(start: str) -> re.Pattern[str]:
    return re.compile(rf"^{re.escape(start)}.*", re.MULTILINE)


def _models(labels: str) -> list[str]:
    return [match["value"] for match in _LABEL.finditer(labels) if match["name"] in _OF_MODEL]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value >= 0 and math.isfinite(value) else None
