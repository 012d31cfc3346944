"""The main job: plan, ask the endpoints, start the pool, watch it, sum up."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa

from actors.corpus.storage import reason
from actors.driver.tuning import DEFAULT_POLICY, POLICIES, Bounds
from actors.errors import FAILED, INTERRUPTED, SOME_REJECTED, UserError
from actors.messages import Columns, DriverStatus, Endpoint, JobSpec, Order, Orders, QueueStatus, Reuse
from actors.output.done import finished_parts, sweep
from actors.output.parts import PLAN_PROPERTY, part_schema
from actors.output.run_file import begin_run, fingerprint, identity
from actors.output.sinks import open_sink
from actors.output.store import as_place, store_of
from actors.queue.ledger import Ledger
from actors.queue.listing import list_input
from actors.queue.plan import Plan, choose_rows_per_part
from jobs.about import chosen, machine
from jobs.asked import note_asked
from jobs.commits import Commits
from jobs.endpoints import Found, find_endpoints
from jobs.probe import in_short
from jobs.progress import Progress
from jobs.ray_setup import connect, drain_s
from jobs.repeats import check_unique_ids, count_repeats
from jobs.report import write_report
from jobs.reuse import check_reuse, index_of, remove_index
from jobs.settings import Settings
from jobs.summary import Summary, summarise

if TYPE_CHECKING:
    from jobs.pool import Pool

_LOOK_S = 0.25
_NORMALISATIONS = {"auto": "as served", "yes": "length 1", "no": "raw"}


@dataclass(frozen=True, slots=True)
class Job:
    """A run, decided: what is read, what is asked of whom, what is written where (a folder or a URL)."""

    settings: Settings
    out: str
    plan: Plan
    columns: Columns
    found: Found

    @property
    def sink(self) -> str:
        return self.settings.output.sink

    @property
    def wanted(self) -> range:
        """Indexes of the parts that this run is for."""
        return self.plan.parts_of_batch(self.settings.input.batch)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `run` came to."""

    summary: Summary
    exit_code: int


def prepare(settings: Settings) -> Job:
    """Look at input and endpoints, write nothing. Raises UserError for whatever is wrong with them."""
    if not settings.input.paths:
        raise UserError(
            "no input: name files or folders, e.g. rayembed run corpus.parquet -o vectors, "
            "or set input.paths in the config file"
        )
    if not settings.output.path:
        raise UserError("no output folder: name one with -o OUT, or set output.path in the config file")
    out = as_place(settings.output.path)
    open_sink(settings.output.sink, out)
    asked = settings.input
    listing = list_input(
        asked.paths, out, asked.text_column, asked.id_column, asked.keep, asked.text_files == "whole"
    )
    if asked.unique_ids:
        check_unique_ids(listing, asked.limit)
    found = find_endpoints(settings.servers, settings.vectors, truncate=asked.too_long == "truncate")
    rows = sum(file.rows for file in listing.files)
    row_bytes = found.dim * np.dtype(settings.output.dtype).itemsize
    plan = Plan(
        files=listing.files,
        rows_per_part=settings.output.rows_per_part or choose_rows_per_part(rows, row_bytes),
        rows_per_batch=asked.rows_per_batch,
        limit=asked.limit,
        checkpoints=listing.checkpoints,
    )
    if asked.batch is not None and asked.batch > plan.batches:
        raise UserError(
            f"--batch {asked.batch}: the input has {plan.rows:,} rows, which are {plan.batches} batches of "
            f"{asked.rows_per_batch:,}; choose 1 to {plan.batches}"
        )
    job = Job(settings, out, plan, listing.columns, found)
    if asked.reuse:
        check_reuse(as_place(asked.reuse), out, _identity(job))
    return job


