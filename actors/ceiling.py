"""The most that is taken of something, as refusals teach it. Pure: it is told the time."""

from __future__ import annotations

import math

AGAIN_S, MOST_AGAIN_S = 60.0, 3600.0
SOON_S = 2.0
MORE = 2.0


class Ceiling:
    """Never above `most`; `now` is what may be asked for.

    What a refusal taught is not believed for ever: it may have come from another server behind the same address, or
    its words from one of the texts. After a minute twice as much may be asked for. If that is taken, soon twice as
    much again; if it is refused, only after twice as long. A limit that two refusals name is asked for no more.
    """

    def __init__(self, most: float) -> None:
        self._most = self.now = most
        self._taken = most  # a trial asks for more than this
        self._named = math.nan  # by a refusal, last
        self._is_trial = False
        self._again_s = AGAIN_S
        self._next = math.inf  # when the next trial begins

    def refuse(self, most: float, at: float, *, named: bool = False) -> None:
        """A refusal lets one think that no more than `most` is taken, or names that very limit."""
        if named and most == self._named:
            self.now, self._is_trial, self._next = max(1.0, min(most, self.now)), False, math.inf
            return
        self._named = most if named else math.nan
        if most >= self.now:
            return
        if self._is_trial:
            self._again_s = min(MOST_AGAIN_S, 2 * self._again_s)
        self.now, self._is_trial, self._next = max(1.0, most), False, at + self._again_s

    def took(self, amount: float, at: float) -> None:
        """So much was taken."""
        if self._is_trial and amount > self._taken:
            self._is_trial, self._again_s, self._next = False, AGAIN_S, at + SOON_S

    def look(self, at: float) -> None:
        """Begin a trial if it is time for one."""
        if at >= self._next and self.now < self._most:
            self._taken, self.now = self.now, min(self._most, MORE * self.now)
            self._is_trial, self._next = True, math.inf
