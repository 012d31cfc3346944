"""OpenAI `/v1/embeddings`: base64 vectors asked for, floats accepted from servers that ignore that.

Source: OpenAI's API specification and the servers that follow it (vLLM, TEI, Infinity, SGLang, llama.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from actors.embedder.dialects.base import Answer, Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.embedding_list import EmbeddingList, tokens_of
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Limits

_encode = msgspec.json.Encoder().encode


class _Item(msgspec.Struct):
    index: int
    embedding: bytes | list[float]  # a JSON string is decoded as base64


class _Reply(msgspec.Struct):
    data: list[_Item]
    usage: msgspec.Raw = msgspec.Raw()


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_ROUTE = re.compile(r"((/v1)?/embeddings|/v2/embed|/api/embed(dings)?|/embed|/v2/models/[^/]+/infer)$")
_OPENAI = Limits(tokens_per_text=8192, texts_per_request=2048, tokens_per_request=300_000)  # of its specification
_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_models = msgspec.json.Decoder(_Models).decode


class OpenAI:
    """What others speak too: a dialect that differs in little has one of these do the rest."""

    def __init__(self) -> None:
        self._list = EmbeddingList()

    def describe(self, url: str, model: str) -> Looking:
        page = yield Request("GET", f"{v1(url)}/models")
        names = model_names(page)
        if not names and not model:
            return None
        return Description(
            server="OpenAI API",
            route=f"{v1(url)}/embeddings",
            encodings=("base64", "float"),
            models=names,
            limits=_OPENAI if is_at(url, "api.openai.com") else Limits(),
            told={"models": "/v1/models"} if names else {},
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        return self.request(endpoint, texts, {})

    def request(self, endpoint: Endpoint, texts: Sequence[str], more: Mapping[str, Any]) -> Request:
        """With fields that are not OpenAI's."""
        body = {
            "model": endpoint.model,
            "input": texts,
            "encoding_format": endpoint.encoding or "base64",
            **({"dimensions": endpoint.wanted.dimensions} if endpoint.wanted.dimensions else {}),
            **more,
        }
        return Request("POST", endpoint.route or f"{v1(endpoint.url)}/embeddings", _encode(body))

    def answer(self, reply: Reply, texts: int) -> Decoding:
        body = reply.body
        if read := (yield from self._list.read(body, texts)):
            return Answer(*read)
        try:
            value = _decode_reply(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            start = " ".join(body[:80].decode(errors="replace").split())
            raise Fault(Kind.WRONG_ANSWER, f"the answer is not an embedding list ({error}): {start}") from None
        if len(value.data) != texts:
            raise Fault(Kind.WRONG_ANSWER, f"{len(value.data)} vectors came for {texts} texts")
        vectors = _in_order(value.data)
        return Answer(vectors, tokens_of(value.usage))


def v1(url: str) -> str:
    return f"{root(url)}/v1"


def root(url: str) -> str:
    """Where the server's other pages are."""
    return url.removesuffix("/v1")


def above_route(url: str) -> str | None:
    """What is left of a URL that ends with where texts are sent to; None where it does not."""
    found = _ROUTE.search(url)
    return url[: found.start()] if found else None


def model_names(page: Reply | None) -> tuple[str, ...]:
    """The names in an OpenAI list of models; empty when there are none to be read."""
    if page is None or page.status != 200:
        return ()
    try:
        return tuple(model.id for model in _decode_models(page.body).data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def is_at(url: str, host: str) -> bool:
    """Whether this is that host, or one below it such as a region's."""
    return f".{urlsplit(url).hostname or ''}".endswith(f".{host}")


def _in_order(items: list[_Item]) -> npt.NDArray[np.float32]:
    """float32[n, dim], row i being the item whose `index` is i. Raises Fault."""
    vectors: npt.NDArray[np.float32] | None = None
    placed = bytearray(len(items))
    for item in items:
        given = item.embedding
        if isinstance(given, bytes) and len(given) % 4:
            raise Fault(Kind.WRONG_ANSWER, f"{len(given)} bytes of base64 are no float32 vector")
        vector = np.frombuffer(given, "<f4") if isinstance(given, bytes) else np.array(given, np.float32)
        if vectors is None:
            vectors = np.empty((len(items), len(vector)), np.float32)
        if not 0 <= item.index < len(items) or placed[item.index]:
            raise Fault(Kind.WRONG_ANSWER, f"index {item.index} came twice or is out of range")
        if len(vector) != vectors.shape[1]:
            raise Fault(
                Kind.WRONG_ANSWER, f"vectors of {vectors.shape[1]} and {len(vector)} dimensions in one answer"
            )
        vectors[item.index] = vector
        placed[item.index] = 1
    return vectors if vectors is not None else np.empty((0, 0), np.float32)
