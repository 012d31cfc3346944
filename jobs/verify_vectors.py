"""`rayembed verify OUT --endpoint URL`: does a server still give the vectors that are there? A sample tells.

The texts come from the input, found again by what a run notes of it, and each vector's text by its digest in the
part's footer. They are sent as `run` sends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.corpus import Rows
from actors.embedder.client import EmbeddingClient
from actors.embedder.lane import Lane
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Window
from actors.errors import UserError, first_of
from actors.messages import Columns, Order, Part
from actors.output.digests import digest
from actors.output.folder import part_names
from actors.output.old_part import OldPart
from actors.output.run_file import input_difference, plan_of, read_run, sink_of
from actors.output.sinks import PARQUET
from actors.output.store import Place
from actors.queue.listing import list_input
from actors.queue.plan import Ints, Plan
from jobs.agreement import LEAST_COSINE
from jobs.asked import Asked, read_asked
from jobs.endpoints import Server, find_endpoints
from jobs.reading import read_parts
from jobs.settings import Settings
from jobs.verify_part import Problem, counted

LEAST = 0.99  # cosine of one model's vectors of a text, in whatever precision and whatever batch
_LENGTH = 0.02  # by how much of it, too, a vector's length may differ
_NORMALIZE = {"as served": "auto", "length 1": "yes", "raw": "no"}
_ORDER = Order(limit=4, batch_rows=32, batch_tokens=1 << 14)  # no more than any server takes with ease

Vectors = npt.NDArray[np.float32]


@dataclass(slots=True)
class Sample:
    """Rows of the output, in its order: their places (part, row in it), their texts as sent, their vectors there.

    `vectors` are float32[some, dim], together as many as texts. `astray` are places whose text the input has not.
    """

    dim: int
    parts: int = 0
    places: list[tuple[str, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)
    astray: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A sample against what an endpoint gives now. `words` is a line of numbers."""

    problems: tuple[Problem, ...]
    words: str


def verify_vectors(
    out: Place, settings: Settings, inputs: tuple[str, ...], count: int, seed: int
) -> list[Comparison]:
    """Embed about `count` rows of `out` again, at each endpoint of `settings`, and otherwise as `out` was made.

    Without `inputs` the input is looked for where it was. Raises UserError when it is not there or not the same, or
    an endpoint fails.
    """
    run = read_run(out)
    if run is None:
        raise UserError(f"{out} holds no run; name the -o of one")
    if sink_of(run) != PARQUET:
        raise UserError(
            f"{out}: a {sink_of(run)} output does not say which texts its vectors are of, only a Parquet one does; "
            "verify it without --endpoint"
        )
    asked = _asked(out, settings, inputs)
    truncate, prompt = asked.too_long == "truncate", run.get("prompt") or {}
    sample = _sample(out, run, asked, prompt.get("text", ""), count, np.random.default_rng(seed))
    if not sample.texts:
        raise UserError(f"{out} has no vector yet of which the text is known; run the same command again")
    vectors = settings.vectors.model_copy(
        update={
            "prompt_name": prompt.get("name"),
            "dimensions": asked.dimensions,
            "normalize": _NORMALIZE.get(run.get("normalisation", ""), "auto"),
        }
    )
    servers = [each.model_copy(update={"model": each.model or run["model"]}) for each in settings.servers]
    found = [find_endpoints([each], vectors, truncate=truncate).servers[0] for each in servers]
    compared = [_compared(each, sample, truncate=truncate, patience_s=settings.patience_s) for each in found]
    return [*_astray(sample), *compared]


def in_words(found: Sequence[Comparison]) -> str:
    return "\n".join(line for each in found for line in (each.words, *map(str, each.problems)))


