"""What became of texts, kept for those to come when the parts that they came in are closed."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from actors.embedder.blocks import Blocks
from actors.output.parts import Reject

_TEXT_SHARE = 4  # texts take at most one byte for so many bytes of vectors

Vector = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


class Kept:
    """Holds at most `most_bytes` of vectors, and a quarter of that of texts.

    Once that is full only texts that repeated come in, and what was asked for longest ago goes: of real
    documentation as much is found again as if everything came in, and a corpus without repeats pays nothing.
    """

    def __init__(self, most_bytes: int = 0, dim: int = 1, dtype: str = "float32") -> None:
        row_bytes = dim * np.dtype(dtype).itemsize
        slots = most_bytes // row_bytes
        block = Blocks().take(slots * row_bytes)  # what of it was never written takes no memory
        self._vectors = block[: slots * row_bytes].view(dtype).reshape(slots, dim)
        self._texts = [""] * slots
        self._by = [0] * slots
        self._cut = [False] * slots
        self._rejects: dict[int, Reject] = {}
        self._digests: OrderedDict[int, bytes] = OrderedDict()  # by slot, in the order in which they were asked for
        self._most_text_bytes = most_bytes // _TEXT_SHARE
        self._text_bytes = 0
        self._free = list(range(slots))

    @property
    def has_room(self) -> bool:
        """Whether anything comes in."""
        return bool(self._free) and self._text_bytes < self._most_text_bytes

    def put(
        self, digest: bytes, text: str, vector: Vector | None, reject: Reject | None, by: int, *, cut: bool
    ) -> tuple[int | None, list[bytes]]:
        """The slot of what became of a text (None: it is too large), and the digests of those that made room."""
        size = len(text.encode())
        if size > self._most_text_bytes or not self._texts:
            return None, []
        gone = []
        while not self._free or self._text_bytes + size > self._most_text_bytes:
            gone.append(self._drop())
        slot = self._free.pop()
        self._text_bytes += size
        self._digests[slot] = digest
        self._texts[slot], self._by[slot], self._cut[slot] = text, by, cut
        if reject is not None:
            self._rejects[slot] = reject
        elif vector is not None:
            self._vectors[slot] = vector
        return slot, gone

    def touch(self, slot: int) -> None:
        """It was asked for just now."""
        self._digests.move_to_end(slot)

    def text(self, slot: int) -> str:
        return self._texts[slot]

    def settled_by(self, slot: int) -> int:
        return self._by[slot]

    def reject_of(self, slot: int) -> Reject | None:
        return self._rejects.get(slot)

    def is_cut(self, slot: int) -> bool:
        return self._cut[slot]

    def vectors(self, slots: Ints) -> Vector:
        vectors: Vector = self._vectors[slots]
        return vectors

    def _drop(self) -> bytes:
        slot, digest = self._digests.popitem(last=False)
        self._text_bytes -= len(self._texts[slot].encode())
        self._texts[slot] = ""
        self._rejects.pop(slot, None)
        self._free.append(slot)
        return digest
