"""JSON Lines: kept objects that lack keys, and a file that changed since the plan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.corpus import FORMATS
from actors.corpus.source import open_source
from actors.errors import UserError
from actors.messages import Columns, Part, SourceFile
from actors.queue.plan import Plan

NAME = "part-00000-000000000000.parquet"
TEXT_ONLY = Columns("text", None, (), pa.int64(), ())


def source(path: Path) -> tuple[SourceFile, np.ndarray]:
    survey = FORMATS["jsonl"].survey(str(path))
    file = SourceFile(str(path), path.name, "jsonl", survey.rows, survey.size, survey.fingerprint)
    return file, survey.checkpoints


def jsonl(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "values",
    [
        [{"a": 1, "b": "x"}, {"a": 2}],
        [{"a": 1, "b": "x"}, {}],
        [[{"a": 1, "b": 2}, {"a": 1}], [{"b": 3}]],
        [{"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}],
    ],
    ids=repr,
)
def test_objects_without_all_the_keys_are_good_rows(tmp_path: Path, values: list[object]) -> None:
    path = jsonl(tmp_path / "x.jsonl", *({"text": "a", "meta": value} for value in values))
    file, _ = source(path)
    type_ = FORMATS["jsonl"].survey(str(path)).types["meta"]
    rows = (
        FORMATS["jsonl"]
        .open(file, Columns("text", None, ("meta",), pa.int64(), (type_,)))
        .read(Part(0, NAME, 0, 0, len(values)))
    )
    assert rows.bad == {}
    assert rows.keep[0].null_count == 0


def test_a_jsonl_file_that_changed_since_the_plan_is_an_error(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", *({"text": f"{i:06d}"} for i in range(3000)))
    file, checkpoints = source(path)
    plan = Plan((file,), 1000, 1 << 40, None, (checkpoints,))
    jsonl(path, *({"text": f"{i:06d} and more"} for i in range(3000)))
    with pytest.raises(UserError, match=r"x\.jsonl"):
        open_source(file, TEXT_ONLY).read(plan.part(2))
