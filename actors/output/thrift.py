"""Thrift's compact protocol, as far as Parquet's footer and page headers use it.

A struct is a dict from field number to (type, value), a list is a `List`; nothing here knows Parquet.
Source: thrift-compact-protocol.md of Apache Thrift.
"""

from __future__ import annotations

from typing import Any, NamedTuple

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]


class List(NamedTuple):
    """Values of one type; a bool is a BYTE of 1 or 2 in it."""

    kind: int
    values: list[Any]


def encode(struct: Struct) -> bytes:
    """The bytes of `struct`, its fields in the order of their numbers."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def decode(data: bytes) -> Struct:
    """The struct that `data` begins with. Raises ValueError where a type is not known, IndexError at its end."""
    return _Reader(data).struct()


def varint(number: int) -> bytes:
    """`number` >= 0 in as few bytes as it needs, seven bits in each."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number in sorted(struct):
        kind, value = struct[number]
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            out += varint(_zigzag(number))
        _write(out, kind, value)
        last = number
    out.append(0)


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        out += varint(_zigzag(value))
    elif kind == BINARY:
        out += varint(len(value)) + value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        count = len(value.values)
        out += bytes([count << 4 | value.kind]) if count < 15 else bytes([0xF0 | value.kind]) + varint(count)
        for each in value.values:
            _write(out, value.kind, each)
    elif kind in (BYTE, DOUBLE):
        out += value
    elif kind not in (TRUE, FALSE):
        raise ValueError(f"no Thrift type {kind}")


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> Struct:
        struct: Struct = {}
        number = 0
        while head := self._bytes(1)[0]:
            step, kind = head >> 4, head & 0x0F
            number = number + step if step else self._signed()
            struct[number] = kind, self._value(kind)
        return struct

    def _value(self, kind: int) -> Any:
        if kind in (I16, I32, I64):
            return self._signed()
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            head = self._bytes(1)[0]
            count, inner = head >> 4, head & 0x0F
            count = self._varint() if count == 15 else count
            inner = BYTE if inner in (TRUE, FALSE) else inner
            return List(inner, [self._value(inner) for _ in range(count)])
        if kind in (BYTE, DOUBLE):
            return self._bytes(1 if kind == BYTE else 8)
        if kind in (TRUE, FALSE):
            return kind == TRUE
        raise ValueError(f"no Thrift type {kind}")

    def _bytes(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise IndexError("the struct is cut off")
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._bytes(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def _signed(self) -> int:
        number = self._varint()
        return number >> 1 if not number & 1 else -(number >> 1) - 1
