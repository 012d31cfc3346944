"""Names in the output folder, atomic publishing into it, and what of a plan is already there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.queue.plan import PART_NAME, Plan

RUN_FILE = "_run.json"
SUMMARY_FILE = "_summary.json"
REPORT_FILE = "report.html"
REJECTS = "_rejects"
TELEMETRY = "_telemetry"

REJECTS_PROPERTY = "rayembed.rejects"  # in the footer of each part: how many planned rows are rejects

_ABANDONED_AFTER_S = 600.0  # a worker of a killed job may live on for seconds, a slow disk for minutes


def publish(path: Path, write: Callable[[Path], None], writer: str = "job") -> None:
    """Make `path` appear whole or not at all: `write` fills a hidden file beside it, which is synced and renamed.

    `writer` keeps two processes that publish the same name apart; the last one wins, with the same content.
    """
    hidden = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        write(hidden)
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def publish_text(path: Path, text: str) -> None:
    """Publish a small UTF-8 file."""

    def write(hidden: Path) -> None:
        hidden.write_text(text, encoding="utf-8")

    publish(path, write)


def part_names(out: Path) -> set[str]:
    """Names of the parts in the folder."""
    with os.scandir(out) as entries:
        return {entry.name for entry in entries if PART_NAME.fullmatch(entry.name)}


@dataclass(frozen=True, slots=True)
class Finished:
    """Indexes (int64, sorted) of the parts that are there, and how many of their rows are rejects."""

    indexes: npt.NDArray[np.int64]
    rejects: int


def finished_parts(out: str, plan: Plan, wanted: range) -> Finished:
    """Which of the parts `wanted` are in the folder already."""
    folder = Path(out)
    indexes = _among(plan.indexes_of(part_names(folder)), wanted)
    rejects = 0
    if (folder / REJECTS).is_dir():
        # only they can stand for rejects: a part's rejects are durable before it is
        suspects = np.intersect1d(_among(plan.indexes_of(part_names(folder / REJECTS)), wanted), indexes)
        rejects = sum(rejects_of(folder / plan.part(int(index)).name) or 0 for index in suspects)
    return Finished(indexes, rejects)


def _among(indexes: npt.NDArray[np.int64], wanted: range) -> npt.NDArray[np.int64]:
    return indexes[(indexes >= wanted.start) & (indexes < wanted.stop)]


def rejects_of(path: Path) -> int | None:
    """How many planned rows the part stands for without holding them; None when there is no such part."""
    try:
        properties = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    count = properties.get(REJECTS_PROPERTY.encode())
    return None if count is None else int(count)


def sweep(out: Path, everything: bool) -> None:
    """Remove what killed or overtaken writers left: old hidden files, or everything when no writer can be alive.

    Rejects beside a part that stands for none are of a holder of its lease that came to no part, or was overtaken.
    They are not removed sooner: their part may be about to appear.
    """
    if everything:
        for path in (out / REJECTS).glob("part-*.parquet"):
            if rejects_of(out / path.name) == 0:
                path.unlink(missing_ok=True)
    for folder in (out, out / REJECTS):
        for path in folder.glob(".*.tmp"):
            with suppress(FileNotFoundError):  # its writer is alive and has just renamed it
                if everything or time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened and synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
