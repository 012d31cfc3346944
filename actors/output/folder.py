"""Names in the output."""

from __future__ import annotations

from actors.output.store import Place, store_of
from actors.queue.plan import PART_NAME

RUN_FILE = "_run.json"
SUMMARY_FILE = "_summary.json"
REPORT_FILE = "report.html"
REJECTS = "_rejects"
TELEMETRY = "_telemetry"

# in the footer of each part: how many planned rows are rejects, and which, also in that of their file
REJECTS_PROPERTY = "rayembed.rejects"
REJECTED_PROPERTY = "rayembed.rejected"


def part_names(out: Place, folder: str = "") -> set[str]:
    """Names of the parts in the output, or of what else is called like them in a folder of it."""
    return {name for name in store_of(out).names(folder) if PART_NAME.fullmatch(name)}
