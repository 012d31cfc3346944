"""`run --dry-run`: what the job would do, at the price of one small request to each endpoint."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from actors.corpus import Rows
from actors.embedder.window import BYTES_PER_TOKEN
from actors.output.digests import DIGEST_BYTES, Words, as_words, digest
from actors.output.store import as_place
from actors.output.text_index import TextIndex
from jobs.endpoints import Server
from jobs.estimate import PartTexts, Texts, estimate
from jobs.probe import in_short
from jobs.reading import read_parts
from jobs.reuse import INDEX, index_of
from jobs.run import Job, prepare
from jobs.settings import Settings

_SAMPLE_PARTS = 64
_SAMPLE_S = 10.0  # of reading them, if it takes so long
_ID_BYTES = 8
_MILLION, _HOUR_S = 1e6, 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """In any currency; None: not asked for. The GPU hour is that of an endpoint's GPU, one at each."""

    million_tokens: float | None = None
    gpu_hour: float | None = None


@dataclass(frozen=True, slots=True)
class DryRun:
    """`servers` says of each endpoint what it is and takes, as far as that is known.

    `texts` to be sent and their `tokens` are estimates from `parts_sampled` parts; where these are all `parts`,
    `texts` is a count. `texts_seen` of them are certain. `seconds_at_most` is as in the probe: a few texts in a
    request, one request at a time; `seconds_at_least` is what quotas leave possible. `cost_of_tokens` is of
    `tokens`, `cost_of_gpus` at most.
    """

    rows: int
    files: int
    parts: int
    rows_per_part: int
    texts: int
    texts_seen: int
    tokens: int
    parts_sampled: int
    seconds_at_least: float
    seconds_at_most: float
    cost_of_tokens: float | None
    cost_of_gpus: float | None
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
                f"{self.rows:,} rows in {self.files:,} files",
                self._texts_in_words(),
                f"{self.parts:,} parts of at most {self.rows_per_part:,} rows, about "
                f"{tqdm.format_sizeof(self.output_bytes, 'B', 1024)}",
                f"{self.model}, {self.dim} dimensions, at {', '.join(self.endpoints)}",
                f"at most {self.max_batch_size:,} texts in a request",
                *self.servers,
                self._time_in_words(),
                *self._costs_in_words(),
            ]
        )

    def _texts_in_words(self) -> str:
        if self.parts_sampled == self.parts:
            return f"{self.texts:,} different texts to send, about {self.tokens:,} tokens"
        return (
            f"about {self.texts:,} different texts to send, or fewer, with about {self.tokens:,} tokens (estimated "
            f"from {self.parts_sampled:,} of {self.parts:,} parts, which have {self.texts_seen:,} different texts)"
        )

    def _time_in_words(self) -> str:
        quota, most = self.seconds_at_least, tqdm.format_interval(self.seconds_at_most)
        least = f"at least {tqdm.format_interval(quota)} by the quota; " if quota else ""
        return f"{least}at most about {most}: one small request at a time, as probed; many at once take a fraction"

    def _costs_in_words(self) -> Iterator[str]:
        if self.cost_of_tokens is not None:
            yield f"cost of these tokens: about {_amount(self.cost_of_tokens)}"
        if self.cost_of_gpus is not None:
            yield f"cost of one GPU an endpoint for that time: at most about {_amount(self.cost_of_gpus)}"


