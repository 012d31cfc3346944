"""An OpenAI embedding list, or a bare list of vectors -> vectors, as fast as its bytes can be decoded.

The vectors are cut out of the answer and decoded each by what is fastest for it, base64 by pybase64 and numbers by
simdjson, without a Python object for each number. What is left is a small JSON that is decoded, and so checked, as
usual. Against decoding the whole answer at once this saves three quarters of the CPU for base64 and half of it for
numbers, which simdjson then parses in cache.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from secrets import randbelow
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pybase64
import simdjson

from actors.embedder.dialects.base import Body

_FIRST = re.compile(rb'"embedding"\s*:\s*(["\[])')
_FIRST_OF_BARE = re.compile(rb'\s*\[\s*(["\[])')
_LOOK_BYTES = 4096  # where the first vector begins in every answer we know
_BASE64_BYTES, _NUMBERS_BYTES = 1 << 22, 1 << 20  # are decoded in 2 to 4 ms; then others may run
_QUOTE, _PADDING = ord('"'), ord("=")
MARK = randbelow(1 << 60)  # stands for a vector; no answer holds it by itself

Vectors = npt.NDArray[np.float32]


class _Item(msgspec.Struct):
    index: int
    embedding: int


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    total_tokens: float | None = None


class _Rest(msgspec.Struct):
    data: list[_Item]
    usage: msgspec.Raw = msgspec.Raw()


class _Cut(NamedTuple):
    """What is between each vector's delimiters, with them where they are brackets.

    `rest` is the answer with the mark in the place of each.
    """

    vectors: list[memoryview]
    rest: bytes
    in_base64: bool


_decode = msgspec.json.Decoder(_Rest).decode
_decode_marks = msgspec.json.Decoder(list[int]).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode

_WRONG = (msgspec.DecodeError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError)


class EmbeddingList:
    """Reads answers in memory that it keeps, several of them at a time."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def read(self, body: Body, texts: int) -> Generator[None, None, tuple[Vectors, int | None] | None]:
        """float32[texts, dim] in the order of `index`, and the tokens that the server counted; yields now and then.

        None when not all vectors are encoded alike, or anything is wrong: whoever reads it more slowly says what.
        """
        first = _FIRST.search(body, 0, _LOOK_BYTES)
        cut = _cut(body, texts, first, first.group()) if first else None
        if cut is None:
            return None
        try:
            reply = _decode(cut.rest)
            vectors = yield from self._decoded(cut)
        except _WRONG:
            return None
        if any(item.embedding != MARK for item in reply.data):
            return None
        index = [item.index for item in reply.data]
        if index != list(range(texts)):
            if sorted(index) != list(range(texts)):
                return None
            vectors = vectors[np.argsort(index)]
        return vectors, tokens_of(reply.usage)

    def read_bare(self, body: Body, texts: int) -> Generator[None, None, Vectors | None]:
        """float32[texts, dim] of `[[1.5, ...], ...]` or of `["base64", ...]`; None as in `read`."""
        first = _FIRST_OF_BARE.match(body)
        cut = _cut(body, texts, first, first.group(1)) if first else None
        if cut is None:
            return None
        try:
            if any(mark != MARK for mark in _decode_marks(cut.rest)):
                return None
            return (yield from self._decoded(cut))
        except _WRONG:
            return None

    def _decoded(self, cut: _Cut) -> Generator[None, None, Vectors]:
        return (yield from _from_base64(cut.vectors) if cut.in_base64 else self.from_numbers(cut.vectors))

    def from_numbers(self, lists: list[memoryview]) -> Generator[None, None, Vectors]:
        """Raises ValueError where a list is not one of numbers, or not as long as the first."""
        vectors: Vectors | None = None
        step = max(1, _NUMBERS_BYTES // lists[0].nbytes)
        for i, each in enumerate(lists):
            if i and i % step == 0:
                yield
            # not by a name: the parser can go on only when nobody holds what it gave
            vector = np.frombuffer(cast(Any, self._parser.parse(each)).as_buffer(of_type="d"))
            if vectors is None:
                vectors = np.empty((len(lists), len(vector)), np.float32)
            if len(vector) != vectors.shape[1]:
                raise ValueError("vectors of several dimensions")
            vectors[i] = vector
        assert vectors is not None
        return vectors


def tokens_of(usage: msgspec.Raw) -> int | None:
    """As the server counted, in OpenAI's words; None: it did not. Whatever it says there, the vectors are right.

    Voyage tells only the total.
    """
    try:
        told = _decode_usage(usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return int(told.prompt_tokens or told.total_tokens or 0) or None


def _from_base64(strings: list[memoryview]) -> Generator[None, None, Vectors]:
    """Raises ValueError where a string is no base64 of whole float32."""
    step = max(1, _BASE64_BYTES // strings[0].nbytes)
    vectors = _decoded(strings[:step])
    if step >= len(strings):
        return vectors
    together = np.empty((len(strings), vectors.shape[1]), np.float32)
    for start in range(0, len(strings), step):
        together[start : start + step] = _decoded(strings[start : start + step]) if start else vectors
        yield
    return together


def _decoded(strings: list[memoryview]) -> Vectors:
    if _PADDING not in (strings[0][-1], strings[-1][-1]):
        values = pybase64.b64decode_as_bytearray(b"".join(strings), validate=True)
    else:  # padding ends what can be decoded at once
        vectors = [pybase64.b64decode(each, validate=True) for each in strings]
        if len(set(map(len, vectors))) > 1:
            raise ValueError("vectors of several dimensions")
        values = bytearray().join(vectors)
    if len(values) % (4 * len(strings)):
        raise ValueError("no whole float32 vectors")
    return np.frombuffer(values, "<f4").reshape(len(strings), -1)


def _cut(body: Body, texts: int, first: re.Match[bytes], key: bytes) -> _Cut | None:
    """`first` ends with the delimiter where the first vector begins, `key` with that of each other.

    None where there are not so many vectors, or not all of them as the first.
    """
    start, view = first.end(), memoryview(body)
    in_base64 = first.group(1) == b'"'
    end = body.find(b'"' if in_base64 else b"]", start)
    size, done = end - start, 0
    vectors: list[memoryview] = []
    rest: list[memoryview] = []
    while True:
        if end < 0 or end <= start or len(vectors) == texts:
            return None
        rest.append(view[done : start - 1])
        done = end + 1
        vectors.append(view[start:end] if in_base64 else view[start - 1 : end + 1])
        found = body.find(key, done)
        if found < 0:
            break
        start = found + len(key)
        end = start + size if in_base64 else body.find(b"]", start)
        if in_base64 and (end >= len(body) or body[end] != _QUOTE):
            return None
    rest.append(view[done:])
    whole = len(vectors) == texts and not (in_base64 and size % 4)
    return _Cut(vectors, (b"%d" % MARK).join(rest), in_base64) if whole else None
