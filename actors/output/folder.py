"""Names in the output folder, and what of a plan is already there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.output.store import Place, Store, store_of
from actors.queue.plan import PART_NAME, Plan

RUN_FILE = "_run.json"
SUMMARY_FILE = "_summary.json"
REPORT_FILE = "report.html"
REJECTS = "_rejects"
TELEMETRY = "_telemetry"

REJECTS_PROPERTY = "rayembed.rejects"  # in the footer of each part: how many planned rows are rejects

_LOOKS_AT_ONCE = 16  # each is a round trip or two where the output is in an object store


def part_names(out: Place, folder: str = "") -> set[str]:
    """Names of the parts in the output, or of what else is called like them in a folder of it."""
    return {name for name in store_of(out).names(folder) if PART_NAME.fullmatch(name)}


@dataclass(frozen=True, slots=True)
class Finished:
    """Indexes (int64, sorted) of the parts that are there, and how many of their rows are rejects."""

    indexes: npt.NDArray[np.int64]
    rejects: int


def finished_parts(out: Place, plan: Plan, wanted: range) -> Finished:
    """Which of the parts `wanted` are in the output already."""
    indexes = _among(plan.indexes_of(part_names(out)), wanted)
    # only they can stand for rejects: a part's rejects are durable before it is
    suspects = np.intersect1d(_among(plan.indexes_of(part_names(out, REJECTS)), wanted), indexes)
    counts = _rejects_of(out, [plan.part(int(index)).name for index in suspects])
    return Finished(indexes, sum(count or 0 for count in counts))


def _among(indexes: npt.NDArray[np.int64], wanted: range) -> npt.NDArray[np.int64]:
    return indexes[(indexes >= wanted.start) & (indexes < wanted.stop)]


def rejects_of(store: Store, name: str) -> int | None:
    """How many planned rows the part stands for without holding them; None when there is no such part."""
    try:
        with store.open(name) as file:
            properties = pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    count = properties.get(REJECTS_PROPERTY.encode())
    return None if count is None else int(count)


def _rejects_of(out: Place, names: Sequence[str]) -> list[int | None]:
    store = store_of(out)
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        return list(pool.map(lambda name: rejects_of(store, name), names))


def sweep(out: Place, everything: bool) -> None:
    """Remove what killed or overtaken writers left: old hidden files, or everything when no writer can be alive.

    Rejects beside a part that stands for none are of a holder of its lease that came to no part, or was overtaken.
    They are not removed sooner: their part may be about to appear.
    """
    store = store_of(out)
    if everything:
        names = sorted(part_names(out, REJECTS))
        for name, rejects in zip(names, _rejects_of(out, names), strict=True):
            if rejects == 0:
                store.remove(f"{REJECTS}/{name}")
    for folder in ("", REJECTS):
        store.sweep(folder, everything)
