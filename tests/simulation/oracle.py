"""The best fixed setting for a profile: an exhaustive grid, under 0.1 % of requests failed and p99 under 3 s."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from actors.driver.tuning.base import Setting
from tests.servers.gpu.oracle import best, lognormal
from tests.simulation.profiles import HORIZON_S, PROFILES, Fixed, Profile, at_random, simulate
from tests.simulation.wired import gpu_profile

LIMITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
TOKENS = (2048, 4096, 8192, 16_384, 24_576, 32_768, 45_056, 65_536, 131_072)
ROWS = (32, 64, 128, 512)
MOST_TOKENS = 1 << 17
KNOWN = Path(__file__).with_name("oracles.json")


def batches() -> Iterator[tuple[int, int]]:
    yield from ((rows, MOST_TOKENS) for rows in ROWS)
    yield from ((2048, tokens) for tokens in TOKENS)


def oracle(profile: Profile, seed: int = 11, horizon: float = 14.0) -> Setting:
    warm = 2.0
    if profile.moving:
        horizon, warm = HORIZON_S, 0.0
    if profile.ramp_from:
        horizon, warm = profile.ramp_from + 12, profile.ramp_from + 2
    tried: list[tuple[float, float, Setting]] = []
    for rows, tokens in batches():
        worse, top = 0, 0.0
        for limit in LIMITS:
            if tokens > 65_536 and rows > 512 and limit > 48:
                break
            setting = Setting(limit, rows, tokens)
            tally = simulate(profile, Fixed(setting), seed, horizon)
            rate = tally.rate(warm, horizon)
            if len(tally.failures) <= 0.001 * len(tally.completions) and tally.p99(warm) < 3:
                tried.append((rate, tally.p99(warm), setting))
            top = max(top, rate)
            worse = worse + 1 if rate < 0.98 * top or not tried else 0
            if worse >= 3 or len(tally.failures) > 0.2 * len(tally.completions) or tally.p99(warm) > 6:
                break
    most = max(rate for rate, _, _ in tried)
    return min((each for each in tried if each[0] >= 0.998 * most), key=lambda each: each[1])[2]


def wired_oracle(name: str) -> Setting:
    """The same for a server of tests/servers/gpu, by its own oracle."""
    found = best(replace(gpu_profile(name), faults=0.0), lognormal(20_000), seconds=6.0)[0]
    return Setting(found.in_flight, found.rows, min(found.tokens, MOST_TOKENS))


def known() -> dict[str, Setting]:
    return {name: Setting(*values) for name, values in json.loads(KNOWN.read_text()).items()}


def main() -> None:
    found = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    for name in sys.argv[1:] or PROFILES:
        if name in found and not sys.argv[1:]:
            continue
        if name.startswith("gpu-"):
            setting = wired_oracle(name.removeprefix("gpu-"))
        else:
            setting = oracle(PROFILES[name] if name in PROFILES else at_random(int(name.removeprefix("random"))))
        found = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
        found[name] = [setting.limit, setting.batch_rows, setting.batch_tokens]
        KNOWN.write_text(json.dumps(found, indent=1))
        print(name, found[name], flush=True)


if __name__ == "__main__":
    main()
