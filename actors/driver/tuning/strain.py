"""Requests that fail at a size that worked: too many in flight, unless fewer do not help."""

from __future__ import annotations

import math
from collections.abc import Sequence

from actors.driver.tuning.aims import LEAST, Aim
from actors.messages import Failure

CUT, CUT_S = 0.7, 1.0  # of the requests in flight, so often at most
MERGED_CUT = 0.3  # where several failed at once
TIMEOUT_CUT = 0.5
HELD_S = 60.0  # for which no more tokens are in flight than after a cut


class Strain:
    """Cuts, and what they teach."""

    def __init__(self) -> None:
        self._deaf_until = -math.inf
        self._cut_at = -math.inf
        self._before = 0  # requests in flight before the first cut
        self.held: int | None = None  # tokens in flight after the last one

    def forget(self, now: float) -> None:
        if now - self._cut_at > HELD_S:
            self.held = None

    def listens(self, now: float) -> bool:
        return now >= self._deaf_until

    def cut(self, failed: Sequence[Failure], aim: Aim, now: float) -> tuple[int, str]:
        """Requests in flight after these failures, and why.

        A server that merges what waits into a batch beyond its memory fails several requests at once, with two in
        flight none. A backend that fails even then does not fail for load.
        """
        kind = failed[0].kind
        if any(each.kind in ("transport", "timeout") for each in failed):
            limit = max(1, int(TIMEOUT_CUT * aim.limit))
        elif self.held is not None and aim.limit <= LEAST:
            self._deaf_until, self.held = now + HELD_S, None
            return max(aim.limit, self._before), f"{kind} with {aim.limit} in flight too: not for load"
        else:
            merged = len(failed) > 1 and aim.limit > LEAST
            limit = max(LEAST, int(MERGED_CUT * aim.limit)) if merged else max(1, int(CUT * aim.limit))
        if self.held is None:
            self._before = aim.limit
        self._deaf_until, self._cut_at, self.held = now + CUT_S, now, limit * aim.tokens
        return limit, f"{kind} at a size that worked: overloaded"

    def most(self, tokens: int) -> int | None:
        """Requests of so many tokens that may be in flight; None: any number."""
        return None if self.held is None else max(LEAST, self.held // tokens)
