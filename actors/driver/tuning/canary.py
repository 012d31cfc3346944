"""Larger requests go out as a single one first: if the server cannot take it, that costs one request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.driver.tuning.aims import Step
from actors.messages import Completion

AGAIN_S, GIVE_UP_S = 3.0, 20.0  # without an answer another one goes out; without that one it is given up

WHOLE, MOST_SHORT = 0.95, 5  # of its size, to prove it


@dataclass(slots=True)
class Canary:
    """The canary that was sent last, and the step that waits for it."""

    number: int = 0
    tokens: int | None = None
    proven: int = 0  # one of so many tokens came back, or of as many rows as there may be
    parked: Step | None = None
    _sent: float = 0.0
    _since: float = 0.0
    _short: int = 0

    def came(self, completions: Iterable[Completion], most_rows: int) -> None:
        """Learn from its answer. One that was cut short by what texts there were goes out again."""
        for each in completions:
            if not each.canary or each.canary != self.number or self.tokens is None:
                continue
            if each.rows >= most_rows or each.size >= WHOLE * self.tokens:
                self.proven = max(self.proven, self.tokens)
            elif self._short < MOST_SHORT:
                self.number, self._short = self.number + 1, self._short + 1

    def send(self, tokens: int, now: float) -> None:
        """Unless one of this size is on its way."""
        if tokens != self.tokens:
            self.number, self.tokens, self._sent, self._short = self.number + 1, tokens, now, 0

    def again(self, now: float) -> None:
        """It did not reach the server as it was."""
        if self.tokens is not None:
            self.number, self._sent = self.number + 1, now

    def park(self, step: Step, now: float) -> None:
        """Let a step wait until a request of its size has come back."""
        self.parked, self._since = step, now
        self.send(step.aim.tokens, now)

    def lost(self, now: float, longest_s: float) -> bool:
        """Whether there is no more hope for the step; a canary that is late is sent once more."""
        if now - max(self._sent, self._since) > max(AGAIN_S, 4 * longest_s):
            self.number, self._sent = self.number + 1, now
        return now - self._since > GIVE_UP_S