def spread(rows: Ints, count: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """About `count` places among parts of so many `rows`: which part, and which row of it, ascending, each once.

    One in every part and the others evenly over all rows; where parts are more, one in some of them, evenly.
    """
    ends = np.cumsum(rows)
    parts = _even(min(count, len(rows)), len(rows), random)
    anywhere = _even(count - len(parts), int(rows.sum()), random)
    of = np.searchsorted(ends, anywhere, "right")
    alone = (random.random(len(parts)) * rows[parts]).astype(np.int64)
    places = np.stack([np.concatenate([parts, of]), np.concatenate([alone, anywhere - (ends - rows)[of]])])
    which, row = np.unique(places, axis=1)
    return which, row


def _even(count: int, end: int, random: np.random.Generator) -> Ints:
    """`count` numbers below `end`, one drawn from each of as many stretches of the same length."""
    drawn = (np.arange(count) + random.random(count)) * (end / max(1, count))
    return np.minimum(drawn.astype(np.int64), end - 1)


def _asked(out: Place, settings: Settings, inputs: tuple[str, ...]) -> Asked:
    noted = read_asked(out)
    if noted:
        return replace(noted, paths=inputs or noted.paths)
    if not inputs:
        raise UserError(f"{out} does not say where its input was; name it with --input PATH")
    return Asked(inputs, settings.input.text_files, settings.input.too_long, settings.vectors.dimensions)


def _input_again(out: Place, run: dict[str, Any], asked: Asked) -> tuple[Plan, Columns]:
    """The plan of the run, of files that can be read. Raises UserError when they are not those of then."""
    old = plan_of(run)
    try:
        listing = list_input(asked.paths, out, run["columns"]["text"], None, (), asked.text_files == "whole")
    except UserError as error:
        raise UserError(f"{error.message}; if the input is elsewhere now, name it with --input PATH") from error
    plan = Plan(listing.files, old.rows_per_part, old.rows_per_batch, old.limit, listing.checkpoints)
    if difference := input_difference(old, plan):
        raise UserError(f"the texts of {out} are not there any more ({difference}); name them with --input PATH")
    return plan, listing.columns


def _sample(
    out: Place, run: dict[str, Any], asked: Asked, prompt: str, count: int, random: np.random.Generator
) -> Sample:
    plan, columns = _input_again(out, run, asked)
    there = plan.indexes_of(part_names(out))
    if not len(there):
        return Sample(run["dim"])
    which, planned = spread(plan.rows_each(there), count, random)
    numbers = np.unique(which)
    sample = Sample(run["dim"], len(numbers))
    for number, (part, rows) in zip(numbers, read_parts(plan, columns, there[numbers].tolist()), strict=True):
        with closing(OldPart(out, part.name, run["dim"], run["dtype"], asked_by="--endpoint")) as old:
            digests = old.digests()
            # a part holds no rejects, so that its rows may be fewer than planned
            chosen = np.unique(planned[which == number] * len(digests) // part.rows)
            texts = _by_digest(rows, prompt)
            known = np.array([digests[row].tobytes() in texts for row in chosen], np.bool_)
            sample.astray += [(part.name, int(row)) for row in chosen[~known]]
            sample.places += [(part.name, int(row)) for row in chosen[known]]
            sample.texts += [texts[digests[row].tobytes()] for row in chosen[known]]
            sample.vectors += [some.astype(np.float32) for _, some in old.vectors(chosen[known])]
    return sample


def _by_digest(rows: Rows, prompt: str) -> dict[bytes, str]:
    """The texts of a part as they are sent, by what stands for them in its footer."""
    texts = (prompt + text for text in rows.texts if text)
    return {digest(text.encode()): text for text in texts}


async def _embedded(server: Server, texts: list[str], dim: int, *, truncate: bool, patience_s: float) -> OpenPart:
    """The texts as an open part whose every row has its vector or its reject."""
    part = OpenPart(Part(0, "", 0, 0, len(texts)), Rows(list(texts), None, ()), dim, "float32")
    window = Window()
    window.add(part)
    client = EmbeddingClient(server.endpoint)
    lane = Lane(client, dim, patience_s, _ORDER, window, truncate=truncate)
    try:
        async with asyncio.TaskGroup() as group:
            while window.rows:
                await lane.room()
                if batch := lane.take():
                    lane.start()
                    group.create_task(lane.deliver(batch))
    except* UserError as errors:
        raise first_of(errors) from None
    finally:
        await lane.aclose()
        await client.aclose()
    return part


def _astray(sample: Sample) -> list[Comparison]:
    if not sample.astray:
        return []
    problem = Problem(*sample.astray[0], "its text is not where the plan has it in the input")
    return [Comparison((problem,), f"{len(sample.astray):,} rows of the sample whose text is not in the input")]


def _compared(server: Server, sample: Sample, *, truncate: bool, patience_s: float) -> Comparison:
    url, dim = server.endpoint.url, sample.dim
    if server.vectors.shape[1] != dim:
        what = f"{url} gives vectors of {server.vectors.shape[1]} dimensions, here are {dim}: not the model of then"
        return Comparison((_problem(sample, 0, what),), f"{url}: nothing compared")
    part = asyncio.run(_embedded(server, sample.texts, dim, truncate=truncate, patience_s=patience_s))
    refused = [row for row in range(len(sample.texts)) if part.reject_of(row)]
    # where the server itself cuts, it does so in the same place again
    cut = [row for row in range(len(sample.texts)) if part.is_cut(row) and not server.endpoint.cuts]
    rows = np.setdiff1d(np.arange(len(sample.texts)), [*refused, *cut])
    told = f"{url}: {counted(len(rows), 'row')} of {counted(sample.parts, 'part')} embedded again"
    told += f"; {counted(len(refused), 'text')} refused" if refused else ""
    told += f"; {counted(len(cut), 'text')} too long, which may have been cut elsewhere, left out" if cut else ""
    if not len(rows):
        return Comparison((_problem(sample, 0, f"{url} embeds no text of the sample"),), told)
    there, now = np.concatenate(sample.vectors)[rows].astype(np.float64), part.vectors(rows).astype(np.float64)
    lengths = np.linalg.norm(there, axis=1), np.linalg.norm(now, axis=1)
    cosines = (there * now).sum(axis=1) / (lengths[0] * lengths[1])
    return Comparison(
        (*_unlike(url, sample, rows, cosines), *_longer(url, sample, rows, *lengths)),
        f"{told}; {_numbers(cosines)}",
    )


def _numbers(cosines: npt.NDArray[np.float64]) -> str:
    lowest, first, median = np.quantile(cosines, [0, 0.01, 0.5])
    below = f"{(cosines < LEAST).mean():.1%} below {LEAST}"
    numbers = f"cosine at least {lowest:.5f}, p1 {first:.5f}, median {median:.5f}, {below}"
    if LEAST <= median < LEAST_COSINE:
        numbers += "; the same model in another precision?"
    return numbers


def _unlike(url: str, sample: Sample, rows: Ints, cosines: npt.NDArray[np.float64]) -> list[Problem]:
    wrong = np.flatnonzero(~(cosines >= LEAST))  # not a number, too
    if not len(wrong):
        return []
    what = (
        f"{url} gives its text another vector (cosine {cosines[wrong[0]]:.4f}), as it does for {len(wrong):,} of "
        f"{len(rows):,} rows looked at: not the model of then, or not its settings"
    )
    return [_problem(sample, rows[wrong[0]], what)]


def _longer(
    url: str, sample: Sample, rows: Ints, there: npt.NDArray[np.float64], now: npt.NDArray[np.float64]
) -> list[Problem]:
    wrong = np.flatnonzero(np.abs(now / there - 1) > _LENGTH)
    if not len(wrong):
        return []
    row = wrong[0]
    what = (
        f"{url} gives its text a vector of length {now[row]:.4g}, here it is {there[row]:.4g}, and so for "
        f"{len(wrong):,} of {len(rows):,} rows looked at: other settings of the server"
    )
    return [_problem(sample, rows[row], what)]


def _problem(sample: Sample, row: int, what: str) -> Problem:
    file, place = sample.places[row]
    return Problem(file, place, what)
