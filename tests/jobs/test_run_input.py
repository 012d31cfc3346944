"""Whole runs over every kind of input: each row once, each bad row a reject that says where it stands."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.conftest import eventually
from tests.jobs.corpora import assert_right, read_out, texts, write_jsonl, write_parquet
from tests.servers.s3 import S3


def rejects_in(out: Path) -> dict[object, str]:
    """Why, by id."""
    tables = [pq.read_table(path) for path in (out / "_rejects").iterdir()]
    return {row["id"]: row["detail"] for table in tables for row in table.to_pylist()}


def test_from_an_object_store(rayembed, server, s3: S3, tmp_path):
    rows = texts(3000)
    s3.put("run/a.parquet", write_parquet(tmp_path / "a.parquet", rows[:1800]).read_bytes())
    s3.put("run/b.jsonl.gz", gzip.compress(write_jsonl(tmp_path / "b.jsonl", rows[1800:]).read_bytes()))
    command = ("run", "s3://corpora/run", "-o", "out", "--endpoint", server.url, "--actors", 2, "--json")
    run = rayembed(*command, own_ray=True, **s3.environment)
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    assert run.summary()["rows_embedded"] == 3000
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(s3.environment["AWS_SECRET_ACCESS_KEY"].encode() in content for content in written)


def test_every_format_in_one_folder(rayembed, server, tmp_path):
    rows = texts(2100)
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_parquet(folder / "a.parquet", rows[:300])
    pyarrow.feather.write_feather(pa.table({"text": rows[300:600]}), folder / "b.arrow")
    (folder / "c.csv").write_text("n,text\n" + "".join(f'{i},"{row}"\n' for i, row in enumerate(rows[600:900])))
    (folder / "d.jsonl").write_bytes(write_jsonl(tmp_path / "d", rows[900:1200]).read_bytes())
    (folder / "e.jsonl.gz").write_bytes(gzip.compress(write_jsonl(tmp_path / "e", rows[1200:1500]).read_bytes()))
    (folder / "f.tsv").write_text("text\n" + "".join(f"{row}\n" for row in rows[1500:1800]))
    (folder / "g.txt").write_text("".join(f"{row}\n" for row in rows[1800:]))
    run = rayembed("run", folder, "-o", "out", "--endpoint", server.url)
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)


def test_bad_rows_are_rejects_with_their_lines(rayembed, server, tmp_path):
    good = texts(10)
    (tmp_path / "a.csv").write_text(f"id,text\n1,{good[0]}\n2\n\n3,{good[1]}\n")
    lines = [json.dumps({"id": 10, "text": good[2]}), "oops", "", json.dumps({"id": 12, "text": "x" * 10_000_000})]
    (tmp_path / "b.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"id": 13, "text": "\xff"}\n')
    command = ("run", "a.csv", "b.jsonl", "-o", "out", "--endpoint", server.url, "--id-column", "id", "--json")
    run = rayembed(*command)
    assert run.wait() == 3, run.err
    assert sorted(read_out(tmp_path / "out").column("id").to_pylist()) == [1, 3, 10, 12]
    assert run.summary()["rows_rejected"] == 3
    found = [
        row["detail"] for path in (tmp_path / "out/_rejects").iterdir() for row in pq.read_table(path).to_pylist()
    ]
    assert sorted(detail.partition(":")[0] for detail in found) == ["line 2", "line 3", "line 5"]


def test_a_text_a_file(rayembed, server, tmp_path):
    folder = tmp_path / "corpus"
    rows = texts(700)
    for i, row in enumerate(rows):
        path = folder / f"{i // 100}" / f"{i:05d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row)
    (folder / "6" / "00650.txt").write_bytes(b"\xff")
    run = rayembed(
        *("run", folder, "-o", "out", "--endpoint", server.url, "--text-files", "whole", "--id-column", "file")
    )
    assert run.wait() == 3, run.err
    names = [f"{i // 100}/{i:05d}.txt" for i in range(700)]
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == [name for name in names if "00650" not in name]
    assert rejects_in(tmp_path / "out") == {"6/00650.txt": "6/00650.txt: not valid UTF-8"}


@pytest.mark.parametrize("change", ["changes", "vanishes"])
def test_input_that_changes_or_vanishes_during_the_run_is_refused_by_name(rayembed, server, tmp_path, change):
    rows = texts(8000)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    server.behave(hold_after=10)  # the probe has 7 texts
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--batch-size", 8, "--actors", 1)
    eventually(lambda: server.stats()["requests"] > 3)
    if change == "changes":
        corpus.write_bytes(corpus.read_bytes().upper())
    else:
        corpus.unlink()
    server.behave(hold_after=0)
    assert run.wait() == 1, run.err
    assert "c.jsonl" in run.err
    assert "Traceback" not in run.err
