"""OpenAI `/v1/embeddings`: base64 vectors asked for, floats accepted from servers that ignore that.

Source: OpenAI's API specification and the servers that follow it (vLLM, TEI, Infinity, SGLang, llama.cpp).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from actors.embedder.dialects.base import Answer, Body, Request
from actors.embedder.dialects.embedding_list import EmbeddingList, Usage
from actors.embedder.dialects.errors import fault
from actors.embedder.faults import Fault, Kind

_encode = msgspec.json.Encoder().encode


class _Item(msgspec.Struct):
    index: int
    embedding: bytes | list[float]  # a JSON string is decoded as base64


class _Reply(msgspec.Struct):
    data: list[_Item]
    usage: Usage | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_decode_reply = msgspec.json.Decoder(_Reply).decode
_decode_models = msgspec.json.Decoder(_Models).decode


class OpenAI:
    def __init__(self) -> None:
        self._list = EmbeddingList()

    def embed(self, url: str, model: str, texts: Sequence[str]) -> Request:
        body = {"model": model, "input": texts, "encoding_format": "base64"}
        return Request("POST", f"{_v1(url)}/embeddings", _encode(body))

    def answer(self, body: Body, texts: int) -> Generator[None, None, Answer]:
        if read := (yield from self._list.read(body, texts)):
            return Answer(*read)
        try:
            reply = _decode_reply(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            start = " ".join(body[:80].decode(errors="replace").split())
            raise Fault(Kind.WRONG_ANSWER, f"the answer is not an embedding list ({error}): {start}") from None
        if len(reply.data) != texts:
            raise Fault(Kind.WRONG_ANSWER, f"{len(reply.data)} vectors came for {texts} texts")
        vectors = _in_order(reply.data)
        return Answer(vectors, reply.usage.prompt_tokens or None if reply.usage else None)

    def models(self, url: str) -> Request:
        return Request("GET", f"{_v1(url)}/models")

    def model_names(self, body: Body) -> list[str]:
        try:
            return [model.id for model in _decode_models(body).data]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    def fault(self, status: int, headers: Mapping[str, str], body: Body) -> Fault:
        return fault(status, headers, body)


def _v1(url: str) -> str:
    return url if url.endswith("/v1") else f"{url}/v1"


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
