"""`_run.json`: what makes two runs the same run. A different run into the same folder is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from actors.errors import UserError
from actors.messages import Columns, SourceFile
from actors.output.folder import RUN_FILE, part_names
from actors.output.sinks import PARQUET
from actors.output.store import Place, join, publish_text, read_bytes, store_of
from actors.queue.plan import Plan

_VERSION = 1


def identity(
    plan: Plan,
    columns: Columns,
    model: str,
    dim: int,
    dtype: str,
    normalisation: str = "as served",
    prompt: Mapping[str, str] | None = None,
    sink: str = PARQUET,
) -> dict[str, Any]:
    """The run as a tree of plain values; two runs with equal trees write the same rows into the same parts.

    `prompt` is what goes before each text (`text`), or the name of one that the server has (`name`).
    """
    return {
        "version": _VERSION,
        "model": model,
        "dim": dim,
        "dtype": dtype,
        "normalisation": normalisation,
        "prompt": dict(prompt) if prompt else None,
        # outputs of earlier versions do not say what is the usual
        **({"sink": sink} if sink != PARQUET else {}),
        "columns": {
            "text": columns.text,
            "id": columns.id,
            "id_type": str(columns.id_type),
            "keep": [[name, str(type_)] for name, type_ in zip(columns.keep, columns.keep_types, strict=True)],
        },
        # what follows from other things comes after them: the first difference is the one that is named
        "input": _files(plan),
        "plan": {
            "limit": plan.limit,
            "rows_per_batch": plan.rows_per_batch,
            "rows_per_part": plan.rows_per_part,
            "rows": plan.rows,
            "parts": plan.parts,
        },
    }


def sink_of(run: dict[str, Any]) -> str:
    """The kind of output of a run."""
    return str(run.get("sink", PARQUET))


def fingerprint(run: dict[str, Any]) -> str:
    """16 hexadecimal digits that differ when the run does."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]


def begin_run(out: Place, run: dict[str, Any]) -> None:
    """Write `_run.json`, or check that the one there is of the same run. Raises UserError naming the difference."""
    there = read_run(out)
    if there is not None:
        usual = {"sink": PARQUET}
        if difference := _first_difference(usual | there, usual | run):
            grown = f" (with --reuse {out} only new texts are sent)" if difference.startswith("input") else ""
            raise UserError(
                f"{out} holds another run ({difference}); choose another -o{grown}, or delete that folder"
            )
        return
    if part_names(out):
        raise UserError(f"{out} holds part files but no {RUN_FILE}; choose another -o, or delete that folder")
    publish_text(store_of(out), RUN_FILE, json.dumps(run, indent=1) + "\n")


def read_run(out: Place) -> dict[str, Any] | None:
    """The run that `out` holds, or None when it holds none. Raises UserError when the file is broken."""
    try:
        run = json.loads(read_bytes(store_of(out), RUN_FILE))
        if not isinstance(run, dict) or run.get("version") != _VERSION:
            raise ValueError("not of this version")
        return run
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{join(out, RUN_FILE)} cannot be read ({error}); choose another -o") from error


def plan_of(run: dict[str, Any]) -> Plan:
    """The plan that `identity` was given, but for where its files lie and how they are read.

    It names and numbers parts as the original does. Raises UserError when `run` holds no such plan.
    """
    try:
        shape = run["plan"]
        files = tuple(SourceFile("", name, "", rows, size, checksum) for name, rows, size, checksum in run["input"])
        plan = Plan(files, shape["rows_per_part"], shape["rows_per_batch"], shape["limit"])
        counts = (plan.rows_per_part, plan.rows_per_batch, *(file.rows for file in files))
        if not all(type(count) is int for count in counts) or min(counts[:2]) < 1:
            raise ValueError("its counts are not whole numbers above 0")
        if plan.rows != shape["rows"] or plan.parts != shape["parts"]:  # parts cost time and memory to count
            raise ValueError("its input and its plan do not fit together")
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{RUN_FILE} holds no plan ({type(error).__name__}: {error}); choose another -o") from error
    return plan


def input_difference(old: Plan, new: Plan) -> str | None:
    """What two plans' files differ in, but for where they lie; None: nothing."""
    before, after = _files(old), _files(new)
    return None if before == after else _files_differ(before, after)


def _files(plan: Plan) -> list[list[Any]]:
    return [[file.name, file.rows, file.size, file.fingerprint] for file in plan.files]


def _first_difference(there: dict[str, Any], now: dict[str, Any], path: str = "") -> str | None:
    for key in [*there, *(key for key in now if key not in there)]:
        old, new = there.get(key), now.get(key)
        if old == new:
            continue
        if key == "input":
            return _files_differ(old or [], new or [])
        if isinstance(old, dict) and isinstance(new, dict):
            return _first_difference(old, new, f"{path}{key}.")
        return f"{path}{key}: {old} there, {new} now"
    return None


def _files_differ(old: list[list[Any]], new: list[list[Any]]) -> str:
    before, after = {file[0]: file for file in old}, {file[0]: file for file in new}
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            return f"input file {name}: was there, is not now"
        if name not in before:
            return f"input file {name}: is new"
        if before[name] != after[name]:
            return f"input file {name}: its content changed"
    return "input: other files"
