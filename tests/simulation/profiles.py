"""The servers that the law is tried on, with the best fixed setting of each, and servers drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.driver.tuning.base import Bounds, Decision, Observation, Policy, Setting
from tests.simulation.engine import Engine
from tests.simulation.pool import Pool, Source, Tally
from tests.simulation.servers import Direct, Gpu, Hosted, Merging, Server

HORIZON_S = 60.0


@dataclass(frozen=True, slots=True)
class Profile:
    """A server, the way to it, and the texts. `steady`: when the end state is measured; `says`: what it tells."""

    about: str
    server: Callable[[Engine, int], Server]
    source: Mapping[str, Any] = field(default_factory=dict)
    way: Mapping[str, Any] = field(default_factory=dict)
    steady: tuple[float, float] = (44.0, 60.0)
    says: Bounds = field(default_factory=Bounds)
    ramp_from: float = 0.0
    moving: bool = False


def simulate(profile: Profile, policy: Policy, seed: int, horizon: float = HORIZON_S) -> Tally:
    engine = Engine()
    source = Source(engine, 3 * seed, **profile.source)
    pool = Pool(engine, 3 * seed + 1, source, profile.server(engine, 3 * seed + 2), policy, **profile.way)
    engine.run(horizon)
    return pool.tally


def _direct(gpu: Gpu, **more: Any) -> Callable[[Engine, int], Server]:
    return lambda engine, seed: Direct(engine, gpu, random.Random(seed), **more)


def _merging(gpu: Gpu, **more: Any) -> Callable[[Engine, int], Server]:
    return lambda engine, seed: Merging(engine, gpu, random.Random(seed), **more)


def _hosted(requests: float, tokens: float) -> Callable[[Engine, int], Server]:
    return lambda engine, seed: Hosted(engine, random.Random(seed), requests, tokens)


def _between(start: float, stop: float, value: float, otherwise: float) -> Callable[[float], float]:
    return lambda now: value if start <= now < stop else otherwise


def _grows(now: float) -> float:
    return 1.0 + 5.0 * min(1.0, max(0.0, (now - 20) / 20))


_GPU = Gpu(0.004, 2e-6, 4096)
_SMALL_KNEE = Gpu(0.004, 2e-6, 1024, noise=0.05)
_NO_GAUGE = {"gauge_s": None}
_TEI_BIG = _merging(Gpu(0.006, 2e-6, 8192), batch_tokens=65_536, cap_texts=8192)
_TEI = _merging(Gpu(0.003, 2e-6, 2048), batch_tokens=16_384, cap_texts=512, most_rows=32)

PROFILES: dict[str, Profile] = {
    "direct": Profile("one request = one GPU batch", _direct(_GPU)),
    "host_work": Profile("the same, busy at most 77 % for work on the host", _direct(_GPU, host_share=0.3)),
    "far": Profile("the same, 60 ms away", _direct(_GPU), way={"rtt_s": 0.06}),
    "tei": Profile("merges 16k tokens, 512 texts held, 32 a request", _TEI),
    "tei_says": Profile(
        "the same, and says so",
        _TEI,
        says=Bounds(server_rows=32, server_texts_inflight=512, server_batch_tokens=16_384),
    ),
    "tei_big": Profile("merges 65k tokens, 8192 texts held", _TEI_BIG),
    "tei_big_says": Profile(
        "the same, and says so",
        _TEI_BIG,
        says=Bounds(server_rows=2048, server_texts_inflight=8192, server_batch_tokens=65_536),
    ),
    "infinity": Profile("32 texts a GPU batch, sorts 8", _merging(Gpu(0.003, 2e-6, 1024), batch_rows=32)),
    "cap": Profile(
        "4 replicas, 429 above 24 requests",
        _direct(Gpu(0.008, 3e-6, 2048, noise=0.05), replicas=4, cap=24),
        way={"rtt_s": 0.005, **_NO_GAUGE},
    ),
    "oom": Profile("fails above 49k tokens", _direct(Gpu(0.012, 2e-6, 8192), oom=49_152)),
    "hosted": Profile(
        "50 requests/s and 200k tokens/s, 80 ms away",
        _hosted(50, 200_000),
        way={"rtt_s": 0.08, "jitter": 0.5, **_NO_GAUGE},
    ),
    "hosted_requests": Profile(
        "10 requests/s, 80 ms away",
        _hosted(10, 2_000_000),
        way={"rtt_s": 0.08, "jitter": 0.5, **_NO_GAUGE},
    ),
    "noisy": Profile(
        "25 % noise, stalls, half the speed from 25 to 45 s",
        _direct(Gpu(0.004, 2e-6, 4096, noise=0.25, stall_every=100, stall_s=0.15, speed=_between(25, 45, 0.5, 1))),
        moving=True,
    ),
    "fast": Profile("one of three unequal: the fastest", _direct(Gpu(0.003, 1e-6, 8192))),
    "slow": Profile(
        "one of three unequal: 0.12 x, 20 ms away", _direct(Gpu(0.01, 8e-6, 1024)), way={"rtt_s": 0.02}
    ),
    "grows": Profile(
        "texts grow 6 x, fails above 49k tokens",
        _direct(Gpu(0.008, 2e-6, 8192), oom=49_152),
        source={"median": 40, "grows": _grows},
        moving=True,
    ),
    "replicas": Profile(
        "8 replicas 40 ms away, 64 texts a request",
        _direct(_SMALL_KNEE, replicas=8, most_rows=64),
        way={"rtt_s": 0.04},
    ),
    "scales": Profile(
        "2 replicas, 8 from 25 s",
        _direct(_SMALL_KNEE, replicas=2, joins=(25.0, 6), most_rows=64),
        way={"rtt_s": 0.04},
        moving=True,
    ),
    "crowd": Profile("slower by 3 % a request above 6", _direct(_GPU, crowd=6)),
    "cold": Profile("compiles for its first 6 s", _direct(_GPU, cold_until=6.0), ramp_from=6.0),
    "starved": Profile(
        "the source gives 35 % from 20 to 35 s",
        _direct(_GPU),
        source={"texts_per_s": _between(20, 35, 2000, 1e9)},
        moving=True,
    ),
    "cut": Profile(
        "30 % of the speed from 20 to 40 s",
        _direct(Gpu(0.004, 2e-6, 4096, speed=_between(20, 40, 0.3, 1)), replicas=2),
        way={"rtt_s": 0.02},
        steady=(48.0, 60.0),
        moving=True,
    ),
    "stale_gauge": Profile(
        "8 replicas, the gauge is read every 15 s",
        _direct(_SMALL_KNEE, replicas=8, most_rows=64),
        way={"rtt_s": 0.04, "gauge_s": 15.0},
    ),
    "blind": Profile("one request = one GPU batch, no gauge", _direct(_GPU), way=_NO_GAUGE),
}


def at_random(index: int) -> Profile:
    """Held-out server `index`."""
    chance = random.Random(1000 + index)
    among, choice = chance.uniform, chance.choice
    source = {"median": round(2 ** among(4, 8)), "sigma": among(0.4, 1.2), "longest": choice([256, 512, 1024])}
    gpu = Gpu(10 ** among(-3, -1.7), 10 ** among(-6.2, -4.6), round(2 ** among(9, 14)), noise=among(0.02, 0.15))
    way = {"rtt_s": 10 ** among(-3.3, -1), "gauge_s": choice([0.5, 0.5, 0.5, None, None])}
    kind = choice(["direct", "direct", "replicas", "tei", "infinity"])
    if kind == "tei":
        held = {
            "batch_tokens": choice([8192, 16_384, 65_536]),
            "cap_texts": choice([512, 1024, 4096]),
            "most_rows": choice([32, 128, 1024]),
        }
        return Profile(f"{kind} {held} {gpu} {way} {source}", _merging(gpu, **held), source, way)
    if kind == "infinity":
        rows = choice([32, 64, 256])
        return Profile(f"{kind} {rows} {gpu} {way} {source}", _merging(gpu, batch_rows=rows), source, way)
    replicas = 1 if kind == "direct" else choice([2, 4, 8])
    most = {
        "replicas": replicas,
        "most_rows": choice([None, None, 32, 128]),
        "cap": choice([None, None, 2 * replicas + chance.randrange(1, 30)]),
        "host_share": choice([0, 0, among(0.1, 0.5)]),
        "oom": choice([None, None, round(2 ** among(13.6, 16.5))]),
    }
    return Profile(f"{most} {gpu} {way} {source}", _direct(gpu, **most), source, way)


class Fixed:
    """A setting that never moves."""

    def __init__(self, setting: Setting) -> None:
        self._decision = Decision(setting, "fixed")

    def start(self) -> Setting:
        return self._decision.setting

    def decide(self, seen: Observation) -> Decision:
        return self._decision
