"""Telemetry files -> what the report draws: a matrix of numbers per endpoint, and each time a setting moved."""

from __future__ import annotations

import io
import itertools
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from actors.driver.telemetry import life_of
from actors.output.folder import TELEMETRY
from actors.output.store import Place, store_of

Numbers = npt.NDArray[np.float64]

MOST_STRETCHES = 20  # of many runs into one folder, only the latest are read
MOST_CHANGES = 30

_COLUMNS = 10
_BUFFER = 1 << 20


class _Line(msgspec.Struct, gc=False):
    """What is drawn of a telemetry line."""

    t: float
    endpoint: str
    limit: int
    inflight: int
    batch_rows: int
    batch_tokens: int
    rows_per_s: float
    gpu_util: float | None
    gpu_source: str | None
    p50_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    decision: str


@dataclass(frozen=True, slots=True)
class Series:
    """One endpoint during one stretch, as float64[n] each.

    `gpu` is NaN where none was seen; `p50_ms` and `p99_ms` where no request ended.
    """

    t: Numbers
    rows_per_s: Numbers
    inflight: Numbers
    limit: Numbers
    batch_rows: Numbers
    batch_tokens: Numbers
    gpu: Numbers
    p50_ms: Numbers
    p99_ms: Numbers
    errors: Numbers


@dataclass(frozen=True, slots=True)
class Stretch:
    """One life of the driver: a run, or what is left of it after the driver came back. `seconds` is its last t.

    `turns`, float64[n], is when a setting moved, the first setting of each endpoint not counted.
    """

    started: str
    seconds: float
    series: dict[str, Series]
    turns: Numbers


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that moved, with what it was before; None at the start of a stretch."""

    started: str
    t: float
    endpoint: str
    limit: tuple[int | None, int]
    batch_rows: tuple[int | None, int]
    batch_tokens: tuple[int | None, int]
    decision: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The latest stretches, oldest first. `changes` are the last of `changes_total`; `left_out` counts files."""

    stretches: tuple[Stretch, ...]
    changes: tuple[Change, ...]
    changes_total: int
    left_out: int
    gpu_source: str | None


def read_timeline(out: Place) -> Timeline:
    """All that was recorded in the output `out`, line by line: a day's file costs about a second."""
    store = store_of(out)
    lives: dict[str, list[str]] = {}  # the files of each life of the driver: one, or its pieces in an object store
    for name in sorted(name for name in store.names(TELEMETRY) if name.endswith(".jsonl")):
        lives.setdefault(life_of(name), []).append(name)
    reader = _Reader()
    for life in sorted(lives)[-MOST_STRETCHES:]:
        files = (store.open(f"{TELEMETRY}/{name}") for name in lives[life])
        reader.read(_started(life), itertools.chain.from_iterable(map(_lines, files)))
    return Timeline(
        tuple(reader.stretches),
        tuple(reader.changes),
        reader.changes_total,
        max(0, len(lives) - MOST_STRETCHES),
        reader.gpu_source,
    )


class _Reader:
    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self.changes: deque[Change] = deque(maxlen=MOST_CHANGES)
        self.changes_total = 0
        self.gpu_source: str | None = None

    def read(self, started: str, lines: Iterable[_Line]) -> None:
        """One stretch; nothing is added when it has no lines."""
        numbers: dict[str, array[float]] = {}
        settings: dict[str, tuple[int, int, int]] = {}
        turns = array("d")
        for line in lines:
            setting = (line.limit, line.batch_rows, line.batch_tokens)
            if settings.get(line.endpoint) != setting:
                self._change(started, line, settings.get(line.endpoint), setting)
                if line.endpoint in settings:
                    turns.append(line.t)
                settings[line.endpoint] = setting
                numbers.setdefault(line.endpoint, array("d"))
            numbers[line.endpoint].extend(_numbers(line))
            self.gpu_source = line.gpu_source or self.gpu_source
        if numbers:
            series = {url: Series(*np.frombuffer(flat).reshape(-1, _COLUMNS).T) for url, flat in numbers.items()}
            seconds = max(float(each.t[-1]) for each in series.values())
            self.stretches.append(Stretch(started, seconds, series, np.unique(np.array(turns))))

    def _change(
        self, started: str, line: _Line, before: tuple[int, int, int] | None, now: tuple[int, int, int]
    ) -> None:
        limit, rows, tokens = zip(before or (None, None, None), now, strict=True)
        self.changes.append(Change(started, line.t, line.endpoint, limit, rows, tokens, line.decision))
        self.changes_total += 1


def _numbers(line: _Line) -> tuple[float, ...]:
    """As the fields of `Series`."""
    gpu, p50, p99 = (np.nan if each is None else each for each in (line.gpu_util, line.p50_ms, line.p99_ms))
    errors = sum(line.errors.values()) if line.errors else 0
    batch = (line.batch_rows, line.batch_tokens)
    return (line.t, line.rows_per_s, line.inflight, line.limit, *batch, gpu, p50, p99, errors)


def _lines(file: Any) -> Iterator[_Line]:
    """Of a `pa.NativeFile`. A line that is torn, as a kill leaves the last one, is left out."""
    decode = msgspec.json.Decoder(_Line).decode
    with io.BufferedReader(file, _BUFFER) as lines:
        for line in lines:
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


def _started(stem: str) -> str:
    """When the driver began, from the name of its file."""
    try:
        return datetime.strptime(stem, "%Y%m%dT%H%M%S.%fZ").strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return stem
