"""Infinity: inputs that wait, in the `stats` of its list of models; its /metrics tells of HTTP only.

A server whose worker has died shows 0 here.
"""

from __future__ import annotations

import msgspec

from actors.embedder.gauges.base import Depth, PageGauge
from actors.embedder.gauges.page import Page
from actors.embedder.gauges.places import beside
from actors.messages import Endpoint


class _Stats(msgspec.Struct):
    queue_absolute: int


class _Model(msgspec.Struct):
    id: str
    stats: _Stats


class _Models(msgspec.Struct):
    data: list[_Model]


_decode = msgspec.json.Decoder(_Models).decode
_DIALECTS = ("infinity", "openai")  # in which it may be spoken to


def _places(endpoint: Endpoint) -> tuple[str, ...]:
    return beside(endpoint, "models") if endpoint.dialect in _DIALECTS else ()


def _queue(page: Page, model: str) -> Depth | None:
    try:
        models = _decode(page.text.encode()).data
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    named = [each for each in models if each.id == model]
    depths = [each.stats.queue_absolute for each in named or models]
    return Depth(sum(depths)) if depths else None


INFINITY = PageGauge("infinity", queue=_queue, places=_places)
