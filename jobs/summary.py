"""`_summary.json`: what a run did, in the words of the interface."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from actors.messages import DriverStatus, QueueStatus
from actors.output.folder import SUMMARY_FILE
from actors.output.store import Place, publish_text, store_of


@dataclass(frozen=True, slots=True)
class Summary:
    """The output as it is now, and what this run took to get there.

    Once `complete`, `rows_total` = `rows_embedded` by this run + `rows_resumed`, which were already there,
    + `rows_rejected` by this run or an earlier one; with `--batch N` these cover the other batches too. `seconds`
    is from the first lease to the last durable part, and rates are over it.

    `rows_embedded` = `unique_texts`, which were sent, + `rows_fanned_out`, which have the text of one of these,
    + `rows_reused`, with the vector of an earlier output; these three are what the embedders told, so that the last
    moment of a killed one is in none. Of `rows_truncated` only the beginning of the text was embedded.
    `rows_repeating_an_id` have that of an earlier row; None: not counted, or ids are positions.
    """

    complete: bool
    rows_total: int
    rows_embedded: int
    rows_rejected: int
    rows_resumed: int
    rows_truncated: int
    unique_texts: int
    rows_fanned_out: int
    rows_reused: int
    rows_repeating_an_id: int | None
    tokens: int
    seconds: float
    rows_per_s: float
    tokens_per_s: float
    requests: int
    retries: int
    errors: dict[str, int]
    dim: int
    model: str
    gpu_util_mean: float | None
    gpu_util_p10: float | None
    gpu_source: str | None
    cpu_seconds: float
    endpoints: tuple[dict[str, Any], ...]
    bound_by: str | None
    advice: str

    def publish(self, out: Place) -> None:
        publish_text(store_of(out), SUMMARY_FILE, self.to_json(indent=1) + "\n")

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(asdict(self), indent=indent)


def summarise(
    queue: QueueStatus,
    driver: DriverStatus | None,
    *,
    rows_total: int,
    rows_there: int,
    rejects_there: int,
    complete: bool,
    seconds: float,
    cpu_seconds: float,
    model: str,
    dim: int,
    rows_repeating_an_id: int | None = None,
) -> Summary:
    """`driver` is None when there was nothing left to do; `rows_there` are in the folder now, rejects included."""
    endpoints = driver.endpoints if driver else ()
    tokens = sum(endpoint.tokens for endpoint in endpoints)
    embedded = queue.rows_done - queue.rejects_done
    verdict = driver.verdict if driver else None
    errors: dict[str, int] = {}
    for endpoint in endpoints:
        for kind, count in endpoint.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    answered = max(1, sum(endpoint.rows for endpoint in endpoints))
    return Summary(
        complete=complete,
        rows_total=rows_total,
        rows_embedded=embedded,
        rows_rejected=rejects_there,
        rows_resumed=rows_there - rejects_there - embedded,
        rows_truncated=sum(endpoint.truncated for endpoint in endpoints),
        unique_texts=sum(endpoint.unique_texts for endpoint in endpoints),
        rows_fanned_out=sum(endpoint.rows - endpoint.unique_texts for endpoint in endpoints),
        rows_reused=driver.rows_reused if driver else 0,
        rows_repeating_an_id=rows_repeating_an_id,
        tokens=tokens,
        seconds=round(seconds, 3),
        rows_per_s=round(embedded / seconds, 1) if seconds else 0.0,
        tokens_per_s=round(tokens / seconds, 1) if seconds else 0.0,
        requests=sum(endpoint.requests for endpoint in endpoints),
        retries=sum(endpoint.retries for endpoint in endpoints),
        errors=errors,
        dim=dim,
        model=model,
        gpu_util_mean=driver.gpu_mean if driver else None,
        gpu_util_p10=driver.gpu_p10 if driver else None,
        gpu_source=driver.gpu_source if driver else None,
        cpu_seconds=round(cpu_seconds, 3),
        endpoints=tuple(
            {
                "url": endpoint.endpoint,
                "rows": endpoint.rows,
                "share": round(endpoint.rows / answered, 4),
                "concurrency": endpoint.limit,
                "batch_size": endpoint.batch_rows,
            }
            for endpoint in endpoints
        ),
        bound_by=verdict.bound_by if verdict else None,
        advice=verdict.advice if verdict else "every row was there already",
    )


def in_words(summary: Summary, place: str) -> str:
    """The summary as a person reads it in a terminal; `place` is what the vectors are in."""
    lines = [
        f"{'complete' if summary.complete else 'not complete'}: {summary.rows_embedded:,} rows embedded, "
        f"{summary.rows_resumed:,} already there, {summary.rows_rejected:,} rejected, of {summary.rows_total:,}",
        f"{summary.seconds:.1f} s, {summary.rows_per_s:,.0f} rows/s, {summary.tokens_per_s:,.0f} tokens/s, "
        f"{summary.requests:,} requests, {summary.retries:,} retries, {summary.cpu_seconds:.1f} CPU-s",
        f"bound by: {summary.bound_by or 'nothing'} ({summary.advice})",
    ]
    if summary.rows_fanned_out or summary.rows_reused:
        lines.append(
            f"{summary.unique_texts:,} texts sent; {summary.rows_fanned_out:,} rows have the same text as another, "
            f"{summary.rows_reused:,} the vector of an earlier output"
        )
    if summary.rows_truncated:
        lines.append(
            f"{summary.rows_truncated:,} of these texts were too long for the model: only their beginning was sent"
        )
    if summary.rows_repeating_an_id:
        lines.append(
            f"{summary.rows_repeating_an_id:,} rows have the id of an earlier row (`rayembed verify` names the "
            "first; --unique-ids refuses such input)"
        )
    if summary.errors:
        lines.append("errors: " + ", ".join(f"{kind} {count:,}" for kind, count in summary.errors.items()))
    lines.append(f"vectors: {place} ({summary.dim} dimensions, {summary.model})")
    return "\n".join(lines)
