"""How often a share was seen at each value, in memory that does not grow with the job."""

from __future__ import annotations

import numpy as np

_STEPS = 1000


class Spread:
    """Counts shares of 0 to 1 in thousandths."""

    def __init__(self) -> None:
        self._counts = np.zeros(_STEPS + 1, np.int64)
        self._sum = 0.0

    def add(self, share: float) -> None:
        self._counts[round(_STEPS * min(1.0, max(0.0, share)))] += 1
        self._sum += share

    @property
    def mean(self) -> float | None:
        """None when there was none."""
        seen = int(self._counts.sum())
        return self._sum / seen if seen else None

    def quantile(self, share: float) -> float | None:
        """The least value, to a thousandth, that at least `share` of those seen do not exceed; None of none."""
        up_to = np.cumsum(self._counts)
        return float(np.searchsorted(up_to, max(1, share * up_to[-1])) / _STEPS) if up_to[-1] else None
