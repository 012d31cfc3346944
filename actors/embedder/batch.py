"""The texts of one request, and where their vectors belong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from actors.embedder.open_part import OpenPart

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Places:
    """Rows of one open part."""

    part: OpenPart
    rows: Ints


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one request, and where their vectors belong, in the same order.

    `lengths` are the texts' UTF-8 bytes; `canary` is the number of the canary that it is, 0: none.
    `truncated`: its texts are the beginnings of the rows' texts.
    """

    texts: list[str]
    places: tuple[Places, ...]
    lengths: Ints
    canary: int = 0
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all texts together."""
        return int(self.lengths.sum())

    @property
    def padded_bytes(self) -> int:
        """What a server works on that pads every text to the longest."""
        return len(self.texts) * int(self.lengths.max())

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches that together are this one. Needs at least two texts."""
        middle = len(self) // 2
        return self._slice(0, middle), self._slice(middle, len(self))

    def pieces(self, most_rows: int) -> list[Batch]:
        """Batches of at most so many texts, at least two, that together are this one. Needs at least two texts."""
        step = max(1, min(most_rows, len(self) - 1))
        return [self._slice(start, min(start + step, len(self))) for start in range(0, len(self), step)]

    def by_length(self) -> Batch:
        """The same texts, the shortest first."""
        places = [Places(each.part, each.rows[at : at + 1]) for each in self.places for at in range(len(each.rows))]
        order = np.argsort(self.lengths, kind="stable")
        return replace(
            self,
            texts=[self.texts[i] for i in order],
            places=tuple(places[i] for i in order),
            lengths=self.lengths[order],
        )

    def shortened(self, share: float) -> Batch:
        """The first characters of each text, so many of them."""
        texts = [text[: int(share * len(text))] for text in self.texts]
        lengths = np.array([len(text.encode()) for text in texts], np.int64)
        return replace(self, texts=texts, lengths=lengths, truncated=True)

    def place(self, vectors: npt.NDArray[np.float32], by: int = 1, cut: Mask | None = None) -> int:
        """Hand each open part its vectors. How many they take, `by` and `cut`: see there."""
        start = taken = 0
        for each in self.places:
            stop = start + len(each.rows)
            taken += each.part.place(each.rows, vectors[start:stop], by, None if cut is None else cut[start:stop])
            start = stop
        return taken

    def refuse(self, reason: str, status: int | None, detail: str) -> None:
        """Reject every row."""
        for each in self.places:
            each.part.refuse(each.rows, reason, status, detail)

    def _slice(self, start: int, stop: int) -> Batch:
        places, at = [], 0
        for each in self.places:
            rows = each.rows[max(0, start - at) : max(0, stop - at)]
            if len(rows):
                places.append(Places(each.part, rows))
            at += len(each.rows)
        return replace(
            self, texts=self.texts[start:stop], places=tuple(places), lengths=self.lengths[start:stop], canary=0
        )
