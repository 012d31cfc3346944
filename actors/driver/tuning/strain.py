"""Requests that fail at a size that worked: too many in flight, unless fewer do not help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from actors.driver.tuning.aims import LEAST, Aim
from actors.driver.tuning.measure import History
from actors.messages import Failure

CUT, CUT_S = 0.7, 1.0  # of the requests in flight, so often at most
TIMEOUT_CUT = 0.5
MERGED_CUT, ROOM = 0.3, 0.5  # after a merged batch that failed; of the tokens that waited then
HELD_S = 60.0  # for which no more tokens are in flight than after a cut; twice as long each time
TOGETHER_S = 0.02  # requests of one batch fail within
LEAST_SHARE = 1 / 8  # of the first size: where smaller requests fail too, it is not for their size
LEAST_TOKENS = 512  # in flight: a backend that fails even then does not fail for load


class Strain:
    """Cuts, and what they teach: `held` tokens in flight, and of `waiting` ones, are not too many."""

    def __init__(self) -> None:
        self._deaf_until = -math.inf
        self._cut_at = -math.inf
        self._held_s = HELD_S
        self._before: Aim | None = None  # the first cut
        self.held: int | None = None
        self.waiting: int | None = None

    def forget(self, now: float) -> None:
        if now - self._cut_at > self._held_s and (self.held or self.waiting):
            self.held = self.waiting = None
            self._held_s *= 2

    def listens(self, now: float) -> bool:
        return now >= self._deaf_until

    def cut(self, failed: Sequence[Failure], aim: Aim, now: float) -> tuple[Aim, str]:
        """What to go to after these failures, and why."""
        kind = failed[0].kind
        if any(each.kind in ("transport", "timeout") for each in failed):
            limit = max(1, int(TIMEOUT_CUT * aim.limit))
        elif self.held is not None and aim.limit <= LEAST:
            return self._smaller(kind, aim, now)
        else:
            limit = max(1, int(CUT * aim.limit))
        self._note(aim, now)
        self.held = limit * aim.tokens
        return Aim(limit, aim.tokens), f"{kind} at a size that worked: overloaded"

    def cut_merged(self, aim: Aim, now: float) -> tuple[Aim, str]:
        """The same, where requests failed in one batch: a server has merged what waited beyond its memory."""
        if aim.limit <= LEAST and aim.tokens <= LEAST_TOKENS:
            return self._vain("backend", aim, now)
        self.too_much(aim, now)
        limit = max(LEAST, int(MERGED_CUT * aim.limit))
        return Aim(limit, self.room(aim.tokens)), f"requests fail together: {limit} in flight"

    def too_much(self, aim: Aim, now: float) -> None:
        """So much in flight was merged into a batch beyond the memory."""
        self._note(aim, now)
        waited = (max(LEAST, aim.limit) - 1) * aim.tokens
        self.waiting = max(LEAST_TOKENS, int(ROOM * min(waited, self.waiting or waited)))

    def most(self, tokens: int) -> int | None:
        """Requests of so many tokens that may be in flight; None: any number."""
        by_held = None if self.held is None else max(LEAST, self.held // tokens)
        by_waiting = None if self.waiting is None else max(LEAST, 1 + self.waiting // tokens)
        return min((each for each in (by_held, by_waiting) if each is not None), default=None)

    def room(self, tokens: int) -> int:
        """`tokens` of a request, or what of them may wait beside one that is worked on."""
        return min(tokens, self.waiting or tokens)

    def _note(self, aim: Aim, now: float) -> None:
        if self.held is None and self.waiting is None:
            self._before = aim
        self._deaf_until, self._cut_at = now + CUT_S, now

    def _smaller(self, kind: str, aim: Aim, now: float) -> tuple[Aim, str]:
        """Fewer in flight did not help: long texts may be more than the memory holds, where short ones are not."""
        first = self._before or aim
        if aim.tokens < 2 * LEAST_SHARE * first.tokens:
            return self._vain(kind, aim, now)
        self._note(aim, now)
        return Aim(aim.limit, aim.tokens // 2), f"{kind} with {aim.limit} in flight too: smaller requests"

    def _vain(self, kind: str, aim: Aim, now: float) -> tuple[Aim, str]:
        self._deaf_until, self.held, self.waiting = now + HELD_S, None, None
        return self._before or aim, f"{kind} with {aim.limit} in flight too: not for load"


def together(failures: Sequence[Failure], history: History) -> list[Failure]:
    """Those backend failures that came in one moment, with no answer between them."""
    failed = sorted((each for each in failures if each.kind == "backend"), key=lambda each: each.at)
    found = []
    for one, other in pairwise(failed):
        alone = not history.between(one.at - TOGETHER_S, other.at + TOGETHER_S)
        if other.at - one.at < TOGETHER_S and alone:
            found += [one, other]
    return found
