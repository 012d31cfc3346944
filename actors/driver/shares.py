"""Who may have how much of one endpoint's limit, so that the pool never has more than all of it. Pure.

A fair share is known at once, but others may still work with what they were told before: a newcomer gets no more
than what nobody has, and the rest as soon as they have given it back.
"""

from __future__ import annotations

from collections.abc import Set


class Shares:
    """What each embedder may have under way, or has, whichever is more. A call costs the same in any pool."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._sum = 0

    def keep(self, embedders: Set[str]) -> None:
        """Only these are there; what others had is free."""
        for name in self._held.keys() - embedders:
            self._sum -= self._held.pop(name)
            del self._told[name]

    def give(self, embedder: str, fair: int, limit: int, inflight: int) -> int:
        """What it may have now, of a `limit` of which `fair` is its share. `inflight`: what it has."""
        self._sum -= self._held.get(embedder, 0)
        told = min(fair, max(self._told.get(embedder, 0), limit - self._sum))
        self._told[embedder] = told
        self._held[embedder] = max(told, inflight)
        self._sum += self._held[embedder]
        return told


def fair_share(limit: int, pool: int, place: int) -> int:
    """Shares that differ by at most one and add up to `limit`."""
    return limit // pool + (place < limit % pool)
