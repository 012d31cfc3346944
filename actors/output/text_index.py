"""Where in an earlier output the vector of a text is: sorted digests on disk, of any number of rows.

24 bytes a row: three files of uint64, the first and the second half of each digest, ascending, and its place.
Where the output is in an object store the index lies there too, and each embedder has a copy on its disk.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from actors.output.digests import Words
from actors.output.store import Place, Store, store_of

Ints = npt.NDArray[np.int64]

_NAMES = ("first", "second", "place")
_ROW_BITS = 32  # a place is the number of a part and a row in it
_BUCKET_ROWS = 1 << 22  # sorted at a time, in 250 MB
_MOST_BUCKETS = 256  # open files
_COPIED_BYTES = 16 << 20  # at a time


def build_at(place: Place, parts: Iterable[tuple[int, Words]], most_rows: int) -> int:
    """As `build`, in a folder, or by way of one to an object store."""
    store = store_of(place)
    if store.folder:
        return build(store.folder, parts, most_rows)
    with tempfile.TemporaryDirectory(prefix="rayembed-") as folder:
        texts = build(Path(folder) / "index", parts, most_rows)
        for name in _NAMES if texts else ():
            _publish(store, name, np.memmap(Path(folder) / "index" / name, np.uint8, "r").data)
        return texts


def open_at(place: Place) -> TextIndex:
    """The index in a folder; of one in an object store a copy, which needs no name any more once it is mapped."""
    store = store_of(place)
    if store.folder:
        return TextIndex(store.folder)
    with tempfile.TemporaryDirectory(prefix="rayembed-") as folder:
        for name in _NAMES:
            _copy(store, name, Path(folder) / name)
        return TextIndex(Path(folder))


def _publish(store: Store, name: str, content: memoryview) -> None:
    store.publish(name, lambda file: file.write(content))


def _copy(store: Store, name: str, path: Path) -> None:
    with store.open(name) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, _COPIED_BYTES)


def build(folder: Path, parts: Iterable[tuple[int, Words]], most_rows: int) -> int:
    """Make `folder` the index of `parts`, numbers and digests; how many different texts that are.

    `most_rows` is about how many rows there are: they are sorted in buckets, by the first bits of their digests.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bits = (min(_MOST_BUCKETS, 1 + most_rows // _BUCKET_ROWS) - 1).bit_length()
    buckets = [folder / f"bucket-{number}" for number in range(1 << bits)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in buckets]
        for part, digests in parts:
            for bucket, rows in _shared_out(part, digests, bits):
                rows.tofile(files[bucket])
    texts = 0
    with ExitStack() as stack:
        columns = [stack.enter_context((folder / name).open("wb")) for name in _NAMES]
        for path in buckets:
            rows = _sorted_once(np.fromfile(path, np.uint64).reshape(-1, 3))
            texts += len(rows)
            for column, file in enumerate(columns):
                rows[:, column].tofile(file)
            path.unlink()
    return texts


class TextIndex:
    """The index in a folder, mapped: it takes as much memory as there is to spare."""

    def __init__(self, folder: Path) -> None:
        self._first, self._second, self._place = (np.memmap(folder / name, np.uint64, "r") for name in _NAMES)

    def find(self, digests: Words) -> tuple[Ints, Ints, Ints]:
        """Which of `digests` are there, and the part and the row of each, by part and row."""
        order = np.argsort(digests[:, 0])  # so that the search goes through the file once
        asked = digests[order]
        at = np.minimum(np.searchsorted(self._first, asked[:, 0]), len(self._first) - 1)
        there = (self._first[at] == asked[:, 0]) & (self._second[at] == asked[:, 1])
        places = self._place[at[there]]
        which = order[there]
        by_place = np.argsort(places, kind="stable")
        which, places = which[by_place], places[by_place].astype(np.int64)
        return which, places >> _ROW_BITS, places & ((1 << _ROW_BITS) - 1)


def _shared_out(part: int, digests: Words, bits: int) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """Bucket and records of the digests of a part."""
    places = np.arange(len(digests), dtype=np.uint64) + np.uint64(part << _ROW_BITS)
    records = np.column_stack([digests, places])
    if not bits:
        yield 0, records
        return
    buckets = (records[:, 0] >> np.uint64(64 - bits)).astype(np.int64)
    order = np.argsort(buckets, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(buckets[order])) + 1):
        if len(some):
            yield int(buckets[some[0]]), records[some]


def _sorted_once(records: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """By digest, each once."""
    records = records[np.argsort(records[:, 0])]
    again = (records[1:, 0] == records[:-1, 0]) & (records[1:, 1] == records[:-1, 1])
    return records[np.concatenate([[True], ~again])] if len(records) else records
