"""A bare JSON list of vectors, `[[1.5, ...], ...]` or `["base64", ...]` -> vectors, in the order of the texts."""

from __future__ import annotations

from collections.abc import Generator

import msgspec
import numpy as np

from actors.embedder.dialects.base import Body
from actors.embedder.dialects.embedding_list import EmbeddingList, Vectors
from actors.embedder.faults import Fault, Kind

_decode = msgspec.json.Decoder(list[bytes | list[float]]).decode  # a JSON string is decoded as base64


class BareList:
    """Reads answers in memory that it keeps, several of them at a time."""

    def __init__(self) -> None:
        self._fast = EmbeddingList()

    def read(self, body: Body, texts: int) -> Generator[None, None, Vectors]:
        """float32[texts, dim]; yields now and then. Raises Fault."""
        vectors = yield from self._fast.read_bare(body, texts)
        return _slowly(body, texts) if vectors is None else vectors


def _slowly(body: Body, texts: int) -> Vectors:
    try:
        rows = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        start = " ".join(body[:80].decode(errors="replace").split())
        raise Fault(Kind.WRONG_ANSWER, f"the answer is not a list of vectors ({error}): {start}") from None
    if len(rows) != texts:
        raise Fault(Kind.WRONG_ANSWER, f"{len(rows)} vectors came for {texts} texts")
    if any(isinstance(row, bytes) and len(row) % 4 for row in rows):
        raise Fault(Kind.WRONG_ANSWER, "base64 that is no float32 vector")
    vectors = [np.frombuffer(row, "<f4") if isinstance(row, bytes) else np.array(row, np.float32) for row in rows]
    dimensions = sorted({len(vector) for vector in vectors})
    if len(dimensions) != 1 or not dimensions[0]:
        words = " and ".join(map(str, dimensions))
        raise Fault(Kind.WRONG_ANSWER, f"vectors of {words} dimensions in one answer")
    return np.stack(vectors)
