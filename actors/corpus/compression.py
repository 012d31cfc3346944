"""Compressed content as a stream, and the places in the file where decompression can start: members and frames."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BLOCK = 256 << 10  # of the file, at a time
_LARGEST_WINDOW = 31  # 2 GiB: archives made with `zstd --long=31` are common; memory is taken as a file needs it


class Member(Protocol):
    """The decompressor of one gzip member or one zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes:
        """What came after the end."""
        ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, most: int, /) -> bytes:
        """At most `most` bytes of content; what is left of `data` is kept for the next call."""
        ...


class _GzipMember:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self._rest = b""

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._rest

    def decompress(self, data: bytes, most: int) -> bytes:
        content = self._inflate.decompress(self._rest + data, most)
        self._rest = self._inflate.unconsumed_tail
        return content


def _zstd_frame() -> Member:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW}
    return zstd.ZstdDecompressor(options=options)


_MEMBERS: dict[str, Callable[[], Member]] = {".gz": _GzipMember, ".zst": _zstd_frame}
COMPRESSED = tuple(_MEMBERS)  # endings of file names
_DAMAGE = (zlib.error, zstd.ZstdError, EOFError)


class Inflated(io.RawIOBase):
    """What comes out of `file`, read on from where a member begins, byte `start` of it.

    `on_member` is told (content before it, its byte in the file) as each member begins. Zeros after a member are
    padding. Raises OSError when the file is damaged or ends in a member. Closing it leaves `file` open.
    """

    def __init__(
        self, file: Any, ending: str, start: int, on_member: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self._file = file
        self._new_member = _MEMBERS[ending]
        self._on_member = on_member
        self._member: Member | None = None
        self._read = start  # bytes of the file
        self._given = 0  # bytes of content
        self._next = b""  # what was read and belongs to the next member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            if self._member is None and not self._begin():
                return 0
            content = self._more(len(buffer))
        buffer[: len(content)] = content
        self._given += len(content)
        return len(content)

    def _more(self, most: int) -> bytes:
        member = self._member
        assert member is not None
        data = b""
        if member.needs_input:
            data, self._next = self._next or self._block(), b""
            if not data:
                raise OSError(f"it ends in the middle of compressed data, at byte {self._read}: is it truncated?")
        try:
            content = member.decompress(data, most)
        except _DAMAGE as error:
            raise OSError(f"its compressed data are damaged before byte {self._read} ({error})") from error
        if member.eof:
            self._next = member.unused_data
            self._member = None
        return content

    def _begin(self) -> bool:
        """The next member, past any padding; False at the end of the file."""
        while not (rest := self._next.lstrip(b"\0")):
            self._next = self._block()
            if not self._next:
                return False
        self._next = rest
        self._member = self._new_member()
        self._on_member(self._given, self._read - len(rest))
        return True

    def _block(self) -> bytes:
        data: bytes = self._file.read(_BLOCK)
        self._read += len(data)
        return data
