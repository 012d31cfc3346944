"""An embedding list of JSON floats -> vectors, a third of the CPU of decoding into Python floats.

simdjson parses without making an object of each number and hands out whole arrays of them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import simdjson

_FIRST_IS_A_LIST = re.compile(rb'"embedding"\s*:\s*\[')
_LOOK_BYTES = 4096  # where the first vector begins in every answer we know


class FloatList:
    """Reads answers one after another, in memory that it keeps."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def read(self, body: bytes, texts: int) -> tuple[npt.NDArray[np.float32], int | None] | None:
        """float32[texts, dim] in the order of `index`, and the tokens that the server counted.

        None when the vectors are no lists of numbers, or when anything is wrong: whoever reads it more slowly says
        what.
        """
        # simdjson flattens lists in lists: there may be no other list than those of the vectors and the one of all
        if not _FIRST_IS_A_LIST.search(body, 0, _LOOK_BYTES) or body.count(b"[") != texts + 1:
            return None
        try:
            return _read(self._parser.parse(body), texts)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):
            return None


def _read(reply: Any, texts: int) -> tuple[npt.NDArray[np.float32], int | None] | None:
    items = reply["data"]
    if len(items) != texts:
        return None
    vectors: npt.NDArray[np.float32] | None = None
    seen = bytearray(texts)
    for item in items:
        index, vector = item["index"], np.frombuffer(item["embedding"].as_buffer(of_type="d"))
        if vectors is None:
            vectors = np.empty((texts, len(vector)), np.float32)
        if not 0 <= index < texts or seen[index] or len(vector) != vectors.shape[1]:
            return None
        vectors[index], seen[index] = vector, 1
    usage = reply.get("usage")
    tokens = usage.get("prompt_tokens") if usage is not None else None
    return (vectors, tokens or None) if vectors is not None else None
