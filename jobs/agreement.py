"""Whether servers give the same vectors for the same texts: an index of two models' vectors finds nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEAST_COSINE = 0.999  # of one model served in several precisions, and of no two models

Vectors = npt.NDArray[np.float32]


def least_cosine(some: Vectors, others: Vectors) -> float:
    """Of the least like pair among the vectors float32[n, dim] that two servers gave for the same n texts."""
    return float((_unit(some) * _unit(others)).sum(axis=1).min())


def odd_one(servers: Sequence[Vectors]) -> tuple[int, int, float] | None:
    """Two servers that disagree, the first against the one least like it, and their cosine; None: all agree."""
    cosines = [least_cosine(servers[0], other) for other in servers[1:]]
    if not cosines or min(cosines) >= LEAST_COSINE:
        return None
    worst = int(np.argmin(cosines))
    return 0, worst + 1, cosines[worst]


def _unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit
