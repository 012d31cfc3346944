"""How many different texts a corpus has, told from some of its parts.

Parts are drawn at random and read through, so that texts which repeat nearby and texts which repeat anywhere both
show. A text met in just one of them stands for as many as the share that was read leaves room for, one met in
several for itself. On average that is no less than there are; it is more where texts repeat in parts far apart.
Source of the idea: the upper bound in Charikar, Chaudhuri, Motwani, Narasayya, "Towards estimation error guarantees
for distinct values" (PODS 2000), with parts as what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartTexts:
    """The texts of one part of `rows` rows, not yet told apart: hashes and tokens of each of n."""

    rows: int
    hashes: npt.NDArray[np.uint64]
    tokens: Ints


@dataclass(frozen=True, slots=True)
class Texts:
    """Different texts and their tokens: about this many, or fewer; and those that were seen."""

    texts: int
    tokens: int
    texts_seen: int
    tokens_seen: int


def estimate(parts: Sequence[PartTexts], rows: int) -> Texts:
    """Of a corpus of `rows` rows, from `parts` of it; from all of its parts, the count itself."""
    read = sum(part.rows for part in parts)
    if not read:
        return Texts(0, 0, 0, 0)
    firsts = [np.unique(part.hashes, return_index=True)[1] for part in parts]
    hashes = np.concatenate([part.hashes[first] for part, first in zip(parts, firsts, strict=True)])
    tokens = np.concatenate([part.tokens[first] for part, first in zip(parts, firsts, strict=True)])
    _, first, times = np.unique(hashes, return_index=True, return_counts=True)
    tokens, once = tokens[first], times == 1
    scale = rows / read
    return Texts(
        texts=round(scale * int(once.sum()) + int((~once).sum())),
        tokens=round(scale * int(tokens[once].sum()) + int(tokens[~once].sum())),
        texts_seen=len(first),
        tokens_seen=int(tokens.sum()),
    )
