"""OpenAI `/v1/embeddings`: base64 vectors asked for, floats accepted from servers that ignore that.

Source: OpenAI's API specification and the servers that follow it (vLLM, TEI, Infinity, SGLang, llama.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time

import msgspec
import numpy as np
import numpy.typing as npt

from actors.embedder.dialects.base import Answer, Request
from actors.embedder.dialects.embedding_list import EmbeddingList
from actors.embedder.faults import Fault, Kind

_encode = msgspec.json.Encoder().encode

# TEI: "batch size 33 > maximum allowed batch size 32"
_MOST_ROWS = re.compile(r"maximum allowed batch size (\d+)")
_MAX_DETAIL = 300

_KINDS = {
    401: Kind.AUTH,
    403: Kind.AUTH,
    404: Kind.NOT_FOUND,
    408: Kind.TRANSPORT,
    413: Kind.TOO_LARGE,
    429: Kind.OVERLOADED,
    503: Kind.OVERLOADED,
    # TEI's answer when inference failed, also for a batch shared with another client
    424: Kind.BACKEND,
}


class _Item(msgspec.Struct):
    index: int
    embedding: bytes | list[float]  # a JSON string is decoded as base64


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Reply(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


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

    def answer(self, body: bytes, texts: int) -> Generator[None, None, Answer]:
        if read := (yield from self._list.read(body, texts)):
            return Answer(*read)
        try:
            reply = _decode_reply(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            start = _in_one_line(body[:80].decode(errors="replace"))
            raise Fault(Kind.WRONG_ANSWER, f"the answer is not an embedding list ({error}): {start}") from None
        if len(reply.data) != texts:
            raise Fault(Kind.WRONG_ANSWER, f"{len(reply.data)} vectors came for {texts} texts")
        vectors = _in_order(reply.data)
        return Answer(vectors, reply.usage.prompt_tokens or None if reply.usage else None)

    def models(self, url: str) -> Request:
        return Request("GET", f"{_v1(url)}/models")

    def model_names(self, body: bytes) -> list[str]:
        try:
            return [model.id for model in _decode_models(body).data]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        text = body[:4096].decode(errors="replace")
        detail = _message(text)
        if most_rows := _MOST_ROWS.search(detail):
            return Fault(Kind.TOO_LARGE, detail, status, most_rows=int(most_rows[1]))
        if status == 429 and "insufficient_quota" in text:
            return Fault(Kind.QUOTA, detail, status)
        otherwise = Kind.BACKEND if status >= 500 else Kind.BAD_REQUEST
        return Fault(_KINDS.get(status, otherwise), detail, status, retry_after_s=_retry_after(headers))


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


def _message(text: str) -> str:
    """What the error says for itself, in one line: servers wrap it in four different envelopes."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        value = text
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    return _in_one_line(str(value))[:_MAX_DETAIL]


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from OpenAI's `retry-after-ms` or the standard `retry-after`, which is seconds or a date."""
    value = headers.get("retry-after", "")
    for number, unit_s in ((headers.get("retry-after-ms", ""), 0.001), (value, 1.0)):
        with suppress(ValueError):
            return max(0.0, float(number) * unit_s)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (TypeError, ValueError, OverflowError):
        return None
