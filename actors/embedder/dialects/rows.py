"""Vectors as lists of numbers in one list -> float32, without a Python object for each number.

As in an embedding list each vector is cut out and parsed by simdjson, and what is left is a small JSON that is
decoded, and so checked, as usual. Where that fails a plain reader says what is wrong.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Sequence

import msgspec
import numpy as np

from actors.embedder.dialects.base import Body
from actors.embedder.dialects.embedding_list import MARK, EmbeddingList, Vectors
from actors.embedder.faults import Fault, Kind

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_WRONG = (ValueError, TypeError, AttributeError, RuntimeError)  # what simdjson raises
_OPENED = re.compile(rb"\s*:\s*\[")
_GAP_BYTES = 64  # between two vectors
_FLAT_BYTES = 1 << 20  # are parsed in 2 to 4 ms; then others may run


class Rows:
    """Reads answers in memory that it keeps, several of them at a time."""

    def __init__(self) -> None:
        self._list = EmbeddingList()

    def nested(self, body: Body, start: int, rows: int) -> Generator[None, None, tuple[Vectors, bytes] | None]:
        """The vectors in the list that opens just before `start`, and the answer with MARK in the place of each.

        None when there are not so many, or anything is wrong. Whoever asks has to look that the marks are where
        vectors belong. Yields now and then.
        """
        cut = _cut(body, start, rows)
        if cut is None:
            return None
        lists, rest = cut
        try:
            vectors = yield from self._list.from_numbers(lists)
        except _WRONG:
            return None
        return (vectors, rest) if vectors.shape[1] else None

    def flat(self, body: Body, start: int) -> Generator[None, None, tuple[Vectors, bytes] | None]:
        """The same for numbers that stand in one list without lists in it: float32[1, n], and one mark."""
        end = body.find(b"]", start)
        view = memoryview(body)
        pieces: list[Vectors] = []
        done = start
        while 0 <= done < end:
            comma = body.find(b",", done + _FLAT_BYTES, end)
            piece = b"".join((b"[", view[done : comma if comma >= 0 else end], b"]"))
            try:
                pieces.append((yield from self._list.from_numbers([memoryview(piece)])))
            except _WRONG:
                return None
            done = comma + 1 if comma >= 0 else end
            yield
        if not pieces or not all(piece.size for piece in pieces):
            return None
        rest = b"".join((view[: start - 1], b"%d" % MARK, view[end + 1 :]))
        return np.concatenate(pieces, axis=1), rest


def first_list(body: Body, name: bytes, within: int = sys.maxsize) -> int | None:
    """Where the first list of that name begins, after its bracket; no text in quotes can look like one.

    It begins `within` so many bytes, or is none.
    """
    quoted = b'"%b"' % name
    at = body.find(quoted, 0, within)
    while at >= 0:
        at += len(quoted)
        if opened := _OPENED.match(body, at):
            return opened.end()
        at = body.find(quoted, at, within)
    return None


def are_marks(values: Sequence[int], count: int) -> bool:
    return len(values) == count and all(value == MARK for value in values)


def matrix(rows: Sequence[Sequence[float]] | Sequence[Vectors], texts: int) -> Vectors:
    """float32[texts, dim] of what a plain reader found. Raises Fault(WRONG_ANSWER)."""
    if len(rows) != texts:
        raise Fault(Kind.WRONG_ANSWER, f"{len(rows)} vectors came for {texts} texts")
    sizes = sorted(set(map(len, rows)))
    if len(sizes) > 1:
        raise Fault(Kind.WRONG_ANSWER, f"vectors of {sizes[0]} and {sizes[-1]} dimensions in one answer")
    return np.array(rows, np.float32).reshape(texts, -1)


def start_of(body: Body) -> str:
    """The beginning of an answer, to be shown in one line."""
    return " ".join(bytes(body[:80]).decode(errors="replace").split())


def _cut(body: Body, start: int, rows: int) -> tuple[list[memoryview], bytes] | None:
    """Each list with its brackets, and the answer with the mark in the place of each; None if not so many."""
    view = memoryview(body)
    lists: list[memoryview] = []
    rest: list[memoryview] = []
    kept, between = 0, b""
    done = start
    while (opened := body.find(b"[", done, done + _GAP_BYTES)) >= 0 and body[done:opened].strip() == between:
        end = body.find(b"]", opened) + 1
        if not end or len(lists) == rows:
            return None
        lists.append(view[opened:end])
        rest.append(view[kept:opened])
        kept = done = end
        between = b","
    rest.append(view[kept:])
    return (lists, (b"%d" % MARK).join(rest)) if lists and len(lists) == rows else None
