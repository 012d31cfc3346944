"""What holds a job back, how that is told, and what to change to go faster. Pure: a load in, a verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from actors.driver.tuning import Bounds
from actors.messages import Endpoint, EndpointLoad, Load, Verdict

TELLING_S = 5.0
STILL_MOVING = 3  # times that a setting changed within a recent load: what it will come to is not known yet
_NOTICEABLE = 0.2  # of the time, or of the requests
_BUSY_CORE = 0.85
_NO_CORE = 0.5  # idle: less than that is none
_ALWAYS_BUSY = 0.9  # of the time in which a kernel runs
_FULL = {"gpm": 0.8, "dcgm-sm": 0.8}  # of the multiprocessors: they are never all busy, between two kernels few are
_NEAR_CAP = 0.8  # of what a server admits: whole requests of texts seldom fit it to the last
_MORE = 4  # times as much as it admits, to advise
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Known:
    """Of one endpoint, beside what was seen: what it is and takes, and what the user pinned."""

    endpoint: Endpoint
    bounds: Bounds

    @property
    def name(self) -> str:
        return self.endpoint.server or self.endpoint.url

    @property
    def here(self) -> bool:
        """Whether it runs on the machine of the embedders."""
        return urlsplit(self.endpoint.url).hostname in _THIS_MACHINE


def judge_recent(load: Load | None, known: Mapping[str, Known]) -> Verdict | None:
    """On the last seconds of a running job; None: too little was seen, or the server's settings still move."""
    if load is None:
        return None
    verdict = judge(load, known)
    moving = any(each.moves >= STILL_MOVING for each in load.endpoints)
    return None if moving and verdict.bound_by == "server" and not _full(load.endpoints) else verdict


def judge(load: Load, known: Mapping[str, Known]) -> Verdict:
    """On `load`; `known` is by URL.

    What starves the requests comes first, then what keeps them from being sent, and what is left is the server.
    A GPU that is always busy is believed over a busy client, and over nothing else: one small kernel at a time
    reads as 100 %.
    """
    if load.seconds < TELLING_S:
        return Verdict("server", "it was over too soon to tell what held it back", "")
    return (
        _failing(load, known)
        or _output(load)
        or _client(load, known)
        or _input(load)
        or _rate_limit(load, known)
        or _pinned(load, known)
        or _server(load, known)
    )


def _failing(load: Load, known: Mapping[str, Known]) -> Verdict | None:
    for each in load.endpoints:
        failed = {kind: count for kind, count in each.errors.items() if kind != "overloaded"}
        if sum(failed.values()) > _NOTICEABLE * max(1, each.requests):
            kind = max(failed, key=lambda kind: failed[kind])
            told = f"{sum(failed.values()):,} of {each.requests:,} requests failed at {each.endpoint} ({kind})"
            return Verdict("server", told, "look into its log")
    return None


def _output(load: Load) -> Verdict | None:
    if load.writing <= _NOTICEABLE:
        return None
    told = f"reading waited {load.writing:.0%} of the time for finished parts to be written"
    return Verdict("output", told, "write to faster storage, or with --dtype float16 half as much")


def _client(load: Load, known: Mapping[str, Known]) -> Verdict | None:
    """Cores that are busy with our work, or a machine that is busy with anything but the server."""
    if _full(load.endpoints):
        return None
    if load.busy < _BUSY_CORE:
        if load.idle_cores >= _NO_CORE or any(known[each.endpoint].here for each in load.endpoints):
            return None
        told = f"no core of the client's machine is idle, the embedders use {load.busy:.0%} of one each"
        return Verdict("client", told, "add a client machine to the Ray cluster, or end what else runs on this one")
    if load.idle_cores < _NO_CORE:
        told = f"client CPU {load.busy:.0%} of a core each, and no core of the machine is idle"
        return Verdict("client", told, "add a client machine to the Ray cluster")
    told = f"client CPU {load.busy:.0%} of a core each, while {load.idle_cores:.1f} cores are idle"
    return Verdict("client", told, "more --actors, or a client machine more in the Ray cluster")


def _input(load: Load) -> Verdict | None:
    if load.starved <= _NOTICEABLE:
        return None
    told = f"requests waited {load.starved:.0%} of the time for texts to be read"
    return Verdict("input", told, "read from faster storage, or from Parquet in several files")


