"""What a fixed setting would deliver on a profile: the measure that a tuner is held against.

`capacity` plays a client with no cost of its own against the physics, in simulated time; `ceiling` and
`saturated` are closed forms.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.servers.gpu.batches import Outcome
from tests.servers.gpu.physics import Gpu, batch_seconds
from tests.servers.gpu.profiles import Profile

_GOLDEN = 0.6180339887498949
_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Setting:
    """`in_flight` requests of at most `rows` texts and `tokens` padded tokens (rows x longest)."""

    in_flight: int
    rows: int = 2048
    tokens: int = 1 << 62
    by_length: bool = True
    """Requests are cut from texts in the order of their length; else in the order in which they come."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Steady state of a closed loop, after a fifth of the time; `failed` is a share of the answers."""

    tokens_per_s: float
    texts_per_s: float
    busy: float
    failed: float
    refused: int
    ooms: int
    p99_s: float


def lognormal(count: int, median: float = 60, sigma: float = 0.8, most: int = 512, seed: int = 0) -> list[int]:
    """Tokens of so many texts."""
    draw = random.Random(seed).lognormvariate
    return [min(most, 3 + int(median * draw(0.0, sigma))) for _ in range(count)]


def requests_of(lengths: Sequence[int], setting: Setting) -> list[list[int]]:
    """The texts cut into requests, mixed so that every few requests in a row are of all lengths."""
    requests: list[list[int]] = [[]]
    longest = 0
    for length in sorted(lengths) if setting.by_length else lengths:
        request = requests[-1]
        longest = max(longest, length)
        if request and (len(request) >= setting.rows or (len(request) + 1) * longest > setting.tokens):
            request, longest = [], length
            requests.append(request)
        request.append(length)
    places = sorted(range(len(requests)), key=lambda i: i * _GOLDEN % 1.0)
    return [requests[i] for i in places]


def ceiling(profile: Profile) -> float:
    """Tokens/s that no client can exceed on average: GPUs that never wait, on batches as large as they may be,
    without padding."""
    limits = [limit for limit in (profile.oom_tokens, _most_merged(profile)) if limit]
    per_token = profile.per_token_s / profile.speed
    cost = batch_seconds(profile, min(limits)) / min(limits) if limits else per_token
    bounds = [profile.replicas / (cost * (1 + profile.host_share))] if cost else []
    if profile.tokens_per_s:
        bounds.append(profile.tokens_per_s)
    return min(bounds, default=float("inf"))


def _most_merged(profile: Profile) -> int:
    return profile.batch_tokens if profile.merge == "tokens" else 0


def saturated(profile: Profile, requests: Sequence[Sequence[int]]) -> float:
    """Tokens/s of GPUs that always find a next request, when each of these requests is a batch of its own."""
    works = (len(each) * max(each) if profile.padded else sum(each) for each in requests)
    seconds = sum(batch_seconds(profile, work) for work in works) * (1 + profile.host_share)
    return profile.replicas * sum(map(sum, requests)) / seconds


def measure(
    profile: Profile, lengths: Sequence[int], setting: Setting, seconds: float = 20.0, seed: int = 0
) -> Measured:
    """A closed loop of `seconds`: each answer is followed at once by the next request, a refusal or failure by
    the same request after its `Retry-After` or 0.1 s. A quota is watched for five times as long, since how full
    its buckets are at the ends then matters less; a cold start is over."""
    profile = replace(profile, cold_s=0)
    if profile.requests_per_s or profile.tokens_per_s:
        seconds *= 5
    requests = requests_of(lengths, setting)
    gpu = Gpu(profile, seed)
    gpu.spend_quota()  # a burst is not steady state
    sends = [(0.0, i, i) for i in range(setting.in_flight)]  # when, order, request
    count = setting.in_flight
    from_s = seconds / 5
    busy_from = 0.0
    tokens = texts = refused = ooms = 0
    latencies: list[float] = []
    now = 0.0
    while now < seconds:
        event = gpu.next_event
        if sends and (event is None or sends[0][0] <= event):
            now, _, which = heapq.heappop(sends)
            gpu.send(now, requests[which % len(requests)], which)
            continue
        assert event is not None
        if now < from_s <= event:
            busy_from = gpu.busy_s(from_s)
        now = event
        for job in gpu.advance(now):
            good = job.outcome is Outcome.OK
            count += 1
            again = now if good else now + (profile.retry_after_s if job.outcome is Outcome.QUOTA else _RETRY_S)
            heapq.heappush(sends, (again, count, count if good else int(str(job.tag))))
            if not from_s <= now < seconds:
                continue
            if good:
                tokens, texts = tokens + job.tokens, texts + len(job.lengths)
                latencies.append(now - job.sent)
            elif job.outcome is Outcome.OOM:
                ooms += 1
            else:
                refused += 1
    span = seconds - from_s
    latencies.sort()
    return Measured(
        tokens_per_s=tokens / span,
        texts_per_s=texts / span,
        busy=(gpu.busy_s(seconds) - busy_from) / span / profile.replicas,
        failed=(refused + ooms) / max(1, refused + ooms + len(latencies)),
        refused=refused,
        ooms=ooms,
        p99_s=latencies[int(0.99 * len(latencies))] if latencies else float("inf"),
    )


def capacity(profile: Profile, lengths: Sequence[int], setting: Setting) -> float:
    """Tokens/s delivered in steady state with this setting."""
    return measure(profile, lengths, setting).tokens_per_s


def grid(profile: Profile) -> list[Setting]:
    """The settings that `best` tries, within the limits that the profile tells its clients."""
    most = profile.most_inputs
    return [
        Setting(in_flight, min(rows, most), tokens)
        for in_flight in (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 192)
        for rows, tokens in sorted({(min(rows, most), 1 << 62) for rows in (32, 128, 512)})
        + [(2048, 1 << i) for i in range(11, 18)]
        + [(2048, 24576), (2048, 45056)]
    ]


def best(
    profile: Profile,
    lengths: Sequence[int],
    settings: Iterable[Setting] | None = None,
    seconds: float = 10.0,
    most_failed: float = 0.001,
    most_p99_s: float = 3.0,
) -> tuple[Setting, Measured]:
    """The setting that delivers the most tokens/s with few failures and a sane latency: the oracle.

    Raises ValueError when there is none.
    """
    tried = [(each, measure(profile, lengths, each, seconds)) for each in settings or grid(profile)]
    sane = [pair for pair in tried if pair[1].failed <= most_failed and pair[1].p99_s <= most_p99_s]
    return max(sane, key=lambda pair: pair[1].tokens_per_s)
