"""The tuner on servers that nobody has tuned it for, in simulated time: what share of the best setting it finds.

    python scripts/bench_drawn.py [FROM TO] [--seeds 2] [--all]
    python scripts/bench_drawn.py --trace NUMBER

Each server is drawn by its number, in any combination: how it merges requests, replicas, costs, distance, caps,
memory, a quota, a cold start, a gauge that is late or missing, slowing down when crowded. The best fixed setting of
each is found on a grid and kept in a temporary folder. Deterministic, so one run of each state of the tuner
compares them; shown are the servers where it falls short, or all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from actors.driver.tuning.base import Setting  # noqa: E402
from actors.driver.tuning.knee import Knee  # noqa: E402
from tests.servers.gpu.oracle import best, lognormal  # noqa: E402
from tests.servers.gpu.profiles import Profile  # noqa: E402
from tests.simulation.bench import trace  # noqa: E402
from tests.simulation.profiles import Fixed, simulate  # noqa: E402
from tests.simulation.wired import simulated  # noqa: E402

HORIZON_S, STEADY_S, EARLY_S = 45.0, 29.0, 15.0
LONGEST_RAMP_S = 20.0  # as which a run counts that never gets there
MOST_TOKENS = 1 << 17
FOUND = Path(tempfile.gettempdir()) / "rayembed-drawn-servers"
LEAST_SHARE, MOST_RAMP_S, MOST_REFUSED, MOST_OOMS = 0.97, 10.0, 0.01, 3


def server(number: int) -> Profile:
    """The server of that number."""
    chance = random.Random(9000 + number)
    merge = chance.choice(["none", "none", "tokens", "items"])
    dialects = {"none": ["openai"], "tokens": ["tei", "tei", "openai"], "items": ["infinity", "infinity", "openai"]}
    fields: dict[str, Any] = {"merge": merge, "dialect": chance.choice(dialects[merge])}
    fields |= {
        "replicas": chance.choice([1, 1, 1, 2, 4, 8] if merge == "none" else [1, 1, 1, 2]),
        "batch_tokens": chance.choice([8192, 16_384, 65_536]),
        "batch_items": chance.choice([32, 64, 256]),
        "padded": chance.random() < 0.7,
        "fixed_s": 10 ** chance.uniform(-2.7, -1.7),
        "per_token_s": 10 ** chance.uniform(-5.9, -5.0),
        "knee_tokens": round(2 ** chance.uniform(9, 13.5)),
        "host_share": chance.choice([0.0, 0.0, chance.uniform(0.1, 0.4)]),
        "noise": chance.uniform(0.02, 0.12),
        "distance_s": 10 ** chance.uniform(-3, -1),
        "jitter": chance.uniform(0.1, 0.8),
        "most_inputs": chance.choice([2048, 2048, 256, 64]),
        "gauge": chance.random() < 0.7,
        "cold_s": chance.choice([0.0, 0.0, 0.0, 0.0, chance.uniform(1, 6)]),
        "gauge_period_s": chance.choice([0.0, 0.0, 0.0, 5.0, 15.0]),
    }
    return Profile(**fields | _limits(chance, fields))


def _limits(chance: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if chance.random() < 0.15:
        limits |= {"thrash_above": chance.randrange(4, 24), "thrash_share": chance.uniform(0.01, 0.04)}
    if chance.random() < 0.3:
        requests = chance.random() < 0.5
        limits |= (
            {"request_cap": 2 * fields["replicas"] + chance.randrange(2, 40)}
            if requests
            else {"text_cap": round(2 ** chance.uniform(9, 13))}
        )
    if chance.random() < 0.35:
        least = fields["batch_items"] * 256 if fields["merge"] == "items" else 0
        limits |= {"oom_tokens": max(least, round(2 ** chance.uniform(13.5, 16.5)))}
        limits |= {"memory_base": chance.choice([0.0, 0.3])}
    if fields["merge"] == "none" and chance.random() < 0.15:
        limits |= {"replicas": 64, "knee_tokens": 0, "gauge": False}
        limits |= {"burst_s": chance.uniform(1, 4), "retry_after_s": chance.uniform(0.5, 2)}
        unit = chance.choice(["tokens", "requests", "both"])
        limits |= {"tokens_per_s": 10 ** chance.uniform(5, 5.8)} if unit != "requests" else {}
        limits |= {"requests_per_s": chance.uniform(10, 60)} if unit != "tokens" else {}
    return limits


@dataclass(frozen=True, slots=True)
class Cell:
    """The tuner at a server: share of the best setting's steady state, seconds to 95 % of it, and what it cost."""

    number: int
    seed: int
    share: float
    ramp_s: float
    refused: float
    ooms: int
    p99_s: float
    setting: tuple[int, int, int]
    best: tuple[int, int, int]

    @property
    def misses(self) -> str:
        checks = {
            "share": self.share < LEAST_SHARE,
            "ramp": self.ramp_s > MOST_RAMP_S,
            "refused": self.refused > MOST_REFUSED,
            "OOM": self.ooms > MOST_OOMS,
        }
        return " ".join(name for name, missed in checks.items() if missed)


