"""Larger requests go out as a single one first: if the server cannot take it, that costs one request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.driver.tuning.aims import Step
from actors.messages import Completion

AGAIN_S, GIVE_UP_S = 3.0, 20.0  # without an answer another one goes out; without that one it is given up


@dataclass(slots=True)
class Canary:
    """The canary that was sent last, and the step that waits for it."""

    number: int = 0
    tokens: int | None = None
    proven: int = 0  # one of so many tokens came back, if cut short by the row cap
    parked: Step | None = None
    _sent: float = 0.0
    _since: float = 0.0

    def came(self, completions: Iterable[Completion]) -> None:
        if any(each.canary == self.number for each in completions if each.canary):
            self.proven = max(self.proven, self.tokens or 0)

    def send(self, tokens: int, now: float) -> None:
        """Unless one of this size is on its way."""
        if tokens != self.tokens:
            self.number, self.tokens, self._sent = self.number + 1, tokens, now

    def park(self, step: Step, now: float) -> None:
        """Let a step wait until a request of its size has come back."""
        self.parked, self._since = step, now
        self.send(step.aim.tokens, now)

    def lost(self, now: float, longest_s: float) -> bool:
        """Whether there is no more hope for the step; a canary that is late is sent once more."""
        if now - max(self._sent, self._since) > max(AGAIN_S, 4 * longest_s):
            self.number, self._sent = self.number + 1, now
        return now - self._since > GIVE_UP_S
