"""The simulated servers by name. A new one is a line in `PROFILES`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=1)]
_OrNone = Annotated[int, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(ge=0)]


class Fault(StrEnum):
    """What can be wrong with the answer to one request. Only a hanging and a shuffled one is right."""

    BUSY = "busy"  # 429 or 503
    QUOTA = "quota"  # 429 with a Retry-After
    STARTING = "starting"  # 503
    BACKEND = "backend"  # 424, 500 or 502
    DROPPED = "dropped"  # the connection ends before the answer,
    CUT = "cut"  # or in the middle of its body
    HANG = "hang"  # the answer comes late
    ERROR_200 = "error_200"  # an error in JSON under status 200
    TRUNCATED = "truncated"
    HTML = "html"
    COUNT = "count"  # a vector too few
    DIM = "dim"
    NAN = "nan"
    ZERO = "zero"
    SHUFFLED = "shuffled"  # in another order, with the right indexes
    DUPLICATE = "duplicate"  # an index twice


@dataclass(frozen=True, slots=True)
class Profile:
    """One embedding server. 0 in a limit: there is none. Tokens of a text: ceil(UTF-8 bytes / 4).

    A batch takes `fixed_s + per_token_s * max(work, knee_tokens)`, with work = rows x longest where the
    kernels pad and the sum of tokens where they do not.
    """

    fixed_s: _Share = 0.004
    per_token_s: _Share = 2e-6
    knee_tokens: _OrNone = 4096
    padded: bool = True
    merge: Literal["none", "tokens", "items"] = "none"
    """One request = one batch; or texts of all requests in the order they came, up to `batch_tokens`, the next
    batch made when one is taken (TEI); or `batch_items` texts, cut from the oldest `sort_batches` batches' worth
    sorted by length (Infinity)."""
    batch_tokens: _Count = 16384
    batch_items: _Count = 32
    sort_batches: _Count = 8
    replicas: _Count = 1
    """GPUs behind one queue."""
    speed: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """A batch begun from now on takes 1 / speed of its time."""
    host_share: _Share = 0.0
    """Work before each batch with its GPU idle, as a share of the batch's time."""
    noise: _Share = 0.03
    """Sigma of the lognormal factor (of mean 1) on a batch's time."""
    thrash_above: _OrNone = 0
    thrash_share: _Share = 0.0
    """A batch takes this share longer for each request above `thrash_above` in flight."""
    cold_s: _Share = 0.0
    """From the first request on, no batch begins for so long (its GPU idle)."""
    distance_s: _Share = 0.0
    """Mean round trip without jitter, half on each way."""
    jitter: _Share = 0.1
    """Each way takes an exponential share of this mean longer."""
    most_inputs: _Count = 2048
    request_cap: _OrNone = 0
    text_cap: _OrNone = 0
    """Requests and texts accepted and not yet answered; what would go above gets 429."""
    oom_tokens: _OrNone = 0
    """A batch with more work than this fails, and with it every request in it."""
    oom_s: _Share = 0.4
    """How long the GPU is busy failing."""
    requests_per_s: _Share = 0.0
    tokens_per_s: _Share = 0.0
    burst_s: _Share = 2.0
    """The quotas, and how many seconds of them the buckets hold."""
    retry_after_s: _Share = 1.0
    tells_quota: bool = False
    """Every answer has OpenAI's `x-ratelimit-*` headers."""
    faults: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """This share of the requests meets a fault,"""
    fault: Fault | None = None
    """namely this one, or each of them equally often."""
    hang_s: _Share = 5.0
    poison: str = ""
    """A request with a text that contains this gets 400."""
    dialect: Literal["openai", "tei", "infinity"] = "openai"
    """Whose words errors are in, and whose self-description there is: TEI `/info`, Infinity `/models`."""
    gauge: bool = True
    """Whether `/metrics` tells of the GPU and the queue."""
    gauge_period_s: _Share = 0.0
    """A reading stays the same for so long. 0: each is new."""
    memory_base: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Share of GPU memory in use before the first batch; the rest is in use at `oom_tokens`. 0: not told."""
    floats: bool = False
    """Vectors come as JSON floats, whatever encoding is asked for."""
    dim: _Count = 32
    model: str = "gpu-embedder"


def changed(profile: Profile, fields: dict[str, Any]) -> Profile:
    """`profile` with these fields replaced. Raises msgspec.ValidationError on a wrong name or value."""
    if unknown := fields.keys() - {field.name for field in dataclasses.fields(Profile)}:
        raise msgspec.ValidationError(f"no such field of a profile: {', '.join(sorted(unknown))}")
    return msgspec.convert(dataclasses.asdict(profile) | fields, Profile)


_ONE = Profile()
_TEI = Profile(dialect="tei", merge="tokens", padded=False, fixed_s=0.003, knee_tokens=2048)
_BIG = replace(_ONE, fixed_s=0.012, knee_tokens=8192, oom_tokens=49152, memory_base=0.35)
# Slow enough with all its replicas for a job that shares two cores with it: about 8,000 texts/s of 60 tokens.
_FAR = replace(_ONE, fixed_s=0.016, per_token_s=8e-6, knee_tokens=1024, distance_s=0.16, most_inputs=64, noise=0.05)
_QUOTA = replace(_ONE, fixed_s=0.04, per_token_s=4e-6, knee_tokens=0, padded=False, replicas=64, noise=0.2)

PROFILES: dict[str, Profile] = {
    # one request = one GPU batch
    "one": _ONE,
    "one_unpadded": replace(_ONE, padded=False),
    "host": replace(_ONE, host_share=0.3),  # busy 77 % at most
    "distant": replace(_ONE, distance_s=0.06),
    "jittery": replace(_ONE, distance_s=0.02, jitter=1.0),
    "near_20ms": replace(_ONE, distance_s=0.02),
    "fast_20ms": replace(_ONE, fixed_s=0.001, per_token_s=5e-7, distance_s=0.02),  # about 20,000 texts/s
    "replicas": replace(_FAR, replicas=8),  # needs about 40 requests in flight
    "scale_up": replace(_FAR, replicas=2),  # for `replicas` to be changed on command
    "noisy": replace(_ONE, noise=0.25),
    "thrash": replace(_ONE, thrash_above=6, thrash_share=0.03),
    "cold": replace(_ONE, cold_s=6.0),
    "half": replace(_ONE, fixed_s=0.005, per_token_s=2.5e-6, distance_s=0.005),
    "slow": replace(_ONE, fixed_s=0.01, per_token_s=8e-6, knee_tokens=1024, distance_s=0.02, noise=0.05),
    "no_gauge": replace(_ONE, gauge=False),
    "old_gauge": replace(_ONE, gauge_period_s=15.0),
    # caps, memory, quotas
    "request_cap": replace(
        _ONE,
        fixed_s=0.024,
        per_token_s=9e-6,
        knee_tokens=2048,
        replicas=4,
        request_cap=24,
        distance_s=0.015,
        gauge=False,
    ),
    "text_cap": replace(_ONE, text_cap=1024),
    "oom": _BIG,
    "oom_blind": replace(_BIG, memory_base=0.0, gauge=False),
    "quota": replace(_QUOTA, requests_per_s=50, tokens_per_s=200_000, distance_s=0.08, jitter=0.5, gauge=False),
    "quota_requests": replace(_QUOTA, requests_per_s=20, most_inputs=256, distance_s=0.08, jitter=0.5, gauge=False),
    "quota_told": replace(
        _QUOTA, requests_per_s=50, tokens_per_s=200_000, tells_quota=True, distance_s=0.08, jitter=0.5, gauge=False
    ),
    # merging servers
    "tei": replace(_TEI, text_cap=512, most_inputs=32),
    "tei_padded": replace(_TEI, text_cap=512, most_inputs=32, padded=True),
    "tei_open": replace(_TEI, fixed_s=0.006, knee_tokens=8192, batch_tokens=65536, text_cap=8192),
    "tei_oom": replace(_TEI, batch_tokens=65536, text_cap=2048, most_inputs=256, padded=True, oom_tokens=32768),
    "infinity": replace(_ONE, dialect="infinity", merge="items", fixed_s=0.003, knee_tokens=1024, text_cap=32000),
    "infinity_256": replace(
        _ONE, dialect="infinity", merge="items", batch_items=256, distance_s=0.054, text_cap=32000
    ),
}