def best_setting(number: int) -> Setting | None:
    """None: no setting of the grid does without failures."""
    path = FOUND / f"{zlib.crc32(repr(server(number)).encode()):08x}.json"
    if not path.exists():
        try:
            found = best(server(number), lognormal(20_000), seconds=6.0)[0]
            setting = [found.in_flight, found.rows, min(found.tokens, MOST_TOKENS)]
        except ValueError:
            setting = None
        FOUND.mkdir(exist_ok=True)
        path.write_text(json.dumps(setting))
    values = json.loads(path.read_text())
    return Setting(*values) if values else None


def run(number: int, seed: int) -> Cell | None:
    setting, profile = best_setting(number), server(number)
    if setting is None:
        return None
    world = simulated(f"drawn {number}", profile)
    law, fixed = (simulate(world, policy, seed, HORIZON_S) for policy in (Knee(world.says), Fixed(setting)))
    early = fixed.rate(profile.cold_s + 2, profile.cold_s + 2 + EARLY_S)
    reached = law.reached(0.95 * early, HORIZON_S)
    ramp_s = LONGEST_RAMP_S if reached is None else max(0.0, reached - profile.cold_s)
    return Cell(
        number=number,
        seed=seed,
        share=law.rate(STEADY_S, HORIZON_S) / fixed.rate(STEADY_S, HORIZON_S),
        ramp_s=min(ramp_s, LONGEST_RAMP_S),
        refused=law.count("overloaded") / max(1, len(law.completions)),
        ooms=law.count("backend"),
        p99_s=law.p99(STEADY_S),
        setting=law.decisions[-1][1].setting.tuned,
        best=setting.tuned,
    )


def show(cell: Cell) -> None:
    told = {
        field.name: round(value, 6) if isinstance(value, float) else value
        for field in dataclasses.fields(Profile)
        if (value := getattr(server(cell.number), field.name)) != field.default
    }
    print(
        f"{cell.number:4d} {cell.share:7.1%} {cell.ramp_s:5.1f} s {cell.refused:7.2%} {cell.ooms:4d} "
        f"{cell.p99_s:5.2f} s  {cell.setting} best {cell.best}  {cell.misses:12s} {told}",
        flush=True,
    )


def summary(cells: list[Cell]) -> str:
    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(cells)

    return (
        f"{len(cells)} runs: mean share {mean(min(1.0, each.share) for each in cells):.2%}, "
        f"under 97 % {mean(each.share < LEAST_SHARE for each in cells):.1%}, "
        f"under 90 % {mean(each.share < 0.9 for each in cells):.1%}; "
        f"mean ramp {mean(each.ramp_s for each in cells):.1f} s, "
        f"over 10 s {mean(each.ramp_s > MOST_RAMP_S for each in cells):.1%}; "
        f"over 1 % refused {mean(each.refused > MOST_REFUSED for each in cells):.1%}; "
        f"over 3 OOMs {mean(each.ooms > MOST_OOMS for each in cells):.1%}; "
        f"mean p99 {mean(each.p99_s for each in cells):.2f} s"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("numbers", nargs="*", type=int, default=[0, 160], metavar="FROM TO")
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--all", action="store_true", help="show every server")
    arguments.add_argument("--trace", type=int, help="show each decision at this one server")
    given = arguments.parse_args()
    if given.trace is not None:
        world = simulated(f"drawn {given.trace}", server(given.trace))
        return trace(world.about, simulate(world, Knee(world.says), 1, HORIZON_S))
    pairs = [(number, seed) for number in range(*given.numbers) for seed in range(1, given.seeds + 1)]
    print("   # share  95 % at refused  OOM  p99  setting (in flight, rows, tokens)")
    cells = []
    with ProcessPoolExecutor() as pool:
        for cell in pool.map(run, *zip(*pairs, strict=True), chunksize=given.seeds):
            if cell:
                cells.append(cell)
                if given.all or cell.misses:
                    show(cell)
    print(summary(cells))
    return None


if __name__ == "__main__":
    main()
