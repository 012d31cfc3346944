"""`rayembed run -o OUT --status`: how a job stands, from any machine that sees its output. Needs no Ray.

All of it is told by the output itself: the plan, the parts that are there, the end of telemetry, the summary.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import msgspec
from tqdm import tqdm

from actors.errors import FAILED, UserError
from actors.output.done import finished_parts
from actors.output.folder import RUN_FILE, SUMMARY_FILE, TELEMETRY
from actors.output.run_file import plan_of, read_run, sink_of
from actors.output.store import Store, as_place, read_bytes, store_of
from jobs.settings import Settings

RECENT_S = 10.0  # that rates, latency and errors are over
SILENT_S = 20.0  # an object store has new lines every few seconds only
_TAIL_BYTES = 1 << 18  # holds the last ten seconds of some ten endpoints


class _Line(msgspec.Struct):
    """What is used of a telemetry line. `at` is seconds since 1970."""

    t: float
    at: float
    endpoint: str
    limit: int
    inflight: int
    batch_rows: int
    rows_per_s: float
    tokens_per_s: float
    open_rows: int
    gpu_util: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    decision: str
    bound_by: str | None
    advice: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of an output: its rows and those of them in parts, rejects among them; telemetry, summary."""

    rows_total: int
    rows_durable: int
    rows_rejected: int
    whole: bool
    lines: tuple[_Line, ...]
    summary: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class EndpointNow:
    """One endpoint in the last seconds; latencies and `gpu_util` are None where nothing is known of them."""

    url: str
    rows_per_s: float
    tokens_per_s: float
    inflight: int
    limit: int
    batch_rows: int
    gpu_util: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    decision: str


@dataclass(frozen=True, slots=True)
class Status:
    """`state` is running, complete, or stopped. `rows_here` have a vector or are rejected, `rows_durable` in parts.

    `silent_s` is how long ago the driver last wrote (None: never), `seconds_left` at the speed of the last seconds.
    """

    state: str
    out: str
    rows_total: int
    rows_here: int
    rows_durable: int
    rows_rejected: int
    rows_per_s: float
    tokens_per_s: float
    seconds_left: float | None
    silent_s: float | None
    bound_by: str | None
    advice: str | None
    endpoints: tuple[EndpointNow, ...]

    @property
    def exit_code(self) -> int:
        return FAILED if self.state == "stopped" else 0

    def shown(self, as_json: bool) -> str:
        return json.dumps(asdict(self)) if as_json else "\n".join(_words(self))


def status(settings: Settings) -> Status:
    """Raises UserError where there is no job's output."""
    out = settings.output.path
    if not out:
        raise UserError("no output folder: name the -o of the job, or set output.path in the config file")
    return judged(out, read(out), time.time())


def read(out: str) -> Seen:
    """Everything that is looked at. Raises UserError where there is no job's output."""
    place = as_place(out)
    run = read_run(place)
    if run is None:
        raise UserError(f"{out} has no {RUN_FILE}: no job has begun there; name the -o of the job")
    plan = plan_of(run)
    there = finished_parts(place, plan, range(plan.parts), sink_of(run))
    return Seen(
        rows_total=plan.rows,
        rows_durable=plan.rows_of(there.indexes),
        rows_rejected=there.rejects,
        whole=len(there.indexes) == plan.parts,
        lines=_recent(_tail(store_of(place))),
        summary=_summary(store_of(place)),
    )


def _tail(store: Store) -> bytes:
    """The end of what the driver wrote last."""
    names = sorted(name for name in store.names(TELEMETRY) if name.endswith(".jsonl"))
    for name in reversed(names):  # one that has just begun is empty
        with store.open(f"{TELEMETRY}/{name}") as lines:
            lines.seek(max(0, lines.size() - _TAIL_BYTES))
            tail: bytes = lines.read()
            if tail:
                return tail
    return b""


