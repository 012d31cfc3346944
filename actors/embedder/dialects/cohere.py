"""Cohere's v2 `/embed`, of its own API and of those that have its shape.

Source: its client, 7.3, and its documentation of the models' list. That `base64` is of little-endian float32 is
unverified for its own API, so that is read when asked for in `encoding:`, and not asked for unsaid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from actors.embedder.dialects.base import Answer, Body, Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.embedding_list import Vectors
from actors.embedder.dialects.openai import is_at, root
from actors.embedder.dialects.pages import told
from actors.embedder.dialects.rows import UNREADABLE, Rows, are_marks, first_list, matrix, start_of
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Limits

_MOST_TEXTS = 96  # in a request: its client cuts there
_DOCUMENTS = "search_document"  # its newer models want to be told what the texts are
_encode = msgspec.json.Encoder().encode


class _Model(msgspec.Struct):
    name: str
    endpoints: list[str] = msgspec.field(default_factory=list)
    context_length: float = 0


class _Models(msgspec.Struct):
    models: list[_Model]


class _Units(msgspec.Struct):
    input_tokens: float = 0


class _Meta(msgspec.Struct):
    billed_units: _Units | None = None


class _Marks(msgspec.Struct):
    rows: list[int] = msgspec.field(name="float")


class _Rest(msgspec.Struct):
    embeddings: _Marks
    meta: _Meta | None = None


class _Vectors(msgspec.Struct):
    numbers: list[list[float]] | None = msgspec.field(name="float", default=None)
    base64: list[bytes] | None = None


class _Reply(msgspec.Struct):
    embeddings: _Vectors
    meta: _Meta | None = None


_decode_models = msgspec.json.Decoder(_Models)
_decode_rest = msgspec.json.Decoder(_Rest).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode


class Cohere:
    def __init__(self) -> None:
        self._rows = Rows()

    def describe(self, url: str, model: str) -> Looking:
        """Known by its name alone; another server of this shape has to be named with --dialect."""
        if not is_at(url, "api.cohere.com") and not is_at(url, "api.cohere.ai"):
            return None
        page = yield Request("GET", f"{_base(url)}/v1/models?endpoint=embed")
        listed = told(page, _decode_models)
        models = [each for each in listed.models if "embed" in each.endpoints] if listed else []
        context = next((int(each.context_length) for each in models if each.name == model), 0)
        found = self.named(url)
        return replace(
            found,
            models=tuple(each.name for each in models),
            limits=replace(found.limits, tokens_per_text=context if context > 0 else None),
            told={
                **({"models": "/v1/models"} if models else {}),
                **({"tokens_per_text": "/v1/models"} if context > 0 else {}),
            },
        )

    def named(self, url: str) -> Description:
        return Description(
            server="Cohere API",
            route=f"{_base(url)}/v2/embed",
            encodings=("float",),
            cuts_long_texts=True,
            batching="not told: what may be asked in a minute is the limit",
            takes=frozenset({"dimensions", "prompt_name", "truncate"}),
            limits=Limits(texts_per_request=_MOST_TEXTS),
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        wanted = endpoint.wanted
        body: dict[str, Any] = {
            "model": endpoint.model,
            "texts": texts,
            "input_type": wanted.prompt_name or _DOCUMENTS,
            "embedding_types": [endpoint.encoding or "float"],
            "truncate": "END" if wanted.truncate else "NONE",
            **({"output_dimension": wanted.dimensions} if wanted.dimensions else {}),
        }
        return Request("POST", endpoint.route or f"{_base(endpoint.url)}/v2/embed", _encode(body))

    def answer(self, reply: Reply, texts: int) -> Decoding:
        body = reply.body
        start = first_list(body, b"float")
        if start is not None and (came := (yield from self._rows.nested(body, start, texts))):
            vectors, rest = came
            try:
                left = _decode_rest(rest)
                if are_marks(left.embeddings.rows, texts):
                    return Answer(vectors, _tokens(left.meta))
            except UNREADABLE:
                pass
        return _read_plainly(body, texts)


def _read_plainly(body: Body, texts: int) -> Answer:
    try:
        whole = _decode_reply(body)
    except UNREADABLE as error:
        why = f"the answer is not one of Cohere's shape ({error}): {start_of(body)}"
        raise Fault(Kind.WRONG_ANSWER, why) from None
    rows: Sequence[Sequence[float]] | Sequence[Vectors]
    if whole.embeddings.numbers is not None:
        rows = whole.embeddings.numbers
    elif whole.embeddings.base64 is not None:
        if any(len(vector) % 4 for vector in whole.embeddings.base64):
            raise Fault(Kind.WRONG_ANSWER, "a vector in base64 is not of whole float32")
        rows = [np.frombuffer(vector, "<f4") for vector in whole.embeddings.base64]
    else:
        raise Fault(Kind.WRONG_ANSWER, f"the answer holds no embeddings: {start_of(body)}")
    return Answer(matrix(rows, texts), _tokens(whole.meta))


def _tokens(meta: _Meta | None) -> int | None:
    units = meta.billed_units if meta else None
    return int(units.input_tokens) if units and units.input_tokens > 0 else None


def _base(url: str) -> str:
    return root(url.removesuffix("/v2"))
