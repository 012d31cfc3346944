"""The plan: input files -> parts. A pure function of the listing and a few settings.

Because a part's name and content follow from the plan alone, the output folder is the only ledger: what is
left to do is the plan minus the listing, at any moment, after any crash, with any pool and any batch size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from actors.messages import Lease, Part, SourceFile, Start

Ints = npt.NDArray[np.int64]

PART_NAME = re.compile(r"part-(\d{5,})-(\d{12,})\.parquet")
_MOST_FILES, _MOST_ROWS = 10**6, 10**12  # rows of a file
_USUAL = b"part-00000-000000000000.parquet"
_USUAL_LENGTH = len(_USUAL)
_DIGITS_AT = np.frombuffer(_USUAL, np.uint8) == ord("0")
_LETTERS = np.frombuffer(_USUAL, np.uint8)[~_DIGITS_AT]
_PART_BYTES = 32 << 20  # of vectors: what a crash costs and an embedder's memory grow with it
_MIN_PART_ROWS, _MAX_PART_ROWS = 512, 16384
_ENOUGH_PARTS = 32  # for a pool to share a small corpus
_BEGINNING = Start()


def part_name(file: int, offset: int) -> str:
    """Of the part that begins at row `offset` of this file."""
    return f"part-{file:05d}-{offset:012d}.parquet"


def _places(names: Iterable[str]) -> Ints:
    """int64[n, 2]: file and first row, of those names that `part_name` gives.

    Nearly all are as long as the first part's: a million of them are read as one array.
    """
    usual: list[str] = []
    other: list[str] = []
    for name in names:
        (usual if len(name) == _USUAL_LENGTH and name.isascii() else other).append(name)
    letters = np.array(usual, f"S{_USUAL_LENGTH}").view(np.uint8).reshape(-1, _USUAL_LENGTH)
    digits = letters[:, _DIGITS_AT] - np.uint8(ord("0"))  # what comes before 0 becomes large
    good = (digits < 10).all(axis=1) & (letters[:, ~_DIGITS_AT] == _LETTERS).all(axis=1)
    numbers = digits[good].astype(np.int64)
    file, row = numbers[:, :5] @ 10 ** np.arange(4, -1, -1), numbers[:, 5:] @ 10 ** np.arange(11, -1, -1)
    found = (match for name in other if (match := PART_NAME.fullmatch(name)))
    rest = [(int(match[1]), int(match[2]), match[0]) for match in found]
    known = [
        (file, row)
        for file, row, name in rest
        if file < _MOST_FILES and row < _MOST_ROWS and part_name(file, row) == name
    ]
    return np.concatenate([np.stack([file, row], axis=1), np.array(known, np.int64).reshape(-1, 2)])


def choose_rows_per_part(rows: int, row_bytes: int) -> int:
    """A power of two: at most 32 MiB of vectors, fewer rows in a small corpus. Same input, same answer."""
    most = min(_MAX_PART_ROWS, _PART_BYTES // row_bytes, rows // _ENOUGH_PARTS)
    return max(_MIN_PART_ROWS, 1 << max(0, most.bit_length() - 1))


@dataclass(frozen=True)
class Plan:
    """Files in sorted order, cut into parts of `rows_per_part` rows.

    No part crosses a file's end or a multiple of `rows_per_batch` (the data batches of `run --batch N`).
    Only the first `limit` rows count. Size and cost follow the files and data batches, not the rows.
    `checkpoints[i]` is int64[n, 4], the places where reading file i can start, each in the order of `Start`.
    """

    files: tuple[SourceFile, ...]
    rows_per_part: int
    rows_per_batch: int
    limit: int | None = None
    checkpoints: tuple[Ints, ...] = ()

    @cached_property
    def rows(self) -> int:
        """Rows of the input that count."""
        total = sum(file.rows for file in self.files)
        return total if self.limit is None else min(total, self.limit)

    @cached_property
    def _segments(self) -> Ints:
        """int64[n, 4]: file, offset in it, rows, position in the input, of each run between two forced cuts."""
        segments: list[tuple[int, int, int, int]] = []
        position = 0
        for index, file in enumerate(self.files):
            offset, rows = 0, min(file.rows, self.rows - position)
            while offset < rows:
                take = min(rows - offset, self.rows_per_batch - position % self.rows_per_batch)
                segments.append((index, offset, take, position))
                offset += take
                position += take
        return np.array(segments, np.int64).reshape(-1, 4)

    @cached_property
    def _first_parts(self) -> Ints:
        """int64[n + 1]: index of each segment's first part; the last is the number of parts."""
        counts = -(-self._segments[:, 2] // self.rows_per_part)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def parts(self) -> int:
        return int(self._first_parts[-1])

    def part(self, index: int) -> Part:
        return self._run(index, 1)[0]

    def _run(self, first: int, count: int) -> tuple[Part, ...]:
        """Consecutive parts; what they share is looked up once, since the queue makes thousands a second."""
        parts: list[Part] = []
        segment = int(np.searchsorted(self._first_parts, first, "right")) - 1
        while len(parts) < count:
            file, start, rows, position = self._segments[segment].tolist()
            begin, end = self._first_parts[segment : segment + 2].tolist()
            for index in range(first + len(parts), min(first + count, end)):
                skip = (index - begin) * self.rows_per_part
                parts.append(
                    Part(
                        index=index,
                        name=part_name(file, start + skip),
                        offset=start + skip,
                        first_row=position + skip,
                        rows=min(self.rows_per_part, rows - skip),
                        start=self._start(file, start + skip),
                    )
                )
            segment += 1
        return tuple(parts)

    def indexes_of(self, names: Iterable[str]) -> Ints:
        """The parts that have one of these names, int64, sorted; a name of no part is left out."""
        if not self.parts:
            return np.zeros(0, np.int64)
        # segments are in the order of file and offset, and so can be searched by the two as one number
        segments, (files, rows) = self._segments, _places(names).T
        at = np.searchsorted(segments[:, 0] * _MOST_ROWS + segments[:, 1], files * _MOST_ROWS + rows, "right") - 1
        skip = rows - segments[at, 1]
        there = (at >= 0) & (segments[at, 0] == files) & (skip < segments[at, 2]) & (skip % self.rows_per_part == 0)
        return np.unique(self._first_parts[at[there]] + skip[there] // self.rows_per_part)

    def file_of(self, index: int) -> int:
        """Which file part `index` is cut from."""
        segment = int(np.searchsorted(self._first_parts, index, "right")) - 1
        return int(self._segments[segment, 0])

    def end_of_file(self, index: int) -> int:
        """The index behind the last part of the file that part `index` is cut from."""
        return int(self._first_parts[np.searchsorted(self._segments[:, 0], self.file_of(index), "right")])

    def lease(self, first: int, count: int) -> Lease:
        """Parts `first` to `first + count - 1`, which must be of one file."""
        return Lease(self.files[self.file_of(first)], self._run(first, count))

    def parts_of_batch(self, batch: int | None) -> range:
        """Indexes of the parts of data batch `batch` (1-based); of all parts when None; empty past the end."""
        if batch is None:
            return range(self.parts)
        first = np.searchsorted(self._segments[:, 3], (batch - 1) * self.rows_per_batch)
        last = np.searchsorted(self._segments[:, 3], batch * self.rows_per_batch)
        return range(int(self._first_parts[first]), int(self._first_parts[last]))

    def rows_of(self, parts: range | Ints) -> int:
        """Rows of these parts together; quick for a million of them."""
        return int(self.rows_each(parts).sum())

    def rows_each(self, parts: range | Ints) -> Ints:
        """Rows of each of these parts."""
        indexes = np.asarray(parts, np.int64)
        segment = np.searchsorted(self._first_parts, indexes, "right") - 1
        skip = (indexes - self._first_parts[segment]) * self.rows_per_part
        rows: Ints = np.minimum(self.rows_per_part, self._segments[segment, 2] - skip)
        return rows

    @property
    def batches(self) -> int:
        """How many data batches the input has."""
        return -(-self.rows // self.rows_per_batch)

    def _start(self, file: int, row: int) -> Start:
        if not self.checkpoints or not len(self.checkpoints[file]):
            return _BEGINNING
        points = self.checkpoints[file]
        at = int(np.searchsorted(points[:, 0], row, "right")) - 1
        return Start(*(int(value) for value in points[at]))
