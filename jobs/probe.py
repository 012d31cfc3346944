"""`rayembed probe`: what a server is, what it takes, and how each of that is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from actors.embedder.gauges import Readable, look
from actors.messages import Limits
from jobs.endpoints import Server, find_endpoints
from jobs.settings import Settings

_KNOWN, _ASKED = "known of such servers", "asked"
_LIMITS = {
    "tokens_per_text": "tokens per text",
    "texts_per_request": "texts per request",
    "tokens_per_request": "tokens per request",
    "bytes_per_request": "bytes per request",
    "texts_in_flight": "texts in flight",
    "requests_in_flight": "requests in flight",
    "tokens_per_gpu_batch": "tokens per GPU batch",
    "texts_merged": "texts merged",
}
assert set(_LIMITS) == {each.name for each in fields(Limits)}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the table: what, its value in words, and how it is known."""

    what: str
    value: str
    how: str


def probe(settings: Settings) -> dict[str, list[Fact]]:
    """What is found of each endpoint, by its URL. Raises UserError when one cannot be used or they do not agree."""
    vectors = settings.vectors
    found = find_endpoints(settings.servers, vectors, truncate=settings.input.too_long == "truncate")
    gauges = look(found.endpoints)
    return {
        server.endpoint.url: [
            *facts(server),
            *gauged([each for each in gauges if each.endpoint == server.endpoint.url], server.description.waits),
        ]
        for server in found.servers
    }


def limits(server: Server) -> list[Fact]:
    """What it takes, as far as that is known."""
    told = server.description.told
    return [
        Fact(words, f"{value:,}", told.get(name, _KNOWN))
        for name, words in _LIMITS.items()
        if (value := getattr(server.endpoint.limits, name)) is not None
    ]


def facts(server: Server) -> list[Fact]:
    """The table of one server."""
    endpoint, description = server.endpoint, server.description
    told = description.told
    lengths = np.linalg.norm(server.vectors, axis=1)
    lines = [
        Fact("server", description.server, told.get("server", _KNOWN)),
        Fact("dialect", endpoint.dialect, told.get("server", _KNOWN)),
        Fact("model", endpoint.model, told.get("models", "set")),
        Fact("dimensions", str(server.vectors.shape[1]), _ASKED),
        Fact("vector length", f"{lengths.min():.4g} to {lengths.max():.4g}", _ASKED),
        Fact("route", endpoint.route, told.get("route", _KNOWN)),
        Fact("encoding", endpoint.encoding, told.get("encodings", _ASKED)),
        *limits(server),
        Fact("long texts", _long_texts(server), told.get("cuts_long_texts", _KNOWN)),
        Fact("batching", description.batching, told.get("batching", _KNOWN)),
        Fact("one text took", f"{1000 * server.pace.alone_s:.0f} ms", _ASKED),
    ]
    return [line for line in lines if line.value]


def in_short(server: Server) -> str:
    """One line for the start of a job."""
    endpoint, dim = server.endpoint, server.vectors.shape[1]
    known = [f"at most {fact.value} {fact.what}" for fact in limits(server)]
    what = [server.description.server, endpoint.model, f"{dim} dimensions", endpoint.encoding, *known]
    return f"{endpoint.url}: {', '.join(each for each in what if each)}"


def gauged(gauges: Sequence[Readable], waits: str = "") -> list[Fact]:
    """What can be read of its GPUs and its queue from here; that nothing can be is worth a line too.

    `waits` is the header in which its answers tell how long their texts waited.
    """
    lines = [Fact(each.what, f"{each.value:g} ({each.source})", each.where) for each in gauges]
    missing = {"GPU utilisation", "queue"} - {each.what for each in gauges}
    if waits and "queue" in missing:
        missing.remove("queue")
        lines.append(Fact("queue", "by how long its texts wait", f"{waits} of its answers"))
    return [
        *lines,
        *(Fact(what, "cannot be read from here", "name a page with metrics_url") for what in sorted(missing)),
    ]


def _long_texts(server: Server) -> str:
    if server.endpoint.cuts:
        return "cut by the server"
    if server.description.cuts_long_texts is None:
        return ""
    return "refused by the server"


def in_words(found: dict[str, list[Fact]], *, as_json: bool) -> str:
    """A table for each server, or one JSON object: url -> what -> value and how."""
    if as_json:
        plain = {
            url: {line.what: {"value": line.value, "how": line.how} for line in lines}
            for url, lines in found.items()
        }
        return json.dumps(plain, ensure_ascii=False)
    return "\n\n".join("\n".join([url, *_table(lines)]) for url, lines in found.items())


def _table(lines: list[Fact]) -> list[str]:
    what = max(len(line.what) for line in lines)
    value = max(len(line.value) for line in lines)
    return [f"  {line.what:{what}}  {line.value:{value}}  {line.how}" for line in lines]