def dry_run(settings: Settings, prices: Prices = Prices()) -> DryRun:
    """Raises UserError as `run` does."""
    job = prepare(settings)
    rows = job.plan.rows_of(job.wanted)
    parts = list(_sample(job))
    texts = estimate(parts, rows)
    least_s, most_s = _seconds(job, texts)
    element_bytes = 2 if settings.output.dtype == "float16" else 4
    row_bytes = job.found.dim * element_bytes + DIGEST_BYTES + _ID_BYTES
    return DryRun(
        rows=rows,
        files=len(job.plan.files),
        parts=len(job.wanted),
        rows_per_part=job.plan.rows_per_part,
        texts=texts.texts,
        texts_seen=texts.texts_seen,
        tokens=texts.tokens,
        parts_sampled=len(parts),
        seconds_at_least=round(least_s, 1),
        seconds_at_most=round(most_s, 1),
        cost_of_tokens=None if prices.million_tokens is None else texts.tokens / _MILLION * prices.million_tokens,
        cost_of_gpus=None
        if prices.gpu_hour is None
        else most_s / _HOUR_S * len(job.found.servers) * prices.gpu_hour,
        output_bytes=rows * row_bytes,
        endpoints=tuple(endpoint.url for endpoint in job.found.endpoints),
        servers=tuple(in_short(server) for server in job.found.servers),
        model=job.found.endpoints[0].model,
        dim=job.found.dim,
        max_batch_size=settings.async_inference.max_batch_size,
    )


def _amount(money: float) -> str:
    return f"{money:,.2f}" if money >= 1 else f"{money:.2g}"


def _seconds(job: Job, texts: Texts) -> tuple[float, float]:
    """At least by what may be asked in a minute; at most as slowly as the probe's texts went, long ones longer."""
    mean_tokens = texts.tokens / max(1, texts.texts)
    most_s = texts.texts / sum(1 / _text_s(server, mean_tokens) for server in job.found.servers)
    most_rows = job.settings.async_inference.request_rows or job.settings.async_inference.max_batch_size
    least_s = [
        max(
            60 * texts.tokens / (endpoint.tokens_per_minute or np.inf),
            60 * texts.texts / most_rows / (endpoint.requests_per_minute or np.inf),
        )
        for endpoint in job.found.endpoints
    ]
    together_s = 1 / sum(1 / each if each else np.inf for each in least_s)
    return together_s, max(together_s, most_s)


def _text_s(server: Server, mean_tokens: float) -> float:
    pace = server.pace
    probed_tokens = pace.bytes / pace.texts / BYTES_PER_TOKEN
    return min(pace.alone_s, pace.all_s / pace.texts) * max(1.0, mean_tokens / probed_tokens)


def _sample(job: Job) -> Iterator[PartTexts]:
    """Some parts, file by file in random order; less what an earlier output has, if it is to be reused."""
    random = np.random.default_rng(0)
    count = min(_SAMPLE_PARTS, len(job.wanted))
    chosen = sorted(random.choice(len(job.wanted), count, replace=False).tolist())
    by_file: dict[int, list[int]] = {}
    for place in chosen:
        by_file.setdefault(job.plan.file_of(job.wanted[place]), []).append(job.wanted[place])
    files = list(by_file)
    random.shuffle(files)
    limits = [each.limits.tokens_per_text for each in job.found.endpoints]
    most_tokens = min((limit for limit in limits if limit), default=np.inf)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rayembed-") as folder:
        old = _old(job, Path(folder))
        for part, rows in read_parts(job.plan, job.columns, [index for file in files for index in by_file[file]]):
            yield _texts_of(part.rows, rows, job.settings.vectors.prompt or "", most_tokens, old)
            if time.monotonic() - began > _SAMPLE_S:
                return


def _old(job: Job, folder: Path) -> TextIndex | None:
    if not job.settings.input.reuse:
        return None
    index_of(as_place(job.settings.input.reuse), folder)
    return TextIndex(folder / INDEX)


def _texts_of(count: int, rows: Rows, prompt: str, most_tokens: float, old: TextIndex | None) -> PartTexts:
    texts = [(prompt + text).encode() for i, text in enumerate(rows.texts) if text and i not in rows.bad]
    digests: Words = as_words(b"".join(map(digest, texts)))
    tokens = np.minimum(np.array([len(text) for text in texts], np.float64) / BYTES_PER_TOKEN, most_tokens)
    if old and len(texts):
        new = np.setdiff1d(np.arange(len(texts)), old.find(digests)[0])
        digests, tokens = digests[new], tokens[new]
    return PartTexts(count, digests[:, 0], np.ceil(tokens).astype(np.int64))
