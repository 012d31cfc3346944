"""What a test saves: one JSON file a mode, and one that compares them; written whole, read with suspicion."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from actors.output.local_store import publish_file
from jobs.bench.schedule import Mode
from jobs.bench.spread import Amount, Spread
from jobs.bench.vectors import Agreement
from jobs.report.timeline import Stretch, Timeline

SCHEMA = 2

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=10**15)]
Text = Annotated[str, Meta(max_length=2000)]
_LONGEST_S = 1e8  # a run of three years is a damaged number
_MOST_BYTES = 64 << 20


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What was tested, and where. `servers` is by URL: what each said of itself and what it was found to take."""

    started: Text
    finished: Text
    machine: dict[str, Text]
    servers: dict[str, dict[str, Text]]
    corpus: Text
    rows: Count
    model: Text
    dim: Count


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a run's `_summary.json`, what a comparison shows, under the same names."""

    complete: bool
    rows_embedded: Count
    rows_rejected: Count
    unique_texts: Count
    tokens: Count
    seconds: Amount
    rows_per_s: Amount
    tokens_per_s: Amount
    requests: Count
    retries: Count
    errors: dict[str, Count]
    gpu_util_mean: Share | None
    gpu_util_p10: Share | None
    gpu_source: Text | None
    cpu_seconds: Amount
    bound_by: Text | None
    advice: Text


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """The second half of a run, when what had to be tuned was: means over its telemetry from `begin_s` on."""

    begin_s: Amount
    rows_per_s: Amount
    gpu_util: Share | None
    p50_ms: Amount | None
    p99_ms: Amount | None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its summary and its telemetry. `steady` is None where it was too short to have a second half."""

    started: Text
    summary: Figures
    steady: Steady | None
    timeline: Timeline


class ModeResult(msgspec.Struct, frozen=True, kw_only=True):
    """`sync_*.json` and `async_*.json`. `gpu_util` is over the second half of each run."""

    schema: int = SCHEMA
    kind: Mode
    setup: Setup
    settings: dict[str, Text]
    rows_per_s: Spread
    steady_rows_per_s: Spread | None
    gpu_util: Spread | None
    runs: Annotated[tuple[Run, ...], Meta(min_length=1)]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The same rows in both modes, one run after the other."""

    sync_rows_per_s: Amount
    async_rows_per_s: Amount
    first: Mode


class Names(msgspec.Struct, frozen=True, kw_only=True, rename={"async_": "async"}):
    """Of the files with the runs of each mode."""

    sync: Text
    async_: Text


class Rates(msgspec.Struct, frozen=True, kw_only=True, rename={"async_": "async"}):
    """Rows/s of whole runs in each mode."""

    sync: Spread
    async_: Spread


class Utilisations(msgspec.Struct, frozen=True, kw_only=True, rename={"async_": "async"}):
    """Of the GPU, in the second half of the runs in each mode; None: not known."""

    sync: Spread | None
    async_: Spread | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`comparison_*.json`. `times_faster`: async over sync, of whole runs; `steady_...`: of their second halves."""

    schema: int = SCHEMA
    kind: Literal["comparison"] = "comparison"
    setup: Setup
    results: Names
    times_faster: Spread
    steady_times_faster: Spread | None
    confidence: Share | None
    rows_per_s: Rates
    gpu_util: Utilisations
    vectors: Agreement
    pairs: Annotated[tuple[Pair, ...], Meta(min_length=1)]


Result = ModeResult | Comparison


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry of the folder that is no result, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Saved:
    """What a folder holds: results by file name, oldest first, and what was not read."""

    results: dict[str, Result]
    skipped: tuple[Skipped, ...]


def save(folder: Path, name: str, result: Result) -> Path:
    """Write `name`.json into the folder; it appears whole or not at all. Raises OSError."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    publish_file(path, msgspec.json.format(encode(result), indent=1).decode() + "\n")
    return path


def encode(result: Result) -> bytes:
    return msgspec.json.encode(result, enc_hook=_list_of)


def read_folder(folder: Path, besides: str) -> Saved:
    """Every result in the folder, hidden entries and the one called `besides` not counted. Raises OSError."""
    results: dict[str, Result] = {}
    skipped: list[Skipped] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or path.name == besides:
            continue
        try:
            results[path.name] = read(path)
        except ValueError as error:
            skipped.append(Skipped(path.name, str(error)))
    by_age = sorted(results.items(), key=lambda each: (each[1].setup.started, each[0]))
    return Saved(dict(by_age), tuple(skipped))


def read(path: Path) -> Result:
    """One result. Raises ValueError that says what the file is instead."""
    if path.is_dir():
        raise ValueError("a folder")
    if path.suffix != ".json":
        raise ValueError("not a .json file")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large to be a result")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    try:
        return _decode(content)
    except RecursionError:
        raise ValueError("nested too deeply to be a result") from None


class _Head(msgspec.Struct):
    kind: str
    schema: int


def _decode(content: bytes) -> Result:
    if not content.strip():
        raise ValueError("empty")
    try:
        head = msgspec.json.decode(content, type=_Head)
    except msgspec.ValidationError:
        raise ValueError("JSON, but not a result of rayembed bench") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not whole: {error}") from None
    if head.schema != SCHEMA:
        raise ValueError(f"written by another version (schema {head.schema}; this one reads {SCHEMA})")
    try:
        if head.kind == "comparison":
            return msgspec.json.decode(content, type=Comparison)
        result = msgspec.json.decode(content, type=ModeResult, dec_hook=_numbers)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a result of rayembed bench: {error}") from None
    for run in result.runs:
        for stretch in run.timeline.stretches:
            _check(stretch)
    return result


def _check(stretch: Stretch) -> None:
    """Raises ValueError for what could not be drawn."""
    columns = [astuple(series) for series in stretch.series.values()]
    whole = all(len(each) == len(t) > 0 for t, *others in columns for each in (t, *others))
    if not columns or not whole or not 0 <= stretch.seconds <= _LONGEST_S:
        raise ValueError("not a result of rayembed bench: its time lines are not whole")
    for times in (stretch.turns, *(t for t, *_ in columns)):
        if not (times <= stretch.seconds).all() or not (np.diff(times) >= 0).all():
            raise ValueError("not a result of rayembed bench: the times of its time lines are in no order")


def _list_of(value: Any) -> Any:
    """Numbers of a time line; what is not known (NaN) is null."""
    if isinstance(value, np.ndarray):
        return [None if each != each else each for each in np.round(value, 4).tolist()]
    raise NotImplementedError(type(value).__name__)


def _numbers(type_: Any, value: Any) -> Any:
    """The other way round; called for each array of a time line."""
    if not isinstance(value, list) or not all(each is None or type(each) in (int, float) for each in value):
        raise ValueError("expected a list of numbers")
    numbers = np.array(value, np.float64)
    if not ((numbers >= 0) & (numbers <= 1e15) | np.isnan(numbers)).all():
        raise ValueError("expected numbers of at least 0")
    return numbers
