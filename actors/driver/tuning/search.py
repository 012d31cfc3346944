"""Search: double one knob at a time and keep what pays. Trim: as few in flight as hold the speed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from actors.driver.tuning.aims import Aim, Knob, Step, patience_s
from actors.driver.tuning.hold import Hold
from actors.driver.tuning.measure import Gain, Reading, mean
from actors.driver.tuning.room import Room

BUSY = 0.93  # GPU utilisation from which it is not idle
QUITE_IDLE, VERY_IDLE, MOST_LEAP = 0.8, 0.55, 6.0
WORTH = 0.02  # gain that a longer queue must bring
TIE, MOST_TIE = 0.01, 0.08  # a larger request must not lose more than that, or than so many errors
TIE_ERRORS = 1.5
FEW = 4  # in flight: they are no queue to speak of
UNLOADED = 1.6  # times the unloaded latency: nothing waits yet,
LOADED = 4.0  # and much does: a gauge that says otherwise speaks of a moment ago
TOO_GOOD = 0.3
LINEAR = 0.8  # of what a longer queue could bring at best: go faster
MUCH = 0.25  # likewise: less says that the other knob may bring more
FIXED_COST = 0.2  # gain of a larger request, that says so
LEAP = 4.0  # to where a server that merges has something to merge
UNSEEN, LINEAR_UNSEEN, UNSEEN_S = (
    1.5,
    2.0,
    1.0,
)  # where it may be a hosted API: so many more in flight, and watched for so long

TRIM, LOSS, WHOLE_LOSS = 0.6, 0.01, 0.025
HEADROOM = 1.15
FELL = 0.02  # of utilisation while trimming: stop


@dataclass(slots=True)
class Search:
    """Ends when neither a longer queue nor a larger request pays."""

    aim: Aim
    room: Room
    least_s: float = 0.5
    base: Reading | None = None
    failed: set[Knob] = field(default_factory=set)
    again: bool = False  # not the first: the ground may be moving, and trimming has been done
    _surprised: bool = False
    _busy: float | None = None
    _trial: Knob | None = None
    _tried: Aim | None = None
    _last_kept: Knob | None = None
    _linear: bool = False
    _leapt_too_far: bool = False
    _fixed_cost: bool = False  # a request costs much beside its texts

    def read(self, seen: Reading, busy: float | None) -> Step | None:
        if self.base is None or self._trial is None or self._tried is None:
            return None if self._hasty(seen) else self._begin(seen, busy)
        if self._trial is Knob.LIMIT and self._hasty(seen):
            return None
        gain = Gain.of(seen, self.base)
        worth = WORTH if self._trial is Knob.LIMIT else -min(MOST_TIE, max(TIE, TIE_ERRORS * gain.error))
        if abs(gain.mean - worth) < gain.error and seen.seconds < patience_s(seen):
            return None
        # a longer queue must prove itself, unless it is short or the GPU had not enough; a larger request need not
        few = self._tried.limit <= FEW or (self._busy is not None and self._busy < BUSY)
        sure = self._trial is not Knob.LIMIT or few
        kept = gain.mean > worth and (sure or gain.mean > gain.error)
        verdict = f"{self._trial} {self._tried}: {gain.mean:+.1%} {'kept' if kept else 'reverted'}"
        self._linear = self._leapt_too_far = False
        self._fixed_cost = kept and self._trial is Knob.TOKENS and gain.mean > FIXED_COST
        busy_before = self._busy is None or self._busy >= BUSY
        if kept and self.again and not self._surprised and gain.mean > TOO_GOOD and busy_before:
            self._surprised = True
            return self.drop()._replace(reason=f"{self._tried}: {gain.mean:+.0%}? measuring {self.aim} again")
        if kept:
            grown = self._tried.limit / self.aim.limit - 1
            self._linear = self._trial is Knob.LIMIT and gain.mean > LINEAR * grown
            much = self._trial is Knob.TOKENS or gain.mean > MUCH * grown
            self.aim, self.base, self._busy = self._tried, seen, busy
            self._last_kept = self._trial if much else None
            self.failed.discard(Knob.TOKENS)
        else:
            self._leapt_too_far = self._trial is Knob.LIMIT and self._tried.limit > 2 * self.aim.limit
            if not self._leapt_too_far:
                self.failed.add(self._trial)
            if gain.mean > 0:  # two readings of one plateau
                self.base = replace(self.base, rate=0.5 * (self.base.rate + seen.rate))
        return self._next(verdict)

    def refused(self) -> Step:
        if self._trial:
            self.failed.add(self._trial)
        return self.drop()

    def drop(self) -> Step:
        self._trial = self.base = None
        return Step(self.aim, "back to what worked")

    def wants(self) -> int | None:
        """The larger request that may be tried next."""
        if Knob.TOKENS in self.failed or Knob.TOKENS in self.room.pinned:
            return None
        return 2 * (self._tried.tokens if self._tried and self._trial else self.aim.tokens)

    def _hasty(self, seen: Reading) -> bool:
        """Whether a quota would not have shown itself yet."""
        return self.room.unseen and seen.seconds < UNSEEN_S

    def _begin(self, seen: Reading, busy: float | None) -> Step:
        most = self.room.limit(self.aim.tokens, seen)
        if most < self.aim.limit and Knob.LIMIT not in self.room.pinned:
            self.aim = Aim(most, self.aim.tokens)
            return Step(self.aim, f"answers take {seen.latency_s:.1f} s: {most} in flight")
        self.base, self._busy = seen, busy
        return self._next(f"{seen.rate:.0f} tokens/s")

    def _next(self, verdict: str) -> Step:
        assert self.base
        for knob in self._order():
            aim = self._larger(knob) if knob not in self.failed | self.room.pinned else None
            if aim:
                self._trial, self._tried = knob, aim
                return Step(aim, f"{verdict}; trying {aim}")
            self.failed.add(knob)
        self._trial = None
        if self.again:
            hold = Hold(self.aim, self.room, [self.base], self._busy)
            return Step(self.aim, f"{verdict}; plateau; holding {self.aim}", hold)
        return Trim(self.aim, self.room, self.base, self._busy, self.aim.limit).begin(verdict)

    def _idle(self) -> bool:
        """Whether more in flight can be expected to bring more."""
        assert self.base
        if self.room.merges and Knob.TOKENS not in self.failed:
            return False
        waits = self.base.latency_s / self.room.unloaded_s if self.room.unloaded_s else None
        if self._busy is None:
            return waits is not None and waits < UNLOADED
        return self._busy < BUSY and (waits is None or waits < LOADED)

    def _order(self) -> list[Knob]:
        order = [Knob.LIMIT, Knob.TOKENS] if self._idle() else [Knob.TOKENS, Knob.LIMIT]
        if self._last_kept and not self.room.merges and not (self._busy is not None and self._busy < QUITE_IDLE):
            order.sort(key=lambda knob: knob is not self._last_kept)
        return order

    def _larger(self, knob: Knob) -> Aim | None:
        assert self.base
        limit, tokens = self.aim
        if knob is Knob.TOKENS:
            return self.room.larger(self.aim, LEAP if self._fixed_cost else 2.0, self.base)
        larger = min(self.room.limit(tokens, self.base), int(limit * self._longer(self.base)))
        return Aim(larger, tokens) if larger > limit else None

    def _longer(self, base: Reading) -> float:
        """How many times as many in flight to try."""
        if self._leapt_too_far:
            return 2.0
        factor = UNSEEN if self.room.unseen else 2.0
        if self._linear:
            factor = LINEAR_UNSEEN if self.room.unseen else LEAP
        wants = self.room.wants(base) / (self.aim.limit * base.tokens)
        if wants > 1:  # one or two more would wait, and be no batch yet
            factor = max(LEAP, wants)
        if self._busy is not None and self._busy < VERY_IDLE:
            factor = min(MOST_LEAP, max(factor, 1.15 / max(self._busy, 0.05)))
        return factor


@dataclass(slots=True)
class Trim:
    """On the plateau, which is measured once more, from `start` in flight. Ends in hold."""

    aim: Aim  # the last that held
    room: Room
    reference: Reading
    busy: float | None
    start: int
    least_s: float = 1.25  # a gauge of the last second has its say
    _first: float | None = None  # tokens/s on the plateau
    _tried: int = 0

    def begin(self, verdict: str) -> Step:
        if self._fewer(self.reference) is None:
            return self._hold(f"{verdict}; plateau")
        return Step(self.aim, f"{verdict}; plateau", self)

    def read(self, seen: Reading, busy: float | None) -> Step | None:
        if self._first is None:  # the search has kept its best windows, which flatter
            self.reference, self.busy, self._first = seen, busy, seen.rate
            return self._next(f"{seen.rate:.0f} tokens/s", seen)
        gain = Gain.of(seen, self.reference)
        if abs(gain.mean + LOSS) < gain.error and seen.seconds < patience_s(seen):
            return None
        fell = busy is not None and self.busy is not None and busy < self.busy - FELL
        held = gain.mean > -LOSS - min(0.02, gain.error) and seen.rate > (1 - WHOLE_LOSS) * self._first
        if not held or (fell and gain.mean < gain.error):
            return self._hold(f"{self._tried} in flight: {gain.mean:+.1%}, too few")
        self.aim = Aim(self._tried, self.aim.tokens)
        self.reference = mean([self.reference, seen]) if gain.mean < gain.error else seen
        return self._next(f"{self._tried} in flight do as well", seen)

    def refused(self) -> Step:
        return self._hold("refused")

    def drop(self) -> Step:
        return self._hold("not measured")

    def _next(self, verdict: str, seen: Reading) -> Step:
        fewer = self._fewer(seen)
        if fewer is None:
            return self._hold(verdict)
        self._tried = fewer
        return Step(Aim(fewer, self.aim.tokens), f"{verdict}; trying {fewer} in flight", self)

    def _fewer(self, seen: Reading) -> int | None:
        fewer = max(int(TRIM * self.aim.limit), self.room.least(seen))
        return None if fewer >= self.aim.limit or Knob.LIMIT in self.room.pinned else fewer

    def _hold(self, verdict: str) -> Step:
        limit = self.aim.limit
        if limit < self.start:
            limit = min(self.start, max(limit + 1, math.ceil(HEADROOM * limit)))
        aim = Aim(limit, self.aim.tokens)
        return Step(aim, f"{verdict}; holding {aim}", Hold(aim, self.room, [self.reference], self.busy))
