"""What of a plan is already in the output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.output.folder import REJECTS, part_names
from actors.output.sinks import PARQUET, open_sink
from actors.output.store import Place, store_of
from actors.queue.plan import Plan


@dataclass(frozen=True, slots=True)
class Finished:
    """Indexes (int64, sorted) of the parts that are there, and how many of their rows are rejects."""

    indexes: npt.NDArray[np.int64]
    rejects: int


def finished_parts(out: Place, plan: Plan, wanted: range, sink: str = PARQUET) -> Finished:
    """Which of the parts `wanted` are in the output already."""
    kept = open_sink(sink, out)
    indexes = _among(plan.indexes_of(kept.names()), wanted)
    # only they can stand for rejects: a part's rejects are durable before it is
    suspects = np.intersect1d(_among(plan.indexes_of(part_names(out, REJECTS)), wanted), indexes)
    counts = kept.rejects([plan.part(int(index)).name for index in suspects])
    return Finished(indexes, sum(count or 0 for count in counts))


def sweep(out: Place, everything: bool, sink: str = PARQUET) -> None:
    """Remove what killed or overtaken writers left: old hidden files, or everything when no writer can be alive.

    Rejects beside a part that stands for none are of a holder of its lease that came to no part, or was overtaken.
    They are not removed sooner: their part may be about to appear.
    """
    store = store_of(out)
    if everything:
        kept = open_sink(sink, out)
        names = sorted(part_names(out, REJECTS) & kept.names())
        for name, rejects in zip(names, kept.rejects(names), strict=True):
            if rejects == 0:
                store.remove(f"{REJECTS}/{name}")
    for folder in ("", REJECTS):
        store.sweep(folder, everything)


def _among(indexes: npt.NDArray[np.int64], wanted: range) -> npt.NDArray[np.int64]:
    return indexes[(indexes >= wanted.start) & (indexes < wanted.stop)]
