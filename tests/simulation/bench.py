"""The law against the best fixed setting: `python -m tests.simulation.bench [POLICY] [PROFILE...]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from actors.driver.tuning.base import Bounds, Policy
from actors.driver.tuning.knee import Knee
from tests.simulation.oracle import known
from tests.simulation.pool import Tally
from tests.simulation.profiles import HORIZON_S, PROFILES, Fixed, Profile, at_random, simulate
from tests.simulation.wired import wired

EARLY_S = 15.0  # the oracle's rate of so many seconds is what the ramp is measured by


@dataclass(frozen=True, slots=True)
class Score:
    """`share` of the best fixed setting's tokens/s in steady state; `t95`: seconds to 95 % of it."""

    share: float
    t95: float | None
    refused: int
    too_large: int
    oom: int
    p99_s: float
    final: tuple[int, int, int]
    done: int


def score(name: str, profile: Profile, law: Tally, best: Tally) -> Score:
    start, stop = profile.steady
    early = best.rate(profile.ramp_from + 2, profile.ramp_from + 2 + EARLY_S)
    reached = law.reached(0.95 * early, HORIZON_S)
    final = law.decisions[-1][1].setting
    return Score(
        share=law.rate(start, stop) / best.rate(start, stop),
        t95=None if reached is None else max(0.0, reached - profile.ramp_from),
        refused=law.count("overloaded"),
        too_large=law.count("too_many_inputs"),
        oom=law.count("backend"),
        p99_s=law.p99(start),
        final=(final.limit, final.batch_rows, final.batch_tokens),
        done=len(law.completions),
    )


def profile_of(name: str) -> Profile:
    """One of `PROFILES`, `randomN`, or with `gpu-` before it one of tests/servers/gpu or `drawnN`."""
    if name.startswith("gpu-"):
        return wired(name.removeprefix("gpu-"))
    return PROFILES[name] if name in PROFILES else at_random(int(name.removeprefix("random")))


def trace(name: str, tally: Tally) -> None:
    last = ""
    for now, decision, busy in tally.decisions:
        if decision.reason != last:
            setting = decision.setting
            shown = f"{setting.limit} x {setting.batch_tokens} ({setting.batch_rows} rows)"
            print(f"{now:7.2f} {tally.rate(now - 1, now):9.0f} {busy} {shown:28s} {decision.reason}")
        last = decision.reason


def main() -> None:
    names = [name for name in sys.argv[1:] if not name.startswith("-")]
    policy: Callable[[Bounds], Policy] = Knee
    seeds = (1,) if "--trace" in sys.argv or "--quick" in sys.argv else (1, 2, 3)
    settings = known()
    shares = []
    for name in names or [each for each in settings if not each.startswith("random")]:
        profile, began = profile_of(name), time.perf_counter()
        scores = []
        for seed in seeds:
            law = simulate(profile, policy(profile.says), seed)
            if "--trace" in sys.argv:
                trace(name, law)
            scores.append(score(name, profile, law, simulate(profile, Fixed(settings[name]), seed)))
        share = sum(each.share for each in scores) / len(scores)
        shares.append(share)
        ramps = " ".join("  - " if each.t95 is None else f"{each.t95:4.1f}" for each in scores)
        counts = [max(getattr(each, field) for each in scores) for field in ("refused", "too_large", "oom")]
        print(
            f"{name:16s} {share:6.1%} worst {min(each.share for each in scores):6.1%}  t95 {ramps}"
            f"  refused {counts[0]:4d} of {scores[0].done:6d} too large {counts[1]:2d} oom {counts[2]:2d}"
            f"  p99 {scores[0].p99_s:5.2f} {scores[0].final}"
            f" best {settings[name].limit, settings[name].batch_rows, settings[name].batch_tokens}"
            f" [{time.perf_counter() - began:.1f} s]",
            flush=True,
        )
    print(f"mean {sum(shares) / len(shares):.1%} worst {min(shares):.1%}")


if __name__ == "__main__":
    main()
