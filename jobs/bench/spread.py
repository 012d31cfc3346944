"""What several runs of the same say together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Annotated

import msgspec
from msgspec import Meta

Amount = Annotated[float, Meta(ge=0, le=1e15)]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Some measurements of one quantity: the middle one, the extremes, and how many there are."""

    median: Amount
    least: Amount
    most: Amount
    count: Annotated[int, Meta(ge=1, le=10**6)]

    @property
    def confidence(self) -> float | None:
        """How likely it is that the true median lies between the extremes; None for a single measurement.

        Nothing is assumed of the noise but that the measurements do not hang together: each of them is above the
        true median or below it with even chances, and only if all are on one side do the extremes miss it.
        """
        return 1 - 0.5 ** (self.count - 1) if self.count > 1 else None


def spread(measured: Iterable[float | None]) -> Spread | None:
    """Of what was measured; None when nothing was."""
    known = sorted(value for value in measured if value is not None)
    if not known:
        return None
    return Spread(median=median(known), least=known[0], most=known[-1], count=len(known))


def ratios(some: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    """How many times greater each of `others` is than its fellow; None where either is not known, or is 0."""
    return [other / one if one and other is not None else None for one, other in zip(some, others, strict=True)]
