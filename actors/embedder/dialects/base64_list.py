"""An embedding list of base64 strings -> vectors, a third of the CPU of decoding each for itself.

All strings are as long as the first. They are cut out of the answer and decoded together; what is left is a small
JSON that is decoded, and so checked, as usual.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import numpy.typing as npt
import pybase64

_FIRST = re.compile(rb'"embedding"\s*:\s*"')
_LOOK_BYTES = 4096  # where the first vector begins in every answer we know
_QUOTE = ord('"')


class _Item(msgspec.Struct):
    index: int
    embedding: str


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Rest(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Rest).decode


def read(body: bytes, texts: int) -> tuple[npt.NDArray[np.float32], int | None] | None:
    """float32[texts, dim] in the order of `index`, and the tokens that the server counted.

    None when the vectors are no base64 strings of one length, or when anything is wrong: whoever reads it more
    slowly says what.
    """
    cut = _cut(body, texts)
    if cut is None:
        return None
    strings, rest = cut
    try:
        reply = _decode(rest)
        values = _values(strings)
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError, RecursionError):
        return None
    if len(reply.data) != texts or any(item.embedding for item in reply.data):
        return None
    vectors = np.frombuffer(values, "<f4").reshape(texts, -1)
    index = [item.index for item in reply.data]
    if index != list(range(texts)):
        if sorted(index) != list(range(texts)):
            return None
        vectors = vectors[np.argsort(index)]
    return vectors, reply.usage.prompt_tokens or None if reply.usage else None


def _cut(body: bytes, texts: int) -> tuple[list[memoryview], bytes] | None:
    """The strings, all of one length, and the answer without them."""
    first = _FIRST.search(body, 0, _LOOK_BYTES)
    if not first or (end := body.find(b'"', first.end())) < 0:
        return None
    key, start, size, view = first.group(), first.end(), end - first.end(), memoryview(body)
    strings, rest = [view[start:end]], [view[:start]]
    while (found := body.find(key, end)) >= 0:
        rest.append(view[end : found + len(key)])
        start = found + len(key)
        end = start + size
        if len(strings) == texts or end >= len(body) or body[end] != _QUOTE:
            return None
        strings.append(view[start:end])
    rest.append(view[end:])
    return (strings, b"".join(rest)) if len(strings) == texts and size and size % 4 == 0 else None


def _values(strings: list[memoryview]) -> bytearray:
    """The bytes of all vectors. Raises ValueError where a string is no base64 of whole float32."""
    if strings[0][-1] != ord("="):
        values = pybase64.b64decode_as_bytearray(b"".join(strings), validate=True)
    else:  # padding ends what can be decoded at once
        values = bytearray().join([pybase64.b64decode(each, validate=True) for each in strings])
    if len(values) % (4 * len(strings)):
        raise ValueError("no whole float32 vectors")
    return values