def _rate_limit(load: Load, known: Mapping[str, Known]) -> Verdict | None:
    for each in load.endpoints:
        server = known[each.endpoint]
        if each.paced > _NOTICEABLE:
            own = server.endpoint.requests_per_minute or server.endpoint.tokens_per_minute
            told = f"requests waited {each.paced:.0%} of the time for the rate limit of {_at(each, load, server)}"
            raised = (
                "raise requests_per_minute or tokens_per_minute in the config file" if own else "have it raised"
            )
            return Verdict("rate-limit", told, raised)
        refused = each.errors.get("overloaded", 0)
        if refused > _NOTICEABLE * max(1, each.requests):
            told = f"{refused:,} of {each.requests:,} requests were refused by {_at(each, load, server)}"
            cap = _cap(each, server, least=0.0)
            return Verdict("rate-limit", told, cap[1] if cap else "raise what it admits, or the key's limits")
    return None


def _pinned(load: Load, known: Mapping[str, Known]) -> Verdict | None:
    """By the user, where the GPU is seen to wait; one request at a time is too little for any server."""
    for each in load.endpoints:
        pinned = known[each.endpoint].bounds.limit
        waits = each.gpu is not None and not _is_full(each)
        if pinned == 1 and not _is_full(each):
            return Verdict(
                "client", f"one request at a time{_gpu(each)}", "run it with --async and --concurrency auto"
            )
        if pinned and waits:
            told = f"requests in flight are pinned to {pinned}{_gpu(each)}"
            return Verdict("client", told, "leave --concurrency and --async-preset out")
    return None


def _server(load: Load, known: Mapping[str, Known]) -> Verdict:
    seen = [each for each in load.endpoints if each.gpu is not None]
    if seen and _full(seen):
        busy = sum(each.gpu or 0.0 for each in seen) / len(seen)
        return Verdict("server", f"GPU {busy:.0%} busy: the server is the limit", "add a GPU and an --endpoint")
    least = min(seen or load.endpoints, key=lambda each: each.gpu or 0.0)
    server = known[least.endpoint]
    if cap := _cap(least, server):
        return Verdict("server", *cap)
    if server.here and load.idle_cores < _NO_CORE:
        told = f"no core of this machine, which the server runs on, is idle{_gpu(least)}"
        return Verdict("server", told, "give it a machine of its own")
    if least.gpu is None:
        told = f"the server is the limit: the client needs {load.busy:.0%} of a core each"
        return Verdict("server", told, "no GPU utilisation could be read; metrics_url names a page with it")
    switch = server.endpoint.switches.get("tokens_per_gpu_batch")
    now = server.endpoint.limits.tokens_per_gpu_batch
    told = f"{_at(least, load, server)} plateaus at {least.gpu:.0%} GPU: its own CPU or settings"
    raised = f"raise {switch}{f' (now {now})' if now else ''}" if switch else ""
    return Verdict("server", told, raised or "give it more CPU, or run a second one on the same GPU")


def _cap(each: EndpointLoad, server: Known, least: float = _NEAR_CAP) -> tuple[str, str] | None:
    """What it admits, and the switch that raises that, where at least so large a share of it is in flight."""
    limits, switches = server.endpoint.limits, server.endpoint.switches
    for name, unit, inflight in (
        ("texts_in_flight", "texts", each.limit * each.batch_rows),
        ("requests_in_flight", "requests", each.limit),
    ):
        admitted = getattr(limits, name)
        if admitted and inflight >= least * admitted and name in switches:
            told = f"{server.name} admits {admitted} {unit} in flight{_gpu(each)}"
            return told, f"start it with {switches[name]} {_MORE * admitted}"
    return None


def _gpu(each: EndpointLoad) -> str:
    return f", GPU {each.gpu:.0%} busy" if each.gpu is not None else ""


def _at(each: EndpointLoad, load: Load, server: Known) -> str:
    return each.endpoint if len(load.endpoints) > 1 else server.endpoint.server or "the server"


def _full(endpoints: Sequence[EndpointLoad]) -> bool:
    """Whether all GPUs that were seen are."""
    seen = [each for each in endpoints if each.gpu is not None]
    return bool(seen) and all(map(_is_full, seen))


def _is_full(each: EndpointLoad) -> bool:
    return each.gpu is not None and each.gpu >= _FULL.get(each.gpu_source or "", _ALWAYS_BUSY)
