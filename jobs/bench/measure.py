"""One run of the job as a measurement: what it left in its folder, and nothing else, is what counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import psutil

from actors.errors import INTERRUPTED
from actors.output.folder import SUMMARY_FILE
from jobs.bench.results import Figures, Run, Steady
from jobs.bench.schedule import Mode
from jobs.report.timeline import Timeline, read_timeline
from jobs.run import run
from jobs.settings import Settings

Numbers = npt.NDArray[np.float64]

_FEWEST_TICKS = 4  # of the driver, in a half that says something


def settings_of(settings: Settings, mode: Mode, corpus: Path | None, rows: int | None, out: Path) -> Settings:
    """What a run in this mode is told: the same for both modes, but for how much is asked at once.

    A row's id is its position, so that outputs can be compared row by row. `corpus` None: the input of `settings`.
    """
    input_ = settings.input.model_copy(update={"id_column": None, "keep": (), "batch": None, "limit": rows})
    if corpus is not None:
        input_ = input_.model_copy(update={"paths": (str(corpus),), "text_column": "text"})
    return settings.model_copy(
        update={
            "input": input_,
            "output": settings.output.model_copy(update={"path": str(out), "sink": "parquet"}),
            "async_inference": settings.async_inference.model_copy(update={"enabled": mode == "async"}),
        }
    )


def measure(settings: Settings, out: Path) -> Run:
    """Run the job once. Raises UserError as it does, and KeyboardInterrupt when it was asked to end early."""
    started = datetime.now(UTC)
    cpu_before_s = sum(psutil.Process().cpu_times()[:2])  # this process has done other things, too
    if run(settings).exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    summary = msgspec.json.decode((out / SUMMARY_FILE).read_bytes(), type=Figures)
    cpu_s = round(max(0.0, summary.cpu_seconds - cpu_before_s), 3)
    timeline = read_timeline(out)
    return Run(
        started=said(started),
        summary=msgspec.structs.replace(summary, cpu_seconds=cpu_s),
        steady=second_half(timeline),
        timeline=replace(timeline, stretches=timeline.stretches[-1:]),
    )


def second_half(timeline: Timeline) -> Steady | None:
    """Means from the middle of the run's answers to their end; None where that is too little to say anything."""
    if not timeline.stretches:
        return None
    series = list(timeline.stretches[-1].series.values())
    t = max((each.t for each in series), key=len)
    rates = _on(t, [each.rows_per_s for each in series])
    answered = np.flatnonzero(rates)
    if not len(answered):
        return None
    # a tick tells of the time since the one before
    first, last = int(answered[0]), int(answered[-1])
    begin = (first + last + 1) // 2
    if last - begin < _FEWEST_TICKS:
        return None
    rows = float((rates[begin + 1 : last + 1] * np.diff(t[begin : last + 1])).sum())
    late = [slice(begin + 1, min(last + 1, len(each.t))) for each in series]
    pairs = list(zip(series, late, strict=True))
    return Steady(
        begin_s=round(float(t[begin]), 3),
        rows_per_s=round(rows / float(t[last] - t[begin]), 1),
        gpu_util=_mean([each.gpu[half] for each, half in pairs]),
        p50_ms=_mean([each.p50_ms[half] for each, half in pairs]),
        p99_ms=_mean([each.p99_ms[half] for each, half in pairs]),
    )


def said(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def _on(t: Numbers, columns: list[Numbers]) -> Numbers:
    """The sum of the columns, at the times `t`; one that ends early has nothing after."""
    total = np.zeros(len(t))
    for column in columns:
        total[: len(column)] += column
    return total


def _mean(columns: list[Numbers]) -> float | None:
    """Of all that is known; None when nothing is."""
    known = np.concatenate(columns)
    known = known[~np.isnan(known)]
    return round(float(known.mean()), 4) if len(known) else None
