"""`comparison_report.html`: saved results side by side, as one page that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup

from jobs.bench.outcome import faster, sure
from jobs.bench.results import Comparison, ModeResult, Saved, Skipped
from jobs.bench.schedule import Mode
from jobs.bench.spread import Spread
from jobs.bench.vectors import in_words
from jobs.report.bars import Bar, bar_chart
from jobs.report.figures import Figure, figures, looks
from jobs.report.page import Facts, fill
from jobs.report.timeline import Stretch, Timeline
from jobs.report.wording import compact, count, minute, percent

T = TypeVar("T")

MOST_BARS = 60
MOST_TIMELINES = 4
_MOST_SKIPPED = 100
_LOOKS: dict[Mode, str] = {"async": "s0", "sync": "s1"}  # classes of the page


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and how many older ones there was no room for."""

    title: str
    note: str
    svg: Markup
    drawn: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Lines:
    """The time lines of one result, its runs side by side."""

    name: str
    what: str
    looks: dict[str, str]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, or another state of it, and what ran there."""

    facts: dict[str, str]
    names: tuple[str, ...]


def render(saved: Saved, folder: Path, written: datetime) -> str:
    """The page."""
    modes = {name: each for name, each in saved.results.items() if isinstance(each, ModeResult)}
    comparisons = {name: each for name, each in saved.results.items() if isinstance(each, Comparison)}
    latest = next(reversed(comparisons.values()), None)
    return fill(
        "comparison.html.j2",
        {
            "latest": latest,
            "faster": faster,
            "sure": sure,
            "same": in_words,
            "mode_looks": _LOOKS,
            "charts": [*_rates(modes), *_utilisations(modes)],
            "comparisons": _newest_first(comparisons),
            "modes": _newest_first(modes),
            "machines": _machines(modes),
            "lines": [_lines(name, each) for name, each in _of_interest(modes, latest)],
            "about": _about(modes, latest),
            "skipped": _skipped(saved.skipped),
            "results_total": len(saved.results),
            "folder": os.fsencode(folder).decode(errors="replace"),
            "written": written.strftime("%Y-%m-%d %H:%M UTC"),
        },
    )


def _newest_first(results: dict[str, T]) -> dict[str, T]:
    return dict(reversed(results.items()))


def _rates(modes: dict[str, ModeResult]) -> Iterator[Chart]:
    known = [(each, each.rows_per_s) for each in modes.values()]
    top = max((rates.most for _, rates in known), default=0.0)
    note = "whole runs, median; the thin line goes from the slowest run to the fastest"
    return _chart("Rows per second", note, known, count, top)


def _utilisations(modes: dict[str, ModeResult]) -> Iterator[Chart]:
    """Of those whose GPU was seen."""
    known = [(each, each.gpu_util) for each in modes.values() if each.gpu_util]
    return _chart("GPU utilisation", "in the second half of the runs", known, percent, 1.0)


def _chart(
    title: str,
    note: str,
    known: Sequence[tuple[ModeResult, Spread]],
    show: Callable[[float], str],
    top: float,
) -> Iterator[Chart]:
    """Nothing where there is no result."""
    bars = [_bar(*each) for each in reversed(known[-MOST_BARS:])]
    if bars:
        svg = bar_chart(bars, f"{title} of each result", show, top or 1.0)
        yield Chart(title, note, svg, len(bars), len(known) - len(bars))


def _bar(result: ModeResult, measured: Spread) -> Bar:
    setup = result.setup
    return Bar(
        what=f"{result.kind} {minute(setup.started)}",
        more=f"{compact(setup.rows)} rows, {setup.model}",
        look=_LOOKS[result.kind],
        value=measured.median,
        least=measured.least,
        most=measured.most,
    )


def _machines(modes: dict[str, ModeResult]) -> tuple[Machine, ...]:
    """The different ones, in the order in which they came."""
    seen: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, each in modes.items():
        seen.setdefault(tuple(each.setup.machine.items()), []).append(name)
    return tuple(Machine(dict(facts), tuple(names)) for facts, names in seen.items())


def _of_interest(modes: dict[str, ModeResult], latest: Comparison | None) -> list[tuple[str, ModeResult]]:
    """Those whose time lines are drawn: what the latest comparison is made of, then the newest."""
    compared = [name for name in _names(latest) if name in modes]
    names = dict.fromkeys([*compared, *reversed(modes)])
    with_lines = [name for name in names if any(run.timeline.stretches for run in modes[name].runs)]
    return [(name, modes[name]) for name in with_lines[:MOST_TIMELINES]]


def _lines(name: str, result: ModeResult) -> Lines:
    timeline = joined(result)
    colours = looks(timeline)
    what = f"{result.kind}, {result.setup.started}"
    return Lines(name, what, colours, figures(timeline, colours))


def joined(result: ModeResult) -> Timeline:
    """The runs of a result as stretches beside each other."""
    stretches = [
        Stretch(f"run {number}", each.seconds, each.series, each.turns)
        for number, run in enumerate(result.runs, 1)
        for each in run.timeline.stretches
    ]
    sources = [run.timeline.gpu_source for run in result.runs if run.timeline.gpu_source]
    return Timeline(tuple(stretches), (), 0, 0, sources[-1] if sources else None)


def _names(latest: Comparison | None) -> tuple[str, ...]:
    """Of the results that it is made of, which may have gone."""
    return (latest.results.sync, latest.results.async_) if latest else ()


def _about(modes: dict[str, ModeResult], latest: Comparison | None) -> Facts:
    """Server and settings of the latest comparison, else of the newest result."""
    compared = [modes[name] for name in _names(latest) if name in modes]
    shown = compared or list(modes.values())[-1:]
    servers = shown[-1].setup.servers if shown else {}
    return {f"Server {url}": facts for url, facts in servers.items()} | {
        f"Settings of {each.kind}": each.settings for each in shown
    }


def _skipped(skipped: Sequence[Skipped]) -> list[Skipped]:
    """Names as text: a file may be called anything."""
    return [Skipped(os.fsencode(each.name).decode(errors="replace"), each.why) for each in skipped[:_MOST_SKIPPED]]
