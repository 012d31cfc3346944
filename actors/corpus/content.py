"""The content of a file that is read line by line: decompressed, forward from any place where reading can start."""

from __future__ import annotations

import io
import zlib
from bisect import bisect_right
from typing import Any

from actors.corpus.compression import COMPRESSED, Inflated
from actors.corpus.storage import bare, buffer_bytes, open_input

LONGEST_LINE = 256 << 20  # bytes


class Content:
    """Bytes from where `go` led; from the beginning at first. `at` counts those that were read since its `byte`.

    `summed` keeps a checksum of the file as it is read: only for one pass from beginning to end.
    """

    def __init__(self, path: str, *, summed: bool = False) -> None:
        self._path = path
        self._compression = next((each for each in COMPRESSED if bare(path).lower().endswith(each)), None)
        self._summed = summed
        self._open()

    def _open(self) -> None:
        file = open_input(self._path)
        self._any_place = file.seekable()
        self._file = _Summed(file) if self._summed else file
        self._plain = io.BufferedReader(self._file, buffer_bytes(self._path))
        self._begin(0)

    def _begin(self, byte: int) -> None:
        self._byte, self.at = byte, 0
        self._members = [(0, byte)]
        self._stream = self._plain
        if self._compression:
            inflated = Inflated(self._plain, self._compression, byte, self._note)
            self._stream = io.BufferedReader(inflated, buffer_bytes(self._path))

    def _note(self, given: int, byte: int) -> None:
        self._members.append((given, byte))

    def go(self, byte: int, skip: int) -> None:
        """Go to `skip` bytes of content after `byte`: forward at the cost of what is between, back from `byte`."""
        if byte != self._byte or skip < self.at:
            if self._any_place:
                self._plain.seek(byte)
                self._begin(byte)
            else:
                self._plain.close()
                self._open()
        while (ahead := skip - self.at) and self.read(min(ahead, buffer_bytes(self._path))):
            pass

    def place(self, at: int) -> tuple[int, int]:
        """(byte, skip) for `go` of what is `at` bytes of content after where reading began, and was read."""
        if not self._any_place:
            return 0, at
        if not self._compression:
            return self._byte + at, 0
        given, byte = self._members[bisect_right(self._members, at, key=lambda member: member[0]) - 1]
        return byte, at - given

    def peek(self) -> bytes:
        """Some of what comes next, at least a byte of it unless nothing does."""
        return self._stream.peek(1)

    def read(self, size: int) -> bytes:
        """`size` bytes; fewer only at the end."""
        data = self._stream.read(size)
        self.at += len(data)
        return data

    def readline(self) -> bytes:
        """Through the next newline or to the end; b"" at the end. Raises OSError when it is too long for a line."""
        line = self._stream.readline(LONGEST_LINE + 1)
        self.at += len(line)
        if len(line) > LONGEST_LINE:
            raise OSError(f"it has a line longer than {LONGEST_LINE >> 20} MiB; a row has to be a line")
        return line

    def readlines(self, size: int) -> list[bytes]:
        """The next lines, of at least `size` bytes together; fewer only at the end."""
        data = self.read(size)
        if data and not data.endswith(b"\n"):
            data += self.readline()
        return io.BytesIO(data).readlines()

    @property
    def checksum(self) -> str:
        """CRC-32 of the file as stored, as 8 hexadecimal digits."""
        assert isinstance(self._file, _Summed)
        return f"{self._file.checksum:08x}"

    @property
    def size(self) -> int:
        """Bytes of the file as stored that were read."""
        assert isinstance(self._file, _Summed)
        return self._file.size

    def close(self) -> None:
        self._plain.close()


class _Summed(io.RawIOBase):
    """Passes a file on and keeps its CRC-32 and size."""

    def __init__(self, file: Any) -> None:
        self._inner = file
        self.checksum = self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._inner.readinto(buffer)
        self.checksum = zlib.crc32(memoryview(buffer)[:count], self.checksum)
        self.size += count
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()
