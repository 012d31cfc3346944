"""Outputs with vectors of one's own, written as a run writes them: no Ray, and nothing is sent but the probe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.embedder.blocks import Blocks
from actors.embedder.open_part import OpenPart
from actors.messages import JobSpec, Orders
from actors.output.parts import PLAN_PROPERTY
from actors.output.run_file import begin_run, fingerprint
from jobs.asked import note_asked
from jobs.reading import read_parts
from jobs.run import _identity, prepare
from jobs.settings import Settings
from tests.servers.vectors import vectors_of

Vectors = npt.NDArray[np.float32]


def right(sent: list[str]) -> Vectors:
    return vectors_of(sent, 32)


def embed(
    url: str,
    paths: list[Path],
    out: Path,
    gives: Callable[[list[str]], Vectors] = right,
    rejected: tuple[int, ...] = (),
    **blocks: dict[str, Any],
) -> None:
    """Write what a run writes whose server `gives` these vectors; `rejected` are positions in the input."""
    given: dict[str, Any] = {
        "input": {"paths": [str(path) for path in paths]},
        "output": {"path": str(out)},
        "endpoints": [url],
    }
    for name, block in blocks.items():
        given[name] = {**given.get(name, {}), **block}
    settings = Settings.model_validate(given)
    job = prepare(settings)
    run = _identity(job)
    out.mkdir()
    begin_run(out, run)
    note_asked(out, settings)
    dim, dtype = job.found.dim, settings.output.dtype
    spec = JobSpec(str(out), (), job.columns, dim, dtype, {PLAN_PROPERTY: fingerprint(run)}, Orders({}), 1.0)
    prompt = settings.vectors.prompt or ""
    for part, rows in read_parts(job.plan, job.columns, range(job.plan.parts)):
        rows.texts = [text and prompt + text for text in rows.texts]
        rows.bad.update((row - part.first_row, "so") for row in rejected if 0 <= row - part.first_row < part.rows)
        opened = OpenPart(part, rows, dim, dtype, Blocks())
        opened.place(opened.sendable, gives(opened.texts(opened.sendable)))
        opened.write(spec, "w")
