"""Which earlier outputs may give their vectors; whole runs that take them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.errors import UserError
from jobs.reuse import INDEX, check_reuse, index_of, remove_index
from tests.jobs.corpora import assert_right, read_out, texts, write_parquet
from tests.jobs.outputs import NAMES, PLAN, build

RUN = {"model": "m", "dim": 4, "dtype": "float32", "normalisation": "as served", "prompt": None}


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"model": "other"}, "its vectors are of model m, those of this run of other; run without --reuse"),
        ({"dim": 8}, "are of dim 4, those of this run of 8"),
        ({"normalisation": "length 1"}, "are of normalisation as served, those of this run of length 1"),
        ({"prompt": {"text": "query: "}}, "are of prompt none, those of this run of {'text': 'query: '}"),
    ],
)
def test_vectors_of_another_kind_are_refused_with_the_difference(
    tmp_path: Path, differs: dict[str, object], words: str
) -> None:
    build(tmp_path / "old")
    check_reuse(tmp_path / "old", tmp_path / "new", RUN)
    with pytest.raises(UserError) as raised:
        check_reuse(tmp_path / "old", tmp_path / "new", RUN | differs)
    assert words in raised.value.message


def test_half_floats_do_not_make_floats_but_the_other_way_round(tmp_path: Path) -> None:
    build(tmp_path / "half", dtype="float16")
    build(tmp_path / "full", dtype="float32")
    check_reuse(tmp_path / "half", tmp_path / "new", RUN | {"dtype": "float16"})
    check_reuse(tmp_path / "full", tmp_path / "new", RUN | {"dtype": "float16"})
    with pytest.raises(UserError, match="less precise"):
        check_reuse(tmp_path / "half", tmp_path / "new", RUN)


def test_what_is_no_output_or_the_output_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no output of a run is there"):
        check_reuse(tmp_path / "nowhere", tmp_path / "new", RUN)
    build(tmp_path / "old")
    with pytest.raises(UserError, match="is the output folder itself"):
        check_reuse(tmp_path / "old", tmp_path / "x" / ".." / "old", RUN)


def test_an_output_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    output = build(tmp_path / "old")
    output.rewrite(1, output.table(1))  # as any other writer would: without what the texts are
    with pytest.raises(UserError, match=rf"{NAMES[1]} does not say which texts its vectors are of"):
        index_of(output.out, tmp_path / "new")


def test_an_output_that_is_not_complete_gives_what_it_has(tmp_path: Path) -> None:
    output = build(tmp_path / "old")
    (output.out / NAMES[0]).unlink()
    index_of(output.out, tmp_path / "new")
    assert (tmp_path / "new" / INDEX / "place").stat().st_size == 8 * (PLAN.rows - 8)
    remove_index(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    for name in NAMES[1:]:
        (output.out / name).unlink()
    with pytest.raises(UserError, match="there is no vector in it"):
        index_of(output.out, tmp_path / "new")


def test_of_a_corpus_that_grew_only_what_is_new_is_sent(rayembed, server, tmp_path):
    rows = texts(4000)
    first = rayembed(
        "run", write_parquet(tmp_path / "a.parquet", rows), "-o", "a", "--endpoint", server.url, "--json"
    )
    assert first.wait() == 0, first.err
    grown = [*rows[:1000], *(f"new {i}" for i in range(40)), *rows[1000:], "new 3", rows[7]]
    seen = sum(server.seen().values())
    second = rayembed(
        *("run", write_parquet(tmp_path / "b.parquet", grown), "-o", "b", "--endpoint", server.url),
        *("--reuse", "a", "--json", "--actors", 2),
    )
    assert second.wait() == 0, second.err
    assert_right(tmp_path / "b", grown)
    summary = second.summary()
    assert (summary["rows_embedded"], summary["rows_reused"]) == (len(grown), 4001)
    assert summary["unique_texts"] + summary["rows_fanned_out"] == 41
    assert 40 <= summary["unique_texts"] <= 41  # two embedders may each have met the text that is there twice
    assert sum(server.seen().values()) - seen <= 41 + 10  # and texts of our own
    assert not (tmp_path / "b" / INDEX).exists()
    verified = rayembed("verify", "b")
    assert verified.wait() == 0, verified.out
    third = rayembed(
        *("run", tmp_path / "b.parquet", "-o", "c", "--endpoint", server.url, "--reuse", "b", "--json"),
        *("--dtype", "float16"),
    )
    assert third.wait() == 0, third.err
    assert third.summary()["unique_texts"] == 0
    assert read_out(tmp_path / "c")["id"].to_pylist() == list(range(len(grown)))


def test_another_model_is_refused_before_anything_is_written(rayembed, server, tmp_path):
    corpus = write_parquet(tmp_path / "a.parquet", texts(50))
    assert rayembed("run", corpus, "-o", "a", "--endpoint", server.url).wait() == 0
    other = rayembed("run", corpus, "-o", "b", "--endpoint", server.url, "--reuse", "a", "--normalize", "yes")
    assert other.wait() == 2
    assert "normalisation" in other.err
    assert not (tmp_path / "b").exists()


def test_rows_with_the_same_text_are_sent_once_and_counted(rayembed, server, tmp_path):
    server.behave(poison="POISON")
    rows = [f"text {i % 700}" for i in range(5000)]
    rows[40], rows[4040] = "POISON", "POISON"
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json", "--actors", 1)
    assert run.wait() == 3, run.err
    summary = run.summary()
    assert (summary["rows_embedded"], summary["rows_rejected"], summary["unique_texts"]) == (4998, 2, 700)
    assert summary["rows_fanned_out"] == 4298
    assert max(server.seen()[f"text {i}"] for i in range(700)) == 1
    assert sum(each["rows"] for each in summary["endpoints"]) == 4998
    rejects = sorted((tmp_path / "out/_rejects").glob("part-*.parquet"))
    assert sorted(row["id"] for path in rejects for row in pq.read_table(path).to_pylist()) == [40, 4040]
    good = [row for row in rows if row != "POISON"]
    assert json.loads((tmp_path / "out/_summary.json").read_text()) == summary
    table = read_out(tmp_path / "out")
    assert table.num_rows == len(good)
    verified = rayembed("verify", "out")
    assert verified.wait() == 0, verified.out
