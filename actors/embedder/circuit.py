"""Whether one server works, as far as can be told from its answers. It is told the time."""

from __future__ import annotations


class Circuit:
    """Open while the server does not work at all: then nothing goes out but a text of our own."""

    def __init__(self) -> None:
        self.is_open = False
        self._away_since: float | None = None

    def works(self) -> None:
        """It answered, if only to refuse what it was asked."""
        self._away_since = None

    def fails(self, now: float) -> None:
        """It may be away."""
        self._away_since = now if self._away_since is None else self._away_since

    def idle(self) -> None:
        """Nobody asked for a while: that time says nothing."""
        if not self.is_open:
            self._away_since = None

    def open(self, now: float) -> None:
        self.is_open = True
        self.fails(now)

    def close(self) -> None:
        self.is_open = False
        self.works()

    def away_s(self, now: float) -> float:
        """For how long it has not worked."""
        return now - self._away_since if self._away_since is not None else 0.0
