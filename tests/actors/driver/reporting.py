"""Reports as embedders send them, and a policy that is told what to decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.driver.controller import Controller
from actors.driver.tuning import Decision, Observation, Setting
from actors.messages import Completion, EndpointReport, GpuSample, Orders, Report

URL, OTHER = "http://one", "http://two"
TICK_S = 0.5


@dataclass
class Steps:
    """A policy that is told what to decide, and remembers what it saw."""

    setting: Setting = field(default_factory=lambda: Setting(8, 128, 8192))
    seen: list[Observation] = field(default_factory=list)

    def start(self) -> Setting:
        return self.setting

    def decide(self, seen: Observation) -> Decision:
        self.seen.append(seen)
        return Decision(self.setting, f"step {len(self.seen)}")


def counted(url: str = URL, **counts: object) -> EndpointReport:
    zero = dict.fromkeys(
        ["limit", "inflight", "requests", "answers", "retries", "rows", "unique_texts", "tokens"], 0
    )
    return EndpointReport(url, **{**zero, **counts})  # type: ignore[arg-type]


def report(
    name: str, *endpoints: EndpointReport, incarnation: str = "1", node: str = "n", **fields: object
) -> Report:
    rest: dict[str, object] = {"window_rows": 0, "starved_s": 0.0, "cpu_s": 0.0, "write_wait_s": 0.0}
    return Report(name, incarnation, node, endpoints, **{**rest, **fields})  # type: ignore[arg-type]


def sampled(busy: float, url: str = URL, source: str = "nvml", age_s: float = 0.5) -> EndpointReport:
    return counted(url, gpu=GpuSample(busy, source, age_s))


def work(amount: int) -> EndpointReport:
    """The cumulative counts after `amount` requests of 10 rows and 100 tokens."""
    return counted(requests=amount, answers=amount, rows=10 * amount, unique_texts=10 * amount, tokens=100 * amount)


def done(count: int, at: float = 0.0) -> tuple[Completion, ...]:
    """Requests of 10 rows and 100 tokens."""
    return (Completion(at, 0.1, 10, 100, 120),) * count


def limits(orders: dict[str, Orders], url: str = URL) -> list[int]:
    return [each.by_endpoint[url].limit for each in orders.values()]


def heard(controller: Controller, names: Sequence[str], now: float) -> dict[str, Orders]:
    """The orders of each when all have reported and nothing changed since."""
    for name in names:
        controller.report(report(name), now)
    return {name: controller.report(report(name), now) for name in names}
