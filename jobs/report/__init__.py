"""`report.html`: what a run did, as one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.output.folder import REPORT_FILE
from actors.output.sinks import PARQUET, SINKS
from actors.output.store import Place, publish_text, store_of
from jobs.report.disguise import as_empty_part
from jobs.report.figures import figures, looks
from jobs.report.page import Facts, fill
from jobs.report.timeline import Timeline, read_timeline
from jobs.summary import Summary

__all__ = ["render", "write_report"]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`tone` is a class of the page: good, fair or poor."""

    tone: str
    words: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What became of some of the rows; `look` is a class of the page."""

    rows: int
    look: str
    words: str


def write_report(out: Place, summary: Summary, about: Facts | None = None, sink: str = PARQUET) -> None:
    """Publish `report.html` in the output folder `out`, from `summary` and the telemetry that is there.

    The time lines are of all runs into the folder, one after the other, so that a run that went on after an
    interruption, or found nothing left to do, does not hide what led to it. The numbers are of this run. `about`
    is what else there is to know: the machine, the settings.
    """
    page = render(summary, read_timeline(out), out, datetime.now(UTC), about or {}, sink)
    publish_text(store_of(out), REPORT_FILE, as_empty_part(page))


def render(summary: Summary, timeline: Timeline, out: Place, written: datetime, about: Facts, sink: str) -> str:
    """The page."""
    colours = looks(timeline)
    return fill(
        "report.html.j2",
        {
            "run": summary,
            "outcome": _outcome(summary),
            "timeline": timeline,
            "looks": colours,
            "figures": figures(timeline, colours),
            "parts": _parts(summary),
            "out": os.fsencode(out).decode(errors="replace"),
            "code": SINKS[sink].code(str(out)),
            "about": about,
            "written": written.strftime("%Y-%m-%d %H:%M UTC"),
        },
    )


def _outcome(summary: Summary) -> _Outcome:
    if not summary.complete:
        return _Outcome("poor", "not complete")
    if summary.rows_rejected:
        return _Outcome("fair", f"complete, {summary.rows_rejected:,} rejected")
    return _Outcome("good", "complete")


def _parts(summary: Summary) -> tuple[_Part, ...]:
    """All rows of the input."""
    rest = summary.rows_total - summary.rows_embedded - summary.rows_resumed - summary.rows_rejected
    return (
        _Part(summary.rows_embedded, "now", "embedded by this run"),
        _Part(summary.rows_resumed, "before", "already there"),
        _Part(summary.rows_rejected, "rejected", "rejected"),
        _Part(rest, "rest", "to do: run the same command again"),
    )
