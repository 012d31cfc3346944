"""Ids that stand more than once in an output, found in bounded memory: by 64-bit hash, then by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Scan = Callable[[], Iterator[tuple[str, pa.Array]]]

_AT_ONCE = 1 << 27  # hashes held at a time: 1 GiB, and as much again to put them together
_SUSPECTS = 1 << 20
_CANDIDATES = 4096
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no two ids meet; the high bits mix all the lower ones


@dataclass(frozen=True, slots=True)
class Repeat:
    """The id `value` stands in row `row` of `file`, and in row `first_row` of `first_file` before.

    `count` is how many rows of the output repeat an earlier id. It is by 64-bit hash where ids are strings,
    so one too many about once in a thousand outputs of 200 million rows that have a repeat.
    """

    value: str | int
    first_file: str
    first_row: int
    file: str
    row: int
    count: int


def find_repeat(scan: Scan, rows: int, at_once: int = _AT_ONCE) -> Repeat | None:
    """The first id that stands twice in what `scan` yields, of `rows` rows in all; None when each stands once.

    `scan()` yields (file name, ids as integers, strings or 16 bytes) and is called again for each further pass: one
    for every `at_once` rows, and one more when hashes meet. Null ids are left out.
    """
    count, suspects = _meetings(scan, rows // at_once + 1)
    if not len(suspects):
        return None
    seen: dict[str | int, tuple[str, int]] = {}
    seen_hashes: set[int] = set()
    for file, ids in scan():
        valid = np.flatnonzero(ids.is_valid())
        hashes = _hashes(ids)
        nearest = np.searchsorted(suspects, hashes).clip(max=len(suspects) - 1)
        for place in np.flatnonzero(suspects[nearest] == hashes):
            row = int(valid[place])
            value = id_at(ids, row)
            if value in seen:
                return Repeat(value, *seen[value], file, row, count)
            seen[value] = file, row
            seen_hashes.add(int(hashes[place]))
        if len(seen) >= _CANDIDATES:
            suspects = np.array(sorted(seen_hashes), np.uint64)
    return None


def id_at(ids: pa.Array, row: int) -> str | int:
    """One id, also where it is a string that is not UTF-8; a UUID as it is usually written."""
    value = _as_bytes(ids.slice(row, 1))[0].as_py()
    if pa.types.is_fixed_size_binary(ids.type):
        return str(UUID(bytes=value))
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else int(value)


def _meetings(scan: Scan, passes: int) -> tuple[int, Hashes]:
    """How many hashes were there before, and which (some, when there are very many)."""
    count, suspects = 0, np.zeros(0, np.uint64)
    for number in range(passes):
        chunks = [np.zeros(0, np.uint64)]
        for _, ids in scan():
            hashes = _hashes(ids)
            chunks.append(hashes[(hashes >> np.uint64(32)) % np.uint64(passes) == number])
        together = np.concatenate(chunks)
        del chunks
        together.sort()
        again = together[1:][together[1:] == together[:-1]]
        count += len(again)
        suspects = np.unique(np.concatenate([suspects, again]))[:_SUSPECTS]
    return count, suspects


def _hashes(ids: pa.Array) -> Hashes:
    """uint64[n] of the ids that are not null."""
    known = ids.drop_null()
    if pa.types.is_integer(ids.type):
        numbers: Hashes = known.to_numpy().astype(np.uint64)
        return numbers * _SPREAD
    # The interpreter's own hash, keyed anew in each process so that no input can aim at it; 0.5 s a million ids
    values = _as_bytes(known).to_pylist()
    return np.fromiter(map(hash, values), np.int64, len(values)).view(np.uint64)


def _as_bytes(ids: pa.Array) -> pa.Array:
    """Strings as bytes: Parquet does not check that they are UTF-8."""
    return ids if pa.types.is_integer(ids.type) else ids.cast(pa.binary())
