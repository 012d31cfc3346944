"""`run --dry-run`: what the job would do, at the price of one small request to each endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tqdm import tqdm

from actors.corpus.source import open_source
from actors.embedder.window import BYTES_PER_TOKEN
from jobs.probe import in_short
from jobs.run import Job, prepare
from jobs.settings import Settings

_SAMPLE_PARTS = 8
_SAMPLE_ROWS = 256  # of each sampled part


@dataclass(frozen=True, slots=True)
class DryRun:
    """`servers` says of each endpoint what it is and takes, as far as that is known.

    `tokens` and `seconds_one_at_a_time` are estimates: from a sample of the texts, and from the probe's latency if
    every text went alone, one after the other.
    """

    rows: int
    files: int
    parts: int
    rows_per_part: int
    tokens: int
    seconds_one_at_a_time: float
    output_bytes: int
    endpoints: tuple[str, ...]
    servers: tuple[str, ...]
    model: str
    dim: int
    max_batch_size: int

    def shown(self, as_json: bool) -> str:
        if as_json:
            return json.dumps(asdict(self))
        return "\n".join(
            [
                f"{self.rows:,} rows in {self.files:,} files, about {self.tokens:,} tokens",
                f"{self.parts:,} parts of at most {self.rows_per_part:,} rows, "
                f"{tqdm.format_sizeof(self.output_bytes, 'B', 1024)} of vectors",
                f"{self.model}, {self.dim} dimensions, at {', '.join(self.endpoints)}",
                f"at most {self.max_batch_size:,} texts in a request",
                *self.servers,
                f"one text at a time, as probed, it would take {tqdm.format_interval(self.seconds_one_at_a_time)}; "
                "batches in flight together take a fraction of that",
            ]
        )


def dry_run(settings: Settings) -> DryRun:
    """Raises UserError as `run` does."""
    job = prepare(settings)
    rows = job.plan.rows_of(job.wanted)
    element_bytes = 2 if settings.output.dtype == "float16" else 4
    return DryRun(
        rows=rows,
        files=len(job.plan.files),
        parts=len(job.wanted),
        rows_per_part=job.plan.rows_per_part,
        tokens=round(rows * _mean_tokens(job)),
        seconds_one_at_a_time=round(rows * job.found.probe_s, 1),
        output_bytes=rows * job.found.dim * element_bytes,
        endpoints=tuple(endpoint.url for endpoint in job.found.endpoints),
        servers=tuple(in_short(server) for server in job.found.servers),
        model=job.found.endpoints[0].model,
        dim=job.found.dim,
        max_batch_size=settings.async_inference.max_batch_size,
    )


def _mean_tokens(job: Job) -> float:
    lengths = [len(text.encode()) for text in _sample(job)]
    return sum(lengths) / len(lengths) / BYTES_PER_TOKEN if lengths else 0.0


def _sample(job: Job) -> Iterable[str]:
    """The first texts of some parts, spread over the input."""
    step = max(1, len(job.wanted) // _SAMPLE_PARTS)
    for index in job.wanted[::step]:
        lease = job.plan.lease(index, 1)
        reader = open_source(lease.file, job.columns)
        try:
            yield from [text for text in reader.read(lease.parts[0]).texts[:_SAMPLE_ROWS] if text]
        finally:
            reader.close()
