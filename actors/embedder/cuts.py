"""Which texts make a request together, and in what order the requests go.

Servers that merge requests cut them into batches of so many texts of their own (32 in TEI and Infinity unless told
otherwise). Where a request ends within such a batch, it is filled up with texts of another length, and the
padding is work. So requests are as round as that is cheap, and neighbours in length that only together are a whole
number of batches go one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEAST_WHOLE, WHOLE = 32, 256
LOSS = 4  # a request loses at most one in so many of its texts to be round
MOST_TOGETHER = 4  # requests
GOLDEN = 0.6180339887498949  # steps of it spread evenly, whatever their number

Cut = tuple[int, int]  # texts from, to


def cut(lengths: Sequence[int] | npt.NDArray[np.int64], most_rows: int, most_size: int, turn: int = 0) -> list[Cut]:
    """Requests of at most `most_rows` texts and `most_size` = rows x longest, the next one last.

    `lengths` ascend. A text that is longer than `most_size` goes alone. Long ones and short ones go interleaved, so
    that whoever watches a few sees them all; `turn` is where in that order to begin, any number.
    """
    groups: list[list[Cut]] = [[]]
    stop, before = len(lengths), 0
    while stop:
        rows = max(1, most_size // int(lengths[stop - 1]))
        rows = min(stop, whole(rows, before) if rows < most_rows else most_rows)
        groups[-1].append((stop - rows, stop))
        stop, before = stop - rows, (before + rows) % WHOLE
        if not before or len(groups[-1]) == MOST_TOGETHER:
            groups.append([])
            before = 0
    turns = (turn + np.arange(len(groups))) * GOLDEN % 1.0
    return [each for i in np.argsort(turns) for each in reversed(groups[i])]


def whole(rows: int, before: int = 0) -> int:
    """As many of `rows` texts as make, with `before` texts that go just before, a round number.

    That is a multiple of as high a power of two, from 32 on, as is cheap enough.
    """
    if rows < LEAST_WHOLE:
        return rows
    power = 1 << (rows.bit_length() - 1)
    while power > LEAST_WHOLE and (before + rows) % power > rows // LOSS:
        power //= 2
    return rows - (before + rows) % power if (before + rows) % power < rows else rows
