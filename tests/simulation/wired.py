"""The GPU servers of tests/servers/gpu in simulated time: the same physics, without HTTP."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from actors.driver.tuning.base import Bounds
from tests.servers.gpu.batches import Outcome
from tests.servers.gpu.physics import Gpu
from tests.servers.gpu.profiles import Fault
from tests.servers.gpu.profiles import Profile as GpuProfile
from tests.simulation.engine import Engine
from tests.simulation.profiles import Profile
from tests.simulation.servers import OVERLOADED, VECTORS, Answer, Reply, Request


class Wired:
    """The simulated server, also a meter of itself. The way to it is the pool's."""

    def __init__(self, engine: Engine, profile: GpuProfile, seed: int) -> None:
        self.meter = self
        self._engine = engine
        self._gpu = Gpu(replace(profile, distance_s=0.0), seed)
        self._chance = random.Random(f"faults {seed}")
        self._ring_at = math.inf

    def busy_s(self) -> float:
        """Per GPU, since the start."""
        return self._gpu.busy_s(self._engine.now) / self._gpu.profile.replicas

    def arrive(self, request: Request, reply: Reply) -> None:
        profile = self._gpu.profile
        if profile.faults and self._chance.random() < profile.faults:
            after_s = profile.retry_after_s if profile.fault is Fault.QUOTA else None
            return reply(Answer("overloaded", retry_after_s=after_s))
        self._gpu.send(self._engine.now, request.lengths, reply)
        return self._look()

    def _look(self) -> None:
        for job in self._gpu.advance(self._engine.now):
            job.tag(self._answer(job.outcome))  # type: ignore[operator]
        at = self._gpu.next_event
        if at is not None and at < self._ring_at:
            self._ring_at = at
            self._engine.at(at, self._ring)

    def _ring(self) -> None:
        self._ring_at = math.inf
        self._look()

    def _answer(self, outcome: Outcome | None) -> Answer:
        profile = self._gpu.profile
        match outcome:
            case Outcome.OK:
                return VECTORS
            case Outcome.TOO_MANY:
                return Answer("too_many_inputs", most_rows=profile.most_inputs)
            case Outcome.QUOTA:
                return Answer("overloaded", retry_after_s=profile.retry_after_s)
            case Outcome.OOM:
                return Answer("backend")
            case _:
                return OVERLOADED


def wired(profile: GpuProfile, about: str) -> Profile:
    way = {"rtt_s": max(profile.distance_s, 0.001), "jitter": profile.jitter}
    way["gauge_s"] = max(0.5, profile.gauge_period_s) if profile.gauge else None
    says = Bounds()
    if profile.dialect == "tei":
        says = Bounds(
            server_rows=profile.most_inputs,
            server_texts_inflight=profile.text_cap or None,
            server_batch_tokens=profile.batch_tokens,
        )
    return Profile(about, lambda engine, seed: Wired(engine, profile, seed), way=way, says=says)
