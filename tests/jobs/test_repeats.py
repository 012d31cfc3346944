"""Ids that stand twice: counted, and refused where the user says so."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UserError
from actors.queue.listing import list_input
from jobs import repeats
from jobs.repeats import check_unique_ids, count_repeats
from tests.jobs.corpora import texts, write_parquet
from tests.jobs.outputs import PLAN, STRINGS, build, names


def refusal(folder: Path, limit: int | None = None) -> str | None:
    """What `--unique-ids --id-column doc` says to the files of a folder; None: nothing."""
    listing = list_input([str(folder)], folder / "out", "text", "doc", [])
    try:
        check_unique_ids(listing, limit)
    except UserError as error:
        return error.message
    return None


def test_the_id_and_both_its_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_ROWS_AT_ONCE", 7)
    write_parquet(tmp_path / "a.parquet", list(texts(40)), [f"a{i}" for i in range(40)])
    lines = [{"doc": f"b{i}" if i not in (11, 12) else f"a{i + 9}", "text": "t"} for i in range(30)]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    said = refusal(tmp_path)
    assert said is not None
    assert "id 'a20' is in a.parquet row 20 and in b.jsonl row 11 (rows from 0), and 2 in all repeat" in said
    assert refusal(tmp_path, limit=51) is None, "row 51 is the first that repeats an id"
    assert refusal(tmp_path, limit=52) is not None


@pytest.mark.parametrize("type_", [pa.int64(), pa.uint8(), pa.large_string(), pa.binary(16), pa.uuid()])
def test_every_type_of_id(tmp_path: Path, type_: pa.DataType) -> None:
    def write(numbers: list[int]) -> None:
        of_uuid = type_ in (pa.binary(16), pa.uuid())
        plain = pa.array([UUID(int=i).bytes for i in numbers], pa.binary(16)) if of_uuid else pa.array(numbers)
        pq.write_table(
            pa.table({"doc": plain.cast(type_), "text": list(texts(len(numbers)))}), tmp_path / "a.parquet"
        )

    write([*range(50)])
    assert refusal(tmp_path) is None
    write([*range(50), 30])
    said = refusal(tmp_path)
    assert said is not None
    assert "a.parquet row 30 and in a.parquet row 50" in said


def test_rows_without_an_id_repeat_none(tmp_path: Path) -> None:
    lines = ['{"doc": null, "text": "a"}', '{"text": "b"}', "broken", "broken", '{"doc": 3, "text": "c"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert refusal(tmp_path) is None


def test_rows_of_an_output_are_counted_rejects_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "once", STRINGS, ids=names(), rejected=[3])
    assert count_repeats(tmp_path / "once", PLAN.rows) == 0
    build(tmp_path / "twice", STRINGS, ids=pa.array([f"{row % 20}" for row in range(29)]), rejected=[2, 22])
    assert count_repeats(tmp_path / "twice", PLAN.rows) == 9
    monkeypatch.setattr(repeats, "MOST_COUNTED", 28)
    assert count_repeats(tmp_path / "twice", PLAN.rows) is None


def test_a_corpus_with_repeated_ids_is_embedded_and_counted_or_refused_before_anything_is_sent(
    rayembed, server, tmp_path
):
    ids = [f"d{i % 590}" for i in range(600)]
    corpus = write_parquet(tmp_path / "c.parquet", list(texts(600)), ids)
    command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--id-column", "doc")
    refused = rayembed(*command, "--unique-ids", own_ray=True)
    assert refused.wait() == 2, refused.err
    assert "id 'd0' is in c.parquet row 0 and in c.parquet row 590" in refused.err
    assert server.stats()["requests"] == 0
    assert not (tmp_path / "out").exists()
    run = rayembed(*command)
    assert run.wait() == 0, run.err
    assert "10 rows have the id of an earlier row" in run.out
    assert json.loads((tmp_path / "out/_summary.json").read_text())["rows_repeating_an_id"] == 10
    verified = rayembed("verify", "out", "--endpoint", server.url)  # and finds the input again
    assert verified.wait() == 0, verified.out
    assert "10 rows repeat an earlier id" in verified.out
    strictly = rayembed("verify", "out", "--unique-ids")
    assert strictly.wait() == 1
    assert "NOT OK" in strictly.out
