"""How old the values of an exporter are, which it refreshes at its own pace and does not say when. Pure.

The DCGM exporter refreshes every 30 s as installed; a page asked for every second then shows the same many times.
"""

from __future__ import annotations

from collections.abc import Hashable
from statistics import median

SLOW_S = 5.0  # a source that is refreshed less often gives way to any other
_GAPS = 5  # between refreshes, kept


class Freshness:
    """Told what a page shows each time it is fetched, with the time; all in seconds of one clock.

    Power and energy are among the values, so that while a GPU works they differ after every refresh.
    """

    def __init__(self, period_s: float) -> None:
        """`period_s`: as such exporters are installed."""
        self._period_s = period_s
        self._values: Hashable = None
        self._looked: float | None = None
        self._taken = 0.0
        self._changed: float | None = None
        self._gaps: tuple[float, ...] = ()  # never changed in place: another thread may be reading it

    def look(self, values: Hashable, now: float) -> None:
        if self._looked is None:
            self._taken = now - self._period_s  # nobody knows: as old as it may be
        elif values != self._values:
            if self._changed is not None:
                self._gaps = (*self._gaps, now - self._changed)[-_GAPS:]
            self._changed = now
            self._taken = (self._looked + now) / 2  # between the two looks
        self._values, self._looked = values, now

    def age_s(self, now: float) -> float:
        """How long ago the values were taken.

        Not longer before the last look than the longest time between two refreshes: what stays the same for longer
        was refreshed and is the same.
        """
        if self._looked is None:
            return self._period_s
        longest = max(self._period_s, *self._gaps, 0.0)
        return min(self._looked - self._taken, longest) + now - self._looked

    @property
    def slow(self) -> bool:
        """Whether the values are too old to steer by, or nobody knows yet."""
        return not self._gaps or median(self._gaps) > SLOW_S