def run(settings: Settings) -> Outcome:
    """Embed what is missing. Raises UserError when the job cannot begin or cannot go on; run again to go on.

    SIGTERM raises KeyboardInterrupt, as Ctrl-C does, but while rows are embedded: then both end the job cleanly.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job = prepare(settings)
    run_identity = _identity(job)
    try:
        store_of(job.out).create()
        begin_run(job.out, run_identity)
        note_asked(job.out, settings)
        open_sink(job.sink, job.out).begin(_schema(job))
        sweep(job.out, everything=False, sink=job.sink)
        remove_index(job.out)  # of a job that was killed
    except OSError as error:
        raise UserError(f"cannot write to {job.out}: {reason(error)}; choose another -o", FAILED) from error
    there = finished_parts(job.out, job.plan, job.wanted, job.sink)
    before = Ledger(job.plan, job.wanted, there.indexes, there.rejects).status()
    if before.finished:
        return _sum_up(job, before, None, seconds=0.0, interrupted=False)
    for server in job.found.servers:
        print(in_short(server), file=sys.stderr)
    try:
        reuse = index_of(as_place(settings.input.reuse), job.out) if settings.input.reuse else None
        return _on_ray(job, fingerprint(run_identity), reuse)
    finally:
        remove_index(job.out)


def _on_ray(job: Job, plan_fingerprint: str, reuse: Reuse | None) -> Outcome:
    local = connect(job.settings.ray.address)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has put its own over it
    try:
        return _embed(job, plan_fingerprint, reuse, local)
    finally:
        import ray

        ray.shutdown()


def _identity(job: Job) -> dict[str, Any]:
    vectors = job.settings.vectors
    given = {"text": vectors.prompt, "name": vectors.prompt_name}
    return identity(
        job.plan,
        job.columns,
        job.found.endpoints[0].model,
        job.found.dim,
        job.settings.output.dtype,
        _NORMALISATIONS[vectors.normalize],
        {name: prompt for name, prompt in given.items() if prompt},
        job.sink,
    )


def _schema(job: Job) -> pa.Schema:
    return part_schema(job.columns, job.found.dim, job.settings.output.dtype)


def _embed(job: Job, plan_fingerprint: str, reuse: Reuse | None, local: bool) -> Outcome:
    from jobs.pool import Pool

    bounds = Bounds(
        limit=job.settings.async_inference.concurrency,
        batch_rows=job.settings.async_inference.request_rows,
        max_batch_rows=job.settings.async_inference.max_batch_size,
    )
    by_endpoint = {each.url: _bounds_of(each, bounds) for each in job.found.endpoints}
    size = job.settings.async_inference.actors if job.settings.async_inference.enabled else 1
    with _interrupts() as interrupted:
        spec = _spec(job, plan_fingerprint, reuse, by_endpoint, size)
        skip = job.settings.ray.skip_bad_nodes
        pool = Pool(job.plan, job.settings.input.batch, spec, by_endpoint, size, skip)
        began = time.monotonic()
        try:
            queue, driver = _watch(pool, Commits(open_sink(job.sink, job.out), job.plan), interrupted)
        except UserError:
            pool.stop()
            raise
        seconds = time.monotonic() - began
        queue, driver = pool.stop() if interrupted else pool.finish()
        cpu_s = _cpu_seconds(pool, driver, local)
    return _sum_up(job, queue, driver, seconds=seconds, cpu_seconds=cpu_s, interrupted=bool(interrupted))


def _bounds_of(endpoint: Endpoint, bounds: Bounds) -> Bounds:
    """With what may be asked of this endpoint, and what it says of itself."""
    requests, tokens, limits = endpoint.requests_per_minute, endpoint.tokens_per_minute, endpoint.limits
    return replace(
        bounds,
        requests_per_s=requests and requests / 60,
        tokens_per_s=tokens and tokens / 60,
        server_rows=limits.texts_per_request,
        server_texts_inflight=limits.texts_in_flight,
        server_requests_inflight=limits.requests_in_flight,
        server_batch_tokens=limits.tokens_per_gpu_batch,
        server_merged_texts=limits.texts_merged,
    )


def _spec(
    job: Job, plan_fingerprint: str, reuse: Reuse | None, bounds: Mapping[str, Bounds], size: int | None
) -> JobSpec:
    starts = {url: POLICIES[DEFAULT_POLICY](each, None).start() for url, each in bounds.items()}
    return JobSpec(
        out=job.out,
        endpoints=job.found.endpoints,
        columns=job.columns,
        dim=job.found.dim,
        dtype=job.settings.output.dtype,
        part_properties={PLAN_PROPERTY: plan_fingerprint},
        first_orders=Orders(
            {
                # one that may not be alone waits for its share: the limit is the whole pool's
                url: Order(start.limit if size == 1 else 0, start.batch_rows, start.batch_tokens)
                for url, start in starts.items()
            }
        ),
        patience_s=job.settings.patience_s,
        truncate=job.settings.input.too_long == "truncate",
        prompt=job.settings.vectors.prompt or "",
        reuse=reuse,
        sink=job.sink,
        drain_s=drain_s(),
    )


def _watch(pool: Pool, commits: Commits, interrupted: list[int]) -> tuple[QueueStatus, DriverStatus]:
    queue, driver = pool.look(0.0)
    progress = Progress(queue)
    try:
        while not queue.finished and not interrupted:
            queue, driver = pool.look(_LOOK_S)
            progress.show(queue, driver)
            commits.now_and_then()
    finally:
        progress.close()
        commits.close()
    return queue, driver


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that fills when the job is asked to end; a second Ctrl-C ends it at once."""
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        print("\nending: what is in flight is still written (once more to end at once)", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cpu_seconds(pool: Pool, driver: DriverStatus, local: bool) -> float:
    """Of this process and all actors; with a Ray of our own, of its daemons too."""
    own = psutil.Process()
    if not local:
        return sum(own.cpu_times()[:2]) + driver.cpu_s + pool.cpu_seconds()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def _sum_up(
    job: Job,
    queue: QueueStatus,
    driver: DriverStatus | None,
    *,
    seconds: float,
    interrupted: bool,
    cpu_seconds: float | None = None,
) -> Outcome:
    """Count what is in the folder, not what was said, and write the summary and the report."""
    try:
        open_sink(job.sink, job.out).commit(job.plan)
    except OSError as error:
        raise UserError(f"cannot commit to {job.out}: {reason(error)}; run again to go on", FAILED) from error
    everything = range(job.plan.parts)
    there = finished_parts(job.out, job.plan, everything, job.sink)
    complete = len(there.indexes) == job.plan.parts
    if complete:
        sweep(job.out, everything=True, sink=job.sink)
    repeats = count_repeats(job.out, job.plan.rows, job.sink) if complete and job.columns.id else None
    summary = summarise(
        queue,
        driver,
        rows_total=job.plan.rows,
        rows_there=job.plan.rows_of(there.indexes),
        rejects_there=there.rejects,
        complete=complete,
        seconds=seconds,
        cpu_seconds=cpu_seconds if cpu_seconds is not None else sum(psutil.Process().cpu_times()[:2]),
        model=job.found.endpoints[0].model,
        dim=job.found.dim,
        rows_repeating_an_id=repeats,
    )
    summary.publish(job.out)
    write_report(job.out, summary, {"Machine": machine(), "Settings": chosen(job.settings)}, job.sink)
    missing = set(job.wanted) - set(there.indexes.tolist())
    if interrupted and missing:
        return Outcome(summary, INTERRUPTED)
    if missing:
        raise UserError(f"{len(missing)} parts are missing from {job.out}; run again to go on", FAILED)
    return Outcome(summary, SOME_REJECTED if summary.rows_rejected else 0)
