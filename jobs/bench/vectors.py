"""Whether two outputs of the same rows hold the same vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from actors.output.folder import part_names
from jobs.agreement import LEAST_COSINE

_EXAMPLES = 5

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose two vectors are not the same, by its id, and their cosine."""

    id: int
    cosine: float


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Two outputs compared, or several pairs of them together.

    Of `rows` that are in both, `identical` are so bit for bit, and the cosine of `differing` is below what servers
    of one model come to. `least_cosine` and `largest_difference` (of any number) are over all of them.
    `only_in_one` rows are in one output only. `worst`: a few of those that differ, the least like first.
    """

    rows: int = 0
    identical: int = 0
    differing: int = 0
    only_in_one: int = 0
    least_cosine: float = 1.0
    largest_difference: float = 0.0
    worst: tuple[Difference, ...] = ()

    @property
    def same(self) -> bool:
        return not self.differing and not self.only_in_one

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            rows=self.rows + other.rows,
            identical=self.identical + other.identical,
            differing=self.differing + other.differing,
            only_in_one=self.only_in_one + other.only_in_one,
            least_cosine=min(self.least_cosine, other.least_cosine),
            largest_difference=max(self.largest_difference, other.largest_difference),
            worst=tuple(sorted((*self.worst, *other.worst), key=lambda each: each.cosine)[:_EXAMPLES]),
        )


def compare(some: Path, other: Path) -> Agreement:
    """Compare two output folders of one plan whose ids are the rows' positions, a part at a time."""
    found = Agreement()
    for name in sorted(part_names(some) | part_names(other)):
        found += _compare_part(_read(some / name), _read(other / name))
    return found


def in_words(found: Agreement) -> str:
    """What to tell the person."""
    rows = f"{found.rows:,} rows"
    if found.same:
        if found.identical == found.rows:
            return f"the same in both, bit for bit ({rows})"
        return (
            f"the same in both ({rows}): {found.identical:,} bit for bit, the others differ by at most "
            f"{found.largest_difference:.2g} in a number (cosine {found.least_cosine:.6f} at least)"
        )
    said = []
    if found.differing:
        ids = ", ".join(str(each.id) for each in found.worst)
        more = ", …" if found.differing > len(found.worst) else ""
        said.append(
            f"{found.differing:,} of {rows} have another vector, cosine down to {found.least_cosine:.4f} "
            f"(row {ids}{more})"
        )
    if found.only_in_one:
        said.append(f"{found.only_in_one:,} rows are in one of the two outputs only")
    return "NOT the same: " + "; ".join(said)


def _read(part: Path) -> tuple[Ids, Vectors]:
    """Ids and float32[n, dim], by id; none where there is no such part."""
    if not part.exists():
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    table = pq.read_table(part, columns=["id", "embedding"]).combine_chunks()
    ids = table.column("id").to_numpy()
    flat = table.column("embedding").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(ids), -1).astype(np.float32, copy=False)
    order = np.argsort(ids, kind="stable")
    return ids[order], vectors[order]


def _compare_part(some: tuple[Ids, Vectors], other: tuple[Ids, Vectors]) -> Agreement:
    ids, here, there = np.intersect1d(some[0], other[0], assume_unique=True, return_indices=True)
    only_in_one = len(some[0]) + len(other[0]) - 2 * len(ids)
    if not len(ids):
        return Agreement(only_in_one=only_in_one)
    ours, theirs = some[1][here], other[1][there]
    equal = (ours.view(np.uint32) == theirs.view(np.uint32)).all(axis=1)
    cosines = np.where(equal, 1.0, _cosines(ours, theirs))
    return Agreement(
        rows=len(ids),
        identical=int(equal.sum()),
        differing=int((cosines < LEAST_COSINE).sum()),
        only_in_one=only_in_one,
        least_cosine=float(cosines.min()),
        largest_difference=float(np.abs(ours - theirs).max()),
        worst=tuple(_worst(ids, cosines)),
    )


def _worst(ids: Ids, cosines: npt.NDArray[np.float64]) -> Iterator[Difference]:
    for place in np.argsort(cosines)[:_EXAMPLES]:
        if cosines[place] < LEAST_COSINE:
            yield Difference(id=int(ids[place]), cosine=round(float(cosines[place]), 6))


def _cosines(ours: Vectors, theirs: Vectors) -> npt.NDArray[np.float64]:
    dots = np.einsum("ij,ij->i", ours, theirs, dtype=np.float64)
    lengths = [np.sqrt(np.einsum("ij,ij->i", each, each, dtype=np.float64)) for each in (ours, theirs)]
    cosines: npt.NDArray[np.float64] = np.minimum(1.0, dots / (lengths[0] * lengths[1]))
    return cosines
