"""Texts that stand in several rows: one row of them is sent, the others get what comes of it.

A row whose text was seen in no other row that is still open, and is not kept, is the first of its text and is sent.
All later ones are its copies: they get the vector or the reject of the first, at once if it is there, otherwise
when it comes. So no text is on its way twice, whatever becomes of the request; and what a request is made of, how
it is cut, refused or given back, concerns first rows only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from actors.embedder.batch import Batch
from actors.embedder.kept import Kept
from actors.embedder.open_part import OpenPart
from actors.output.parts import Reject

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ROW_BITS = 32  # a place is the number of a source and a row in it
_ROW = (1 << _ROW_BITS) - 1
_KEPT = 0  # the number of what is kept


@dataclass(slots=True)
class Tally:
    """What came of the texts that one server was sent: `texts` with a vector, `rows` that these stand for.

    Of `truncated` of the rows only the beginning was embedded. `number` is how rows name it, from 1.
    """

    number: int
    texts: int = 0
    rows: int = 0
    truncated: int = 0


class Source(Protocol):
    """Where first rows are: a part that is open, or what is kept."""

    def text(self, row: int) -> str: ...
    def settled_by(self, row: int) -> int: ...
    def reject_of(self, row: int) -> Reject | None: ...
    def is_cut(self, row: int) -> bool: ...
    def vectors(self, rows: Ints) -> npt.NDArray[np.floating]: ...


class Copies:
    """Knows of every open row which other has its text. One event loop; nothing here blocks.

    Texts are found by their digests and then compared, so that no two different ones are ever taken for the same.
    """

    def __init__(self, kept: Kept | None = None) -> None:
        self._kept = kept or Kept()
        self._first: dict[bytes, int] = {}  # digest of a text: place of its first row
        self._sources: dict[int, Source] = {_KEPT: self._kept}
        self._numbers = count(_KEPT + 1)
        self._number_of: dict[OpenPart, int] = {}
        self._firsts: dict[int, Ints] = {}  # by number of a part: its rows that are the first of their text,
        self._repeated: dict[int, set[int]] = {}  # and which of them have copies
        self._waiting: dict[int, list[int]] = {}  # place of a first row: places of its copies, until it is settled
        self._tallies: list[Tally] = []

    def tally(self) -> Tally:
        """A new account, of one server."""
        self._tallies.append(Tally(len(self._tallies) + 1))
        return self._tallies[-1]

    def add(self, part: OpenPart) -> Ints:
        """The sendable rows of `part` that have to be sent. The others are copies, some of them settled by now."""
        rows = part.sendable
        number = self._number_of[part] = next(self._numbers)
        self._sources[number] = part
        places = (number << _ROW_BITS) + rows
        found = np.fromiter(
            map(self._first.setdefault, part.digests(rows), places.tolist()), np.int64, count=len(rows)
        )
        first = found == places
        self._firsts[number] = rows[first]
        if first.all():
            return rows
        copies, origins = rows[~first], found[~first]
        same = self._compared(part, copies, origins)
        self._attach(part, copies[same], origins[same])
        return np.sort(np.concatenate([rows[first], copies[~same]]))

    def place(self, batch: Batch, vectors: npt.NDArray[np.float32], tally: Tally, cut: Mask | None = None) -> None:
        """Hand the rows of `batch` and their copies their vectors, float32[len(batch), dim].

        `cut` says which texts were embedded in their beginning only; None: none.
        """
        cut = cut if cut is not None and cut.any() else None
        taken = batch.place(vectors, tally.number, cut)
        tally.texts += taken
        tally.rows += taken
        tally.truncated += int(cut.sum()) if cut is not None else 0
        for part, rows, of in self._released(batch):
            tally.rows += part.place(rows, vectors[of], tally.number, cut[of] if cut is not None else None)
            tally.truncated += int(cut[of].sum()) if cut is not None else 0

    def refuse(self, batch: Batch, reason: str, status: int | None, detail: str) -> None:
        """Reject the rows of `batch` and their copies."""
        batch.refuse(reason, status, detail)
        for part, rows, _ in self._released(batch):
            part.refuse(rows, reason, status, detail)

    def forget(self, part: OpenPart) -> None:
        """A complete part is about to be closed: keep what repeated in it, and others while there is room."""
        number = self._number_of.pop(part)
        del self._sources[number]
        firsts, repeated = self._firsts.pop(number), self._repeated.pop(number, set())
        deque(map(self._first.__delitem__, part.digests(firsts)), maxlen=0)
        for row in sorted(repeated):
            self._keep(part, row)
        if self._kept.has_room:
            for row in firsts.tolist():
                if row not in repeated and self._kept.has_room:
                    self._keep(part, row)

    def _compared(self, part: OpenPart, copies: Ints, origins: Ints) -> Mask:
        """Which rows of `part` have the very text of the place that their digest led to."""
        texts = part.texts(copies)
        return np.fromiter(
            (
                text == self._sources[place >> _ROW_BITS].text(place & _ROW)
                for text, place in zip(texts, origins.tolist(), strict=True)
            ),
            np.bool_,
            count=len(copies),
        )

    def _attach(self, part: OpenPart, copies: Ints, origins: Ints) -> None:
        """Give copies what there is for them; let the others wait."""
        base = self._number_of[part] << _ROW_BITS
        settled: dict[int, list[tuple[int, int]]] = {}  # by number of the source: row in it, row in `part`
        for row, place in zip(copies.tolist(), origins.tolist(), strict=True):
            number, origin = place >> _ROW_BITS, place & _ROW
            if number == _KEPT:
                self._kept.touch(origin)
            else:
                self._repeated.setdefault(number, set()).add(origin)
            if self._sources[number].settled_by(origin):
                settled.setdefault(number, []).append((origin, row))
            else:
                self._waiting.setdefault(place, []).append(base + row)
        for number, pairs in settled.items():
            self._copy(self._sources[number], part, pairs)

    def _copy(self, source: Source, part: OpenPart, pairs: Iterable[tuple[int, int]]) -> None:
        """Settle rows of `part` as rows of `source` with their text were; `pairs` are (row there, row here)."""
        alike: dict[int, list[tuple[int, int]]] = {}  # by who brought them
        for origin, row in pairs:
            by, reject = source.settled_by(origin), source.reject_of(origin)
            if reject is not None:
                part.refuse(np.array([row]), reject.reason, reject.status, reject.detail, by)
            else:
                alike.setdefault(by, []).append((origin, row))
        for by, some in alike.items():
            origins, rows = np.array(some, np.int64).T
            cut = np.array([source.is_cut(origin) for origin in origins.tolist()])
            self._tallies[by - 1].rows += part.place(rows, source.vectors(origins), by, cut)
            self._tallies[by - 1].truncated += int(cut.sum())

    def _released(self, batch: Batch) -> Iterator[tuple[OpenPart, Ints, Ints]]:
        """The copies that waited for `batch`, by part: their rows in it, and which texts of `batch` they have."""
        if not self._waiting:
            return
        found: list[int] = []
        of: list[int] = []
        at = 0
        for each in batch.places:
            base = self._number_of[each.part] << _ROW_BITS
            for row in each.rows.tolist():
                if waiting := self._waiting.pop(base + row, None):
                    found += waiting
                    of += [at] * len(waiting)
                at += 1
        if not found:
            return
        order = np.argsort(found)
        places, texts = np.array(found)[order], np.array(of)[order]
        numbers, rows = places >> _ROW_BITS, places & _ROW
        edges = np.flatnonzero(np.diff(numbers)) + 1
        for start, stop in pairwise((0, *edges.tolist(), len(places))):
            part = self._sources[int(numbers[start])]
            assert isinstance(part, OpenPart)
            yield part, rows[start:stop], texts[start:stop]

    def _keep(self, part: OpenPart, row: int) -> None:
        digest, reject = part.digest_of(row), part.reject_of(row)
        vector = None if reject else part.vectors(row)
        by, cut = part.settled_by(row), part.is_cut(row)
        slot, gone = self._kept.put(digest, part.text(row), vector, reject, by, cut=cut)
        for each in gone:
            del self._first[each]
        if slot is not None:
            self._first[digest] = (_KEPT << _ROW_BITS) + slot
