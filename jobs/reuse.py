"""`--reuse OLD_OUT`: may the vectors of an earlier output be taken, and where in it those of a text are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from actors.errors import FAILED, UserError
from actors.messages import Reuse
from actors.output.digests import Words
from actors.output.folder import part_names
from actors.output.old_part import OldPart
from actors.output.run_file import plan_of, read_run, sink_of
from actors.output.sinks import PARQUET
from actors.output.store import Place, as_place, join, store_of
from actors.output.text_index import build_at

INDEX = "_reuse"  # in the output, while the job runs: every node sees it

_ALIKE = ("model", "dim", "normalisation", "prompt")  # of two runs that make the same vector of a text


def check_reuse(old: Place, out: Place, run: dict[str, Any]) -> None:
    """Raises UserError, naming the difference, when vectors in `old` are not those that `run` would bring."""
    there = _run_in(old)
    if _resolved(old) == _resolved(out):
        raise UserError(f"--reuse {old}: is the output folder itself; what is there is kept without it")
    for key in _ALIKE:
        if there.get(key) != run[key]:
            raise UserError(
                f"--reuse {old}: its vectors are of {key} {_shown(there.get(key))}, those of this run of "
                f"{_shown(run[key])}; run without --reuse"
            )
    if (there["dtype"], run["dtype"]) == ("float16", "float32"):
        raise UserError(
            f"--reuse {old}: its vectors are float16, less precise than float32; run with --dtype float16, or "
            "without --reuse"
        )


def index_of(old: Place, out: Place) -> Reuse:
    """Make the index of the texts in `old`, in `out`. Raises UserError when `old` does not say which they are."""
    run = _run_in(old)
    plan = plan_of(run)
    there = part_names(old)
    indexes = [index for index in range(plan.parts) if plan.part(index).name in there]

    def parts() -> Iterator[tuple[int, Words]]:
        for index in indexes:
            with closing(OldPart(old, plan.part(index).name, run["dim"], run["dtype"])) as part:
                yield index, part.digests()

    try:
        texts = build_at(join(out, INDEX), parts(), plan.rows)
    except OSError as error:
        raise UserError(
            f"cannot write {join(out, INDEX)}: {error.strerror or error}; it takes 24 bytes a row of {old}",
            FAILED,
        ) from error
    if not texts:
        raise UserError(f"--reuse {old}: there is no vector in it; run without --reuse")
    print(f"reuse: {old} has vectors of {texts:,} different texts", file=sys.stderr)
    return Reuse(as_place(str(old)), join(out, INDEX))


def remove_index(out: Place) -> None:
    """When no embedder needs it any more."""
    store_of(join(out, INDEX)).clear()


def _run_in(old: Place) -> dict[str, Any]:
    run = read_run(old)
    if run is None:
        raise UserError(f"--reuse {old}: no output of a run is there; name the -o of one")
    if sink_of(run) != PARQUET:
        raise UserError(
            f"--reuse {old}: a {sink_of(run)} output does not say which texts its vectors are of, as a Parquet one "
            "does; run without --reuse"
        )
    if run.get("dtype") not in ("float32", "float16") or not isinstance(run.get("dim"), int):
        raise UserError(f"--reuse {old}: its _run.json does not say what its vectors are; run without --reuse")
    return run


def _resolved(place: Place) -> Path | str:
    folder = store_of(place).folder
    return folder.resolve() if folder else str(place)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
