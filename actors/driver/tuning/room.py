"""How far each knob may go: by what is pinned, by what the server says of itself, and by what was learnt."""

from __future__ import annotations

import math
from collections.abc import Iterable

from actors.ceiling import Ceiling
from actors.driver.tuning.aims import LEAST, Aim, Knob
from actors.driver.tuning.base import Bounds
from actors.driver.tuning.measure import Reading
from actors.driver.tuning.refusals import Cap, Memory
from actors.driver.tuning.strain import Strain
from actors.messages import Completion

START = Aim(8, 8192)
MOST_LIMIT, MOST_TOKENS = 512, 1 << 17
LATENCY_S, LEAST_LIMIT = 2.0, 4  # mean at most, or twice the unloaded one; but not fewer in flight
CAPPED = 0.95  # of the tokens come in requests at the row cap: a larger budget makes no larger request
ENOUGH_S = 0.25  # of work in a request: what it costs beside its texts is little then, and a trial takes long
HALF = 0.5  # of the tokens of the quickest request: no smaller one is compared with it
ENOUGH_WAITS = 2.0  # times what a server that merges wants in flight
SPARE = 1.5  # times those that are worked on, where fewer and larger requests are tried
BATCH = 0.5  # of the tokens that a server merges must be in flight, or one or two requests more still make no batch


class Room:
    """Asked anew each time, since caps and ceilings are learnt on the way. `aim` is the one in force.

    `merges`: what waits goes into one batch, so only a request's size is tried by a canary. `unseen`: neither the
    server nor its GPU says anything; it may be a hosted API, whose quota shows only once what it saved up is spent.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.cap = Cap(told_texts=bounds.server_texts_inflight, told_requests=bounds.server_requests_inflight)
        self.memory = Memory()
        self.strain = Strain()
        self.taken_rows = Ceiling(min(bounds.server_rows or bounds.max_batch_rows, bounds.max_batch_rows))
        self.alone: Completion | None = (
            None  # the quickest answer, as of a request that nothing else is under way with
        )
        pinned = {Knob.LIMIT: bounds.limit, Knob.TOKENS: bounds.batch_rows}
        self.pinned = frozenset(knob for knob, pin in pinned.items() if pin)
        self.merges = bool(bounds.server_batch_tokens or bounds.server_merged_texts)
        told = (bounds.server_texts_inflight, bounds.server_requests_inflight, bounds.server_batch_tokens)
        self.unseen = not any(told)
        limit = LEAST if self.merges else START.limit  # it merges what waits, whatever its memory
        self.aim = Aim(limit, MOST_TOKENS if bounds.batch_rows else START.tokens)
        self._sharing: tuple[int, int] | None = (
            None  # fewest and most requests, of orders that share a cap in texts
        )
        self._before = 0  # requests in flight under the last order

    def came(self, completions: Iterable[Completion], now: float) -> None:
        for each in completions:
            self._look(each)
            self.memory.worked(each.size)
            self.taken_rows.took(each.rows, now)
        self.taken_rows.look(now)

    def _look(self, each: Completion) -> None:
        """The first answer may have waited for a cold server."""
        if self.alone is None or (
            each.latency_s < self.alone.latency_s and each.tokens >= HALF * self.alone.tokens
        ):
            self.alone = each

    @property
    def unloaded_s(self) -> float | None:
        return self.alone.latency_s if self.alone else None

    @property
    def rows(self) -> int:
        """Texts that a request may have."""
        return int(self.taken_rows.now)

    @property
    def rows_now(self) -> int:
        """The same, under the aim."""
        limit = max(self.bounds.limit or self.aim.limit, self._sharing[1] if self._sharing else 0)
        return self.bounds.batch_rows or self.cap.rows(limit, self.rows)

    # orders

    @property
    def is_changing(self) -> bool:
        """Whether requests of an earlier order still share a cap in texts with those of this one."""
        return self._sharing is not None

    def settle(self) -> None:
        """All that was sent under earlier orders has come back."""
        self._sharing = None

    def order(self) -> int:
        """Requests in flight for now: the aim's, or fewer where the sizes of requests are about to change.

        Embedders follow an order one after another. So that those that do and those that do not yet hold no more
        than a cap in texts, first the smaller limit goes with the smaller size.
        """
        limit = self.bounds.limit or self.fit(self.aim.limit)
        if self._before and self.cap.rows(limit, self.rows) != self.cap.rows(self._before, self.rows):
            limits = (limit, self._before, *(self._sharing or ()))
            self._sharing = min(limits), max(limits)
        self._before = limit
        return min(limit, self._sharing[0]) if self._sharing else limit

    # how far

    def fit(self, limit: int) -> int:
        most = self.cap.limit(self.bounds.batch_rows or 1)
        return max(1, min(limit, MOST_LIMIT, most if most is not None else MOST_LIMIT))

    def is_at_cap(self) -> bool:
        return self.fit(self.aim.limit + 1) == self.aim.limit or self.cap.is_full(self.aim.limit, self.rows_now)

    def limit(self, tokens: int, reading: Reading) -> int:
        """The most requests of so many tokens: under the cap, and bearable in latency (Little)."""
        unloaded_s = (self.unloaded_s or 0.0) * tokens / START.tokens
        request = reading.tokens * max(1.0, tokens / self.aim.tokens)
        bearable = math.ceil(reading.rate / request * max(LATENCY_S, 2 * unloaded_s))
        held = self.strain.most(tokens)
        if self.bounds.server_batch_tokens and self.memory.bad:  # so would a batch of what waits
            held = min(held or MOST_LIMIT, max(LEAST, 1 + self.memory.good // tokens))
        return self.fit(min(max(LEAST_LIMIT, bearable), held) if held else max(LEAST_LIMIT, bearable))

    def least(self, reading: Reading) -> int:
        """As many as are being worked on at this rate (Little), if a larger request takes longer in proportion."""
        if self.alone is None:
            return LEAST
        alone_s = self.alone.latency_s * max(1.0, reading.tokens / self.alone.tokens)
        return max(LEAST, math.ceil(alone_s * reading.rate / reading.tokens))

    def wants(self, reading: Reading) -> float:
        """Tokens in flight from which more of them can be expected to show what they bring."""
        texts = self.bounds.server_merged_texts or 0
        return max(BATCH * (self.bounds.server_batch_tokens or 0), texts * reading.tokens / reading.rows)

    def tokens(self, tokens: int) -> int:
        """`tokens` of a request, or what of them the server is known to bear."""
        return min(MOST_TOKENS, self.strain.room(self.memory.room(tokens)))

    def larger(self, aim: Aim, factor: float, reading: Reading) -> Aim | None:
        """The aim with larger requests, and fewer where they share a cap in texts or would only wait; None: they
        cannot be larger."""
        limit, tokens = aim.limit, self.tokens(int(factor * aim.tokens))
        free = Knob.LIMIT not in self.pinned
        if free and limit >= LEAST * factor and self.rows >= factor * self.cap.rows(limit, self.rows):
            limit = int(limit / factor)
        elif reading.capped > CAPPED:
            return None
        elif free and self.alone and limit * reading.tokens >= ENOUGH_WAITS * self.wants(reading):
            # as much work as before waits
            limit = min(limit, max(math.ceil(limit / factor), math.ceil(SPARE * self.least(reading))))
        if (tokens < 1.15 * aim.tokens and limit == aim.limit) or reading.tokens / reading.rate > ENOUGH_S:
            return None
        return Aim(min(limit, self.limit(tokens, reading)) if free else limit, tokens)