def _summary(store: Store) -> Mapping[str, Any] | None:
    try:
        return msgspec.json.decode(read_bytes(store, SUMMARY_FILE), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None


def _recent(tail: bytes) -> tuple[_Line, ...]:
    """The lines of the last `RECENT_S`; what is torn by a kill or by the cut at the tail's start is left out."""
    decode = msgspec.json.Decoder(_Line).decode
    lines: list[_Line] = []
    for line in tail.splitlines():
        try:
            lines.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return tuple(each for each in lines if lines[-1].t - RECENT_S < each.t <= lines[-1].t)


def judged(out: str, seen: Seen, now: float) -> Status:
    """How the job stands at `now`, in seconds. It is complete when all parts are there and the summary says so."""
    silent_s = max(0.0, now - seen.lines[-1].at) if seen.lines else None
    running = silent_s is not None and silent_s <= SILENT_S
    complete = seen.whole and bool(seen.summary and seen.summary.get("complete"))
    endpoints = _endpoints(seen.lines) if running and not complete else ()
    here = min(seen.rows_total, seen.rows_durable + (seen.lines[-1].open_rows if endpoints else 0))
    rate = sum(each.rows_per_s for each in endpoints)
    told: Mapping[str, Any] = seen.summary or {} if complete else {}
    return Status(
        state="complete" if complete else "running" if running else "stopped",
        out=out,
        rows_total=seen.rows_total,
        rows_here=here,
        rows_durable=seen.rows_durable,
        rows_rejected=seen.rows_rejected,
        rows_per_s=told.get("rows_per_s", round(rate, 1)),
        tokens_per_s=told.get("tokens_per_s", round(sum(each.tokens_per_s for each in endpoints), 1)),
        seconds_left=round((seen.rows_total - here) / rate, 1) if rate else None,
        silent_s=None if silent_s is None else round(silent_s, 1),
        bound_by=told.get("bound_by", seen.lines[-1].bound_by if endpoints else None),
        advice=told.get("advice", seen.lines[-1].advice if endpoints else None),
        endpoints=endpoints,
    )


def _endpoints(lines: Sequence[_Line]) -> tuple[EndpointNow, ...]:
    by_url: dict[str, list[_Line]] = {}
    for line in lines:
        by_url.setdefault(line.endpoint, []).append(line)
    return tuple(_endpoint(url, of_it) for url, of_it in by_url.items())


def _endpoint(url: str, lines: Sequence[_Line]) -> EndpointNow:
    last = lines[-1]
    gpus = [line.gpu_util for line in lines if line.gpu_util is not None]
    errors: dict[str, int] = {}
    for line in lines:
        for kind, count in line.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    return EndpointNow(
        url=url,
        rows_per_s=round(sum(line.rows_per_s for line in lines) / len(lines), 1),
        tokens_per_s=round(sum(line.tokens_per_s for line in lines) / len(lines), 1),
        inflight=last.inflight,
        limit=last.limit,
        batch_rows=last.batch_rows,
        gpu_util=round(sum(gpus) / len(gpus), 3) if gpus else None,
        p50_ms=median(known) if (known := [each.p50_ms for each in lines if each.p50_ms is not None]) else None,
        p99_ms=max((each.p99_ms for each in lines if each.p99_ms is not None), default=None),
        errors=errors,
        decision=last.decision,
    )


def _words(status: Status) -> list[str]:
    of = f"{status.rows_here:,} of {status.rows_total:,} rows ({status.rows_here / max(1, status.rows_total):.0%})"
    rejected = [f"{status.rows_rejected:,} rows rejected so far"] if status.rows_rejected else []
    if status.state == "stopped":
        seen = "no sign of life yet" if status.silent_s is None else f"last sign of life {_ago(status.silent_s)}"
        return [f"not running: {of}, {seen}; run the same command again to go on", *rejected]
    bound = [f"bound by: {status.bound_by} ({status.advice})"] if status.bound_by else []
    if status.state == "complete":
        return [
            f"complete: {of}, {status.rows_rejected:,} of them rejected, {status.rows_per_s:,.0f} rows/s",
            *bound,
        ]
    left = f"{tqdm.format_interval(status.seconds_left)} left" if status.seconds_left is not None else "no row yet"
    head = f"running: {of}, {status.rows_per_s:,.0f} rows/s, {left}, heard of {_ago(status.silent_s or 0.0)}"
    return [head, *rejected, *map(_endpoint_words, status.endpoints), *bound]


def _endpoint_words(now: EndpointNow) -> str:
    gpu = f"GPU {now.gpu_util:.0%}" if now.gpu_util is not None else "no GPU seen"
    latency = f"p50 {now.p50_ms:,.0f} ms, p99 {now.p99_ms:,.0f} ms, " if now.p50_ms and now.p99_ms else ""
    failed = ", ".join(f"{kind} {count:,}" for kind, count in now.errors.items()) or "none"
    return (
        f"{now.url}: {now.rows_per_s:,.0f} rows/s, {now.tokens_per_s:,.0f} tokens/s, "
        f"in flight {now.inflight}/{now.limit}, batch ≤{now.batch_rows}, {gpu}, {latency}"
        f"errors in the last {RECENT_S:.0f} s: {failed}; {now.decision}"
    )


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{tqdm.format_interval(seconds)} ago"
