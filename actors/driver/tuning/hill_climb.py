"""Throughput hill-climb: double the request, then the requests in flight, and keep what brings more tokens/s."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from actors.driver.tuning.base import Bounds, Decision, Observation, Setting

START = Setting(limit=8, batch_rows=128, batch_tokens=8192)
MAX_LIMIT = 512
MAX_BATCH_TOKENS = 1 << 17

WINDOW_S = 1.5  # a measurement lasts at least this long,
WINDOW_ANSWERS = 12  # holds at least so many answers,
WINDOW_ROUNDS = 2  # and each place in flight was filled so often
WORTH = 1.05  # a trial must bring 5 % more to be kept
HOLD_WINDOWS = 20  # before a plateau is tried again
TRIAL_S = 20.0  # a trial that brings too few answers for so long has failed
BURST_S = 3.0  # refusals that follow each other so soon are of one burst
BACK_OFF = 0.7  # of the limit, when the server says that it is too much


class Knob(StrEnum):
    BATCH = "batch"
    LIMIT = "limit"


class HillClimb:
    """Measures, tries one doubling, measures again, keeps or reverts; both knobs in turn until neither pays."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        rows = bounds.batch_rows or min(START.batch_rows, bounds.max_batch_rows)
        tokens = MAX_BATCH_TOKENS if bounds.batch_rows else START.batch_tokens
        self._setting = Setting(bounds.limit or START.limit, rows, tokens)
        self._before: Setting | None = None  # of the trial that runs
        self._reference = 0.0  # tokens/s of the last kept setting
        self._trying: Knob | None = None
        self._given_up: set[Knob] = set()
        self._held = 0
        self._calm_s = BURST_S
        self._answered = (
            False  # since the last step back; while nothing is, refusals mean that the server is loading
        )
        self._clear()

    def start(self) -> Setting:
        return self._setting

    def decide(self, seen: Observation) -> Decision:
        self._calm_s += seen.seconds
        self._answered = self._answered or seen.answers > 0
        if seen.errors.get("overloaded") and self._answered and self._calm_s >= BURST_S:
            return self._back_off()
        if seen.starved:
            self._clear()
            return Decision(self._setting, "the input is the limit: nothing measured")
        self._seconds += seen.seconds
        self._answers += seen.answers
        self._tokens += seen.tokens
        enough = max(WINDOW_ANSWERS, WINDOW_ROUNDS * self._setting.limit)
        undecided = self._answers < enough and not (self._before and self._seconds > TRIAL_S)
        if self._seconds < WINDOW_S or undecided:
            return Decision(self._setting, "measuring")
        rate = self._tokens / self._seconds
        self._clear()
        return self._judge(rate)

    def _judge(self, rate: float) -> Decision:
        verdict = f"{rate:.0f} tokens/s"
        if self._before is not None and self._trying is not None:
            if rate < WORTH * self._reference:
                self._given_up.add(self._trying)
                self._setting, self._before = self._before, None
                return Decision(self._setting, f"{self._trying} reverted: {verdict}, {self._reference:.0f} before")
            verdict = f"{self._trying} kept: {verdict}, {self._reference:.0f} before"
        self._reference, self._before = rate, None
        return self._try_next(verdict)

    def _try_next(self, verdict: str) -> Decision:
        for knob in Knob:
            larger = self._double(knob)
            if knob not in self._given_up and larger != self._setting:
                self._before, self._setting, self._trying = self._setting, larger, knob
                return Decision(larger, f"{verdict}; trying a larger {knob}")
        self._held += 1
        if self._held >= HOLD_WINDOWS:
            self._held = 0
            self._given_up.clear()
        return Decision(self._setting, f"{verdict}; plateau")

    def _double(self, knob: Knob) -> Setting:
        now = self._setting
        if knob is Knob.LIMIT:
            return now if self._bounds.limit else replace(now, limit=min(MAX_LIMIT, 2 * now.limit))
        if self._bounds.batch_rows:
            return now
        return replace(
            now,
            batch_rows=min(self._bounds.max_batch_rows, 2 * now.batch_rows),
            batch_tokens=min(MAX_BATCH_TOKENS, 2 * now.batch_tokens),
        )

    def _back_off(self) -> Decision:
        self._clear()
        self._calm_s = 0.0
        self._answered = False
        if self._before is not None and self._trying is Knob.BATCH:
            self._given_up.add(Knob.BATCH)
            self._setting, self._before = self._before, None
            return Decision(self._setting, "overloaded: batch reverted")
        self._before = None
        self._given_up.add(Knob.LIMIT)
        if not self._bounds.limit:
            self._setting = replace(self._setting, limit=max(1, int(BACK_OFF * self._setting.limit)))
        return Decision(self._setting, "overloaded: fewer requests in flight")

    def _clear(self) -> None:
        self._seconds = 0.0
        self._answers = self._tokens = 0
