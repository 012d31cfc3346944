"""An answer with an error status -> Fault, by the words that embedding servers use: the one table of them.

Sources: the servers' own code and live answers, as of TEI 1.9, vLLM 0.33, SGLang 0.5, Infinity 0.0.78, llama.cpp,
Ollama 0.33, Triton 2.73 and OpenAI's API specification; of hosted APIs what their users report. What a server
says is looked for whatever server it is: gateways and look-alikes pass the words of others on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from actors.embedder.dialects.base import Reply
from actors.embedder.dialects.headers import retry_after_s
from actors.embedder.faults import Fault, Kind

_MAX_TEXT = 4096  # of a body
_MAX_DETAIL = 300


class _Words(NamedTuple):
    """An answer with one of these statuses and with these words is of this kind.

    Groups: `rows` texts in a request at most; `most` of a unit at most, where there were `given`; `unit`, if it is
    not tokens.
    """

    kind: Kind
    statuses: tuple[int, ...]
    words: re.Pattern[str]


def _words(kind: Kind, statuses: tuple[int, ...], words: str) -> _Words:
    return _Words(kind, statuses, re.compile(words, re.IGNORECASE))


class _Flaw(msgspec.Struct):
    """One of those that FastAPI lists; `input` is what has it, which may be all that was sent."""

    msg: str
    input: msgspec.Raw = msgspec.Raw()


class _Flaws(msgspec.Struct):
    detail: list[_Flaw]


_decode_flaws = msgspec.json.Decoder(_Flaws).decode
_REFUSED = (400, 413, 422)
_MOVED = (301, 302, 303, 307, 308)
_SAID = (
    _words(
        Kind.QUOTA, (400, 403, 429), "insufficient_quota|billing_not_active|billing_hard_limit_reached"
    ),  # OpenAI
    _words(Kind.STARTING, (503,), "loading model|unhealthy|no healthy upstream|is not at ready state"),
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"maximum allowed batch size (?P<rows>\d+)"),  # TEI
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"should have at most (?P<rows>\d+) items"),  # Infinity
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"batch-size must be <= (?P<rows>\d+)"),  # Triton
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"number of texts must be at most (?P<rows>\d+)"),  # Cohere
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"max number of inputs is (?P<rows>\d+)"),  # Azure
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"batch size is invalid.{0,30} larger than (?P<rows>\d+)"),  # DashScope
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, r"at most (?P<rows>\d+) requests can be in one batch"),  # Gemini
    _words(Kind.TOO_MANY_INPUTS, _REFUSED, "too many inputs in request"),  # Mistral
    _words(
        Kind.TOO_LARGE,
        _REFUSED,
        r"too many tokens (overall, split|in batch\. max is (?P<most>\d+) got (?P<given>\d+))",
    ),
    _words(Kind.TOO_LARGE, _REFUSED, r"requested (?P<given>\d+) tokens, max (?P<most>\d+) tokens per request"),
    _words(  # Voyage
        Kind.TOO_LARGE, _REFUSED, r"tokens per submitted batch is (?P<most>\d+)\. your batch has (?P<given>\d+)"
    ),
    _words(Kind.TOO_LARGE, _REFUSED, "max_tokens_per_request|exceeds the maximum allowed"),  # OpenAI, Triton
    # vLLM, before it counts tokens; then vLLM and OpenAI, where "at least 65" is no count
    _words(Kind.TOO_LONG, _REFUSED, r"contains (?P<given>\d+) (?P<unit>characters) \(more than (?P<most>\d+)"),
    _words(
        Kind.TOO_LONG,
        _REFUSED,
        r"context length is (?P<most>\d+) tokens([,.] however,? you(r prompt contains| requested) (?P<given>\d+))?",
    ),
    _words(  # TEI
        Kind.TOO_LONG,
        _REFUSED,
        r"must have less than (?P<most>\d+) (?P<unit>tokens|characters)\. given: (?P<given>\d+)",
    ),
    _words(  # Infinity; the number of those there are is ours, see `_flaws`
        Kind.TOO_LONG,
        (422,),
        r"string should have at most (?P<most>\d+) (?P<unit>characters)(, not (?P<given>\d+))?",
    ),
    _words(Kind.TOO_LONG, _REFUSED, r"model's context window of (?P<most>\d+) tokens"),  # Voyage
    _words(  # NVIDIA NIM
        Kind.TOO_LONG,
        (*_REFUSED, 500),
        r"input length (?P<given>\d+) exceeds maximum allowed token size (?P<most>\d+)",
    ),
    # llama.cpp says it in three ways, the second also SGLang
    _words(Kind.TOO_LONG, (500,), r"input \((?P<given>\d+) tokens\) is too large.*batch size: (?P<most>\d+)"),
    _words(
        Kind.TOO_LONG,
        (*_REFUSED, 500),
        r"input \((?P<given>\d+) tokens\) is l(arg|ong)er than[^(]*\((?P<most>\d+) tokens",
    ),
    _words(
        Kind.TOO_LONG,
        _REFUSED,
        r"request \((?P<given>\d+) tokens\) exceeds the available context size \((?P<most>\d+) tokens",
    ),
    _words(Kind.TOO_LONG, (400, 500), "exceed_context_size_error|input length exceeds the context length"),
    _words(Kind.BACKEND, _REFUSED, "out of memory|cudamalloc failed"),  # Ollama, as its runner said it
)
_KINDS = {
    **dict.fromkeys(_MOVED, Kind.NOT_FOUND),
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.AUTH,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.TRANSPORT,  # OpenAI's own client asks again
    413: Kind.TOO_LARGE,
    429: Kind.OVERLOADED,
    499: Kind.TRANSPORT,  # Ollama, when somebody else cut the connection
    501: Kind.BAD_REQUEST,  # llama.cpp started without --embeddings, and what Triton does not have
    503: Kind.OVERLOADED,
    504: Kind.TIMEOUT,
    # TEI's answer when inference failed, also for a batch shared with another client
    424: Kind.BACKEND,
}


def fault(reply: Reply) -> Fault:
    """What an answer with an error status means, never an exception whatever its bytes are."""
    status = reply.status
    if status in _MOVED and (place := reply.headers.get("location", "").partition("?")[0]):
        return Fault(_KINDS[status], f"it leads to {place[:_MAX_DETAIL]}", status)
    text = (_flaws(reply) or reply.body[:_MAX_TEXT].decode(errors="replace"))[:_MAX_TEXT]
    detail, wait_s = _message(text), retry_after_s(reply.headers)
    for kind, statuses, words in _SAID:
        if status in statuses and (found := words.search(text)):
            return _said(kind, detail, status, wait_s, found.groupdict())
    otherwise = Kind.BACKEND if status >= 500 else Kind.BAD_REQUEST
    return Fault(_KINDS.get(status, otherwise), detail, status, wait_s)


def _said(kind: Kind, detail: str, status: int, wait_s: float | None, words: Mapping[str, str | None]) -> Fault:
    rows, most, given = (_number(words.get(name)) for name in ("rows", "most", "given"))
    in_tokens = (words.get("unit") or "tokens") == "tokens"
    return Fault(
        kind,
        detail,
        status,
        wait_s,
        most_rows=rows,
        most_tokens=most if in_tokens and kind is Kind.TOO_LONG else None,
        fits=most / given if most and given and most < given else None,
    )


def _number(digits: str | None) -> int | None:
    return int(digits[:18]) or None if digits else None


def _flaws(reply: Reply) -> str:
    """What FastAPI says of a request that does not fit its schema, less the request; empty: it says no such thing.

    Infinity's first flaw holds the whole input, so that what is said after it is far down in the body; and the
    texts in there may use any words. How long a string is, is added to what is said of it.
    """
    if not reply.body[:_MAX_TEXT].startswith(b'{"detail":['):
        return ""
    try:
        flaws = _decode_flaws(reply.body).detail
        return "; ".join(
            f"{flaw.msg}, not {len(msgspec.json.decode(flaw.input, type=str))}"
            if flaw.msg.endswith("characters")
            else flaw.msg
            for flaw in flaws
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _message(text: str) -> str:
    """What the error says for itself, in one line: servers wrap it in four different envelopes."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        value = text
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    return " ".join(str(value).split())[:_MAX_DETAIL]
