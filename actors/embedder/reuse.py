"""Vectors of an earlier output, for texts that did not change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from actors.embedder.open_part import OpenPart
from actors.messages import Reuse
from actors.output.digests import as_words
from actors.output.old_part import OldPart
from actors.output.run_file import plan_of, read_run
from actors.output.text_index import open_at
from actors.output.vector_file import Vectors

_MOST_OPEN = 128  # old parts: a new one needs one or two, where the corpus kept its order

Ints = npt.NDArray[np.int64]


class OldVectors:
    """Gives open parts what an earlier output has for their texts. One thread. `rows` is how many it has given."""

    def __init__(self, reuse: Reuse) -> None:
        self._out = reuse.out
        run = read_run(self._out) or {}
        self._plan = plan_of(run)
        self._dim, self._dtype = run["dim"], run["dtype"]
        self._index = open_at(reuse.index)
        self._parts: OrderedDict[int, OldPart] = OrderedDict()
        self.rows = 0

    def give(self, part: OpenPart) -> None:
        """Rows of `part` whose texts are there get their vectors; the others are still to be sent.

        Raises UserError when the earlier output cannot be read any more.
        """
        self.rows += part.take_over(self._known(part))

    def _known(self, part: OpenPart) -> Iterator[tuple[Ints, Vectors]]:
        sendable = part.sendable
        which, parts, rows = self._index.find(as_words(b"".join(part.digests(sendable))))
        edges = np.flatnonzero(np.diff(parts)) + 1
        for start, stop in pairwise((0, *edges.tolist(), len(parts))):
            if start == stop:  # nothing was found
                return
            for run, vectors in self._part(int(parts[start])).vectors(rows[start:stop]):
                good = _is_good(vectors)
                yield sendable[which[start:stop][run]][good], vectors[good]

    def close(self) -> None:
        for part in self._parts.values():
            part.close()

    def _part(self, index: int) -> OldPart:
        part = self._parts.pop(index, None) or OldPart(
            self._out, self._plan.part(index).name, self._dim, self._dtype
        )
        self._parts[index] = part
        if len(self._parts) > _MOST_OPEN:
            self._parts.popitem(last=False)[1].close()
        return part


def _is_good(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Which are finite and not zero: the others are damaged, and their texts are sent again."""
    wide = vectors.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", wide, wide)
    good: npt.NDArray[np.bool_] = np.isfinite(squares) & (squares > 0)
    return good
