"""Observations of a server in closed form: what the law sees of a setting, without a simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from actors.driver.tuning.base import Decision, Observation, Policy, Setting
from actors.messages import Completion, Failure, GpuSample

TICK_S = 0.25
Rate = Callable[[Setting], float]  # tokens/s


def failure(at: float, kind: str, size: int = 8000, **more: object) -> Failure:
    base = Failure(at, kind, rows=100, tokens=size, size=size, retry_after_s=None, most_rows=None, latency_s=0.01)
    return replace(base, **more)  # type: ignore[arg-type]


@dataclass
class Ground:
    """Answers come evenly; each order is obeyed at once."""

    policy: Policy
    rate: Rate
    latency_s: float = 0.05
    busy: float | None = None
    gauge_age_s: float = 0.1
    starved: bool = False
    answers: bool = True
    now: float = 0.0
    failures: list[Failure] = field(default_factory=list)  # of the next tick
    decisions: list[Decision] = field(default_factory=list)
    oom: int | None = None  # the size above which a canary fails
    _canary: int = 0
    _due: float = 0.0
    _since: float = 0.0

    @property
    def setting(self) -> Setting:
        return self.decisions[-1].setting if self.decisions else self.policy.start()

    def tick(self) -> Decision:
        setting, start = self.setting, self.now
        self.now += TICK_S
        done = []
        if self.answers:
            gap = setting.batch_tokens / self.rate(setting)
            while self._due < self.now:
                done.append(Completion(self._due, self.latency_s, 100, setting.batch_tokens, setting.batch_tokens))
                self._due += gap
            if done and setting.canary_tokens and setting.canary != self._canary:
                self._canary, size = setting.canary, setting.canary_tokens
                if self.oom and size > self.oom:
                    self.failures.append(failure(self.now, "backend", size=size, canary=setting.canary))
                else:
                    done[-1] = replace(done[-1], size=size, canary=setting.canary)
        else:
            self._due = self.now
        gauge = None if self.busy is None else GpuSample(self.busy, "nvml", self.gauge_age_s)
        seen = Observation(
            now=self.now,
            seconds=TICK_S,
            completions=tuple(done),
            failures=tuple(self.failures),
            inflight=setting.limit,
            starved=self.starved,
            complete_to=self.now,
            obeyed_since=self._since,
            gpu=gauge,
        )
        self.failures = []
        self.decisions.append(self.policy.decide(seen))
        if self.setting != setting:
            self._since = start + TICK_S
        return self.decisions[-1]

    def run(self, seconds: float) -> Setting:
        for _ in range(int(seconds / TICK_S)):
            self.tick()
        return self.setting

    def until(self, word: str, seconds: float = 60.0) -> Decision:
        """The first decision whose reason has this word."""
        for _ in range(int(seconds / TICK_S)):
            if word in self.tick().reason:
                return self.decisions[-1]
        raise AssertionError(f"never '{word}': {[each.reason for each in self.decisions[-8:]]}")
