"""The GPU servers of tests/servers/gpu in simulated time: the same physics, without HTTP."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from actors.driver.tuning.base import Bounds
from tests.servers.gpu.batches import Outcome
from tests.servers.gpu.physics import Gpu
from tests.servers.gpu.profiles import PROFILES, Fault
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


def gpu_profile(name: str) -> GpuProfile:
    """One of tests/servers/gpu, or server `drawnN`, which nobody has tuned anything for."""
    return PROFILES[name] if name in PROFILES else drawn(int(name.removeprefix("drawn")))


def wired(name: str) -> Profile:
    """The server of that name, as the simulation takes it."""
    return simulated(name, gpu_profile(name))


def simulated(name: str, profile: GpuProfile) -> Profile:
    """A server of tests/servers/gpu with what it says of itself, and the way to it."""
    way: dict[str, Any] = {"rtt_s": max(profile.distance_s, 0.001), "jitter": profile.jitter}
    way["gauge_s"] = max(0.5, profile.gauge_period_s) if profile.gauge else None
    says = Bounds()
    if profile.dialect == "tei":
        says = Bounds(
            server_rows=profile.most_inputs,
            server_texts_inflight=profile.text_cap or None,
            server_batch_tokens=profile.batch_tokens,
        )
    if profile.dialect == "infinity":
        says = Bounds(server_rows=2048, server_texts_inflight=32_000, server_merged_texts=8 * profile.batch_items)
    return Profile(name, lambda engine, seed: Wired(engine, profile, seed), way=way, says=says)


def drawn(index: int) -> GpuProfile:
    """A server drawn at random: how it batches, what it costs and refuses, how far away it is."""
    chance = random.Random(5000 + index)
    among, choice = chance.uniform, chance.choice
    merge = choice(["none", "none", "tokens", "items"])
    fields: dict[str, Any] = {
        "merge": merge,
        "dialect": {"none": "openai", "tokens": choice(["tei", "openai"]), "items": "infinity"}[merge],
        "replicas": choice([1, 1, 1, 2, 4, 8]) if merge == "none" else 1,
        "batch_tokens": choice([8192, 16_384, 65_536]),
        "batch_items": choice([32, 64, 256]),
        "padded": chance.random() < 0.7,
        "fixed_s": 10 ** among(-2.7, -1.7),
        "per_token_s": 10 ** among(-5.9, -5.0),
        "knee_tokens": round(2 ** among(9, 13.5)),
        "host_share": choice([0.0, 0.0, among(0.1, 0.4)]),
        "noise": among(0.02, 0.12),
        "distance_s": 10 ** among(-3, -1),
        "jitter": among(0.1, 0.8),
        "most_inputs": choice([2048, 2048, 256, 64]),
        "gauge": chance.random() < 0.7,
    }
    match choice(["nothing", "nothing", "requests", "texts", "memory", "quota"]):
        case "requests":
            fields["request_cap"] = 2 * fields["replicas"] + chance.randrange(2, 40)
        case "texts":
            fields["text_cap"] = round(2 ** among(9, 13))
        case "memory":
            fields |= {"merge": "none", "dialect": "openai", "oom_tokens": round(2 ** among(13.5, 16.5))}
        case "quota":
            fields |= {"merge": "none", "dialect": "openai", "replicas": 64, "knee_tokens": 0, "gauge": False}
            fields |= {"burst_s": among(1, 4), "retry_after_s": among(0.5, 2)}
            fields |= (
                {"tokens_per_s": 10 ** among(5, 5.8)}
                if chance.random() < 0.5
                else {"requests_per_s": among(10, 60)}
            )
    return GpuProfile(**fields)
