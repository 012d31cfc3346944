"""What counts as input, and what a person is told when it cannot be used."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import USAGE, UserError
from actors.queue.listing import Listing, list_input


def write(path: Path, **columns: Any) -> Path:
    """A file of these columns, of the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns or {"text": ["a"]})
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        pq.write_table(table, path)
    return path


def listed(
    tmp_path: Path,
    *inputs: Path | str,
    text: str = "text",
    id_column: str | None = None,
    keep: Sequence[str] = (),
    out: Path | None = None,
) -> Listing:
    return list_input([str(each) for each in inputs], out or tmp_path / "out", text, id_column, keep)


def names(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


def complaint(tmp_path: Path, *inputs: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        listed(tmp_path, *inputs, **options)
    assert caught.value.exit_code == USAGE
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- which files ------------------------------------------------------------------------------------------------


def test_a_folder_is_all_its_corpus_files_in_sorted_order(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for name in ("b.parquet", "a/z.pq", "a/deep/y.jsonl", "c.JSONL", "10.parquet", "9.parquet"):
        write(corpus / name) if not name.endswith("JSONL") else (corpus / name).write_text('{"text": "a"}\n')
    (corpus / "README.md").write_text("no corpus file")
    listing = listed(tmp_path, corpus)
    assert names(listing) == ["10.parquet", "9.parquet", "a/deep/y.jsonl", "a/z.pq", "b.parquet", "c.JSONL"]
    assert [file.format for file in listing.files] == ["parquet", "parquet", "jsonl", "parquet", "parquet", "jsonl"]
    assert [len(points) > 0 for points in listing.checkpoints] == [False, False, True, False, False, True]


def test_what_begins_with_an_underscore_or_a_dot_is_no_input(tmp_path: Path) -> None:
    corpus = tmp_path / "_hidden" / ".too" / "corpus"  # only names below what was given count
    for name in ("a.parquet", "_b.parquet", ".c.parquet", "_d/e.parquet", "f/.g/h.parquet"):
        write(corpus / name)
    assert names(listed(tmp_path, corpus)) == ["a.parquet"]
    assert names(listed(tmp_path, corpus / "_b.parquet")) == ["_b.parquet"], "named outright, it is meant"


def test_the_output_folder_is_never_input(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write(corpus / "a.parquet")
    write(corpus / "out" / "part-00000-000000000000.parquet")
    write(corpus / "outside.parquet")
    assert names(listed(tmp_path, corpus, out=corpus / "out")) == ["a.parquet", "outside.parquet"]


def test_the_same_file_named_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write(tmp_path / "in" / "a.parquet"), write(tmp_path / "in" / "b.parquet")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    inputs = (b, a, tmp_path / "in", "in/a.parquet", "in/../in/b.parquet", link / "a.parquet", "in/*.parquet")
    assert names(listed(tmp_path, *inputs)) == ["a.parquet", "b.parquet"]


def test_patterns(tmp_path: Path) -> None:
    for name in ("x/1.parquet", "x/2.jsonl", "y/1.parquet", "y/z/3.parquet"):
        write(tmp_path / name)
    assert names(listed(tmp_path, tmp_path / "*" / "1.parquet")) == ["x/1.parquet", "y/1.parquet"]
    assert names(listed(tmp_path, tmp_path / "**" / "*.parquet")) == ["x/1.parquet", "y/1.parquet", "y/z/3.parquet"]


@pytest.mark.parametrize("given", ["", "train.parquet", "*.parquet"])
def test_a_link_has_the_name_it_was_given_by(tmp_path: Path, given: str) -> None:
    """The cache of the Hugging Face hub: snapshots/REV/train.parquet -> ../../blobs/HASH."""
    blob = write(tmp_path / "blobs" / "x.parquet").rename(tmp_path / "blobs" / "3fa9c0de")
    link = tmp_path / "snapshots" / "rev" / "train.parquet"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../..") / "blobs" / blob.name)
    assert names(listed(tmp_path, link.parent / given)) == ["train.parquet"]


@pytest.mark.parametrize("given", ["", "part-00000-000000000000.parquet"])
def test_input_that_is_the_output_folder_is_refused(tmp_path: Path, given: str) -> None:
    out = tmp_path / "out"
    write(out / "part-00000-000000000000.parquet")
    assert str(out) in complaint(tmp_path, out / given, out=out)


def test_a_pattern_may_name_folders(tmp_path: Path) -> None:
    """What Spark writes: each x.parquet is a folder."""
    write(tmp_path / "in" / "x.parquet" / "part-0.snappy.parquet")
    write(tmp_path / "in" / "x.parquet" / "_temporary" / "part-1.snappy.parquet")
    assert names(listed(tmp_path, tmp_path / "in" / "*.parquet")) == ["part-0.snappy.parquet"]


def test_a_name_with_pattern_characters_means_itself(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a[1].parquet")
    write(tmp_path / "in" / "a1.parquet")
    assert names(listed(tmp_path, tmp_path / "in" / "a[1].parquet")) == ["a[1].parquet"]


def test_moving_the_input_changes_no_name_and_no_fingerprint(tmp_path: Path) -> None:
    for name in ("x/1.parquet", "x/2.jsonl", "y/1.parquet"):
        write(tmp_path / "here" / name)
    before = listed(tmp_path, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    after = listed(tmp_path, tmp_path / "there")
    assert [(file.name, file.fingerprint) for file in after.files] == [
        (file.name, file.fingerprint) for file in before.files
    ]
    assert all(Path(file.path).is_file() for file in after.files)


def test_files_without_rows_stay_in_the_list_but_say_nothing_of_columns(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", other=pa.array([], pa.int64()))
    write(tmp_path / "in" / "b.parquet", text=["x"], tag=["y"])
    (tmp_path / "in" / "c.jsonl").write_text("\n\n")
    listing = listed(tmp_path, tmp_path / "in", keep=["tag"])
    assert [file.rows for file in listing.files] == [0, 1, 0]


def test_input_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.doc").write_text("text\na\n")
    assert complaint(tmp_path, tmp_path / "no.parquet") == f"input not found: {tmp_path}/no.parquet"
    assert "input not found" in complaint(tmp_path, tmp_path / "no*.parquet")
    assert "no corpus file in folder" in complaint(tmp_path, tmp_path / "empty")
    assert ".jsonl" in complaint(tmp_path, tmp_path / "x.doc")
    assert f"{tmp_path}/x.doc" in complaint(tmp_path, tmp_path / "x.doc")


def test_input_without_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", text=pa.array([], pa.string()))
    assert complaint(tmp_path, path) == f"the input has no rows: {path}"


def test_one_missing_input_among_others_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    assert "gone.parquet" in complaint(tmp_path, tmp_path / "a.parquet", tmp_path / "gone.parquet")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl")

    def refuse(*_: object, **__: object) -> None:  # a mode of 0 stops nobody who tests as root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pa, "OSFile", refuse)
    assert complaint(tmp_path, path) == f"input {path} cannot be read: Permission denied"


# --- which columns ----------------------------------------------------------------------------------------------


def test_without_an_id_column_ids_are_int64(tmp_path: Path) -> None:
    columns = listed(tmp_path, write(tmp_path / "a.parquet")).columns
    assert (columns.id, columns.id_type) == (None, pa.int64())
    assert columns.needed == ["text"]


@pytest.mark.parametrize(
    ("type_", "planned"),
    [
        (pa.string(), pa.string()),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.int32(), pa.int32()),
        (pa.uint64(), pa.uint64()),
    ],
    ids=str,
)
def test_an_id_is_a_string_or_a_whole_number(tmp_path: Path, type_: pa.DataType, planned: pa.DataType) -> None:
    values = pa.array(["1", "2"] if planned == pa.string() else [1, 2], type_)
    path = write(tmp_path / "a.parquet", text=["a", "b"], doc=values)
    columns = listed(tmp_path, path, id_column="doc", keep=["doc", "text"]).columns
    assert columns.id_type == planned
    assert columns.keep_types == (planned, pa.string())
    assert columns.needed == ["text", "doc"]


@pytest.mark.parametrize("values", [[1.5], [True], [b"x"], [["x"]]], ids=repr)
def test_nothing_else_is_an_id(tmp_path: Path, values: list[object]) -> None:
    path = write(tmp_path / "a.parquet", text=["a"], doc=values)
    message = complaint(tmp_path, path, id_column="doc")
    assert message.startswith("--id-column doc holds ")
    assert message.endswith("; an id is a whole number, a string or a UUID")


def test_text_types_of_different_files_are_one(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", text=pa.array(["a"], pa.large_string()), tag=pa.array(["x"], pa.string()))
    write(tmp_path / "in" / "b.parquet", text=["b"], tag=pa.array(["x"]).dictionary_encode())
    write(tmp_path / "in" / "c.jsonl", text=["c"], tag=["x"])
    assert listed(tmp_path, tmp_path / "in", keep=["tag"]).columns.keep_types == (pa.string(),)


def test_a_column_with_two_types_is_refused_with_both_files(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", text=["a"], tag=[1])
    write(tmp_path / "in" / "b.parquet", text=["b"], tag=["x"])
    assert (
        complaint(tmp_path, tmp_path / "in", keep=["tag"])
        == "--keep tag is int64 in a.parquet but string in b.parquet; convert one of them"
    )


def test_a_column_of_nulls_agrees_with_any_type(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", text=["a"], n=pa.nulls(1))
    write(tmp_path / "in" / "b.parquet", text=["b"], n=[3])
    write(tmp_path / "in" / "c.jsonl", text=["c"], n=[None])
    assert listed(tmp_path, tmp_path / "in", keep=["n"]).columns.keep_types == (pa.int64(),)
    columns = listed(tmp_path, tmp_path / "in" / "a.parquet", keep=["n"]).columns
    assert columns.keep_types == (pa.string(),), "text, where no file says more"


def test_a_kept_column_that_parquet_cannot_hold_is_refused_before_the_job(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "meta": {}}\n')
    assert complaint(tmp_path, path, keep=["meta"]).startswith("--keep meta is struct<>")


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"text": "body"}, "--text-column body is not in a.parquet"),
        ({"id_column": "doc"}, "--id-column doc is not in a.parquet"),
        ({"keep": ["url"]}, "--keep url is not in a.parquet"),
    ],
    ids=str,
)
def test_a_missing_column_is_named_with_those_there(tmp_path: Path, options: dict[str, Any], start: str) -> None:
    path = write(tmp_path / "a.parquet", text=["a"], title=["b"])
    message = complaint(tmp_path, path, **options)
    assert message.startswith(start)
    assert "text, title" in message


def test_a_column_missing_from_one_file_only(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", text=["a"], tag=["x"])
    write(tmp_path / "in" / "b.parquet", text=["a"])
    assert "--keep tag is not in b.parquet" in complaint(tmp_path, tmp_path / "in", keep=["tag"])


def test_text_that_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", text=[1])
    assert complaint(tmp_path, path) == "--text-column text in a.parquet holds int64, not text"


@pytest.mark.parametrize("name", ["id", "embedding"])
def test_kept_columns_may_not_take_the_outputs_names(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.parquet", text=["a"], **{name: [1]})
    assert complaint(tmp_path, path, keep=[name]).startswith(f"--keep {name}: ")


def test_jsonl_of_nothing_but_bad_lines_offers_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("[1]\n[2]\n")
    assert "its columns are: none" in complaint(tmp_path, path)


# --- files that know only strings -------------------------------------------------------------------------------


def csv(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("first", "second", "agreed"),
    [
        ("1", "2", pa.int64()),
        ("1", "x", pa.string()),
        ("x", "1", pa.string()),
        ("1", "2.5", pa.float64()),
        ("2.5", "1", pa.float64()),
        ("2.5", "x", pa.string()),
        ("1", "", pa.int64()),
        ("007", "8", pa.string()),
    ],
)
def test_csv_files_that_differ_are_read_as_what_holds_them_all(
    tmp_path: Path, first: str, second: str, agreed: pa.DataType
) -> None:
    csv(tmp_path / "in" / "a.csv", "text,n", f"a,{first}")
    csv(tmp_path / "in" / "b.csv", "text,n", f"b,{second}")
    assert listed(tmp_path, tmp_path / "in", keep=["n"]).columns.keep_types == (agreed,)


@pytest.mark.parametrize(
    ("values", "written", "agreed"),
    [
        (pa.array([1], pa.int32()), "5", pa.int32()),
        (pa.array([1.5], pa.float32()), "5", pa.float32()),
        (pa.array(["x"]), "5", pa.string()),
    ],
)
def test_csv_follows_files_that_know_types(
    tmp_path: Path, values: pa.Array, written: str, agreed: pa.DataType
) -> None:
    csv(tmp_path / "in" / "a.csv", "text,n", f"a,{written}")
    write(tmp_path / "in" / "b.parquet", text=["b"], n=values)
    assert listed(tmp_path, tmp_path / "in", keep=["n"]).columns.keep_types == (agreed,)


def test_csv_that_cannot_follow_is_refused_with_both_files(tmp_path: Path) -> None:
    csv(tmp_path / "in" / "a.csv", "text,n", "a,x")
    write(tmp_path / "in" / "b.parquet", text=["b"], n=[1])
    said = complaint(tmp_path, tmp_path / "in", keep=["n"])
    assert said == "--keep n is int64 in b.parquet but string in a.csv; convert one of them"


def test_a_text_column_of_numbers_is_text_in_a_csv(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "text,id", "1984,1")
    columns = listed(tmp_path, path, id_column="id", keep=["text"]).columns
    assert (columns.id_type, columns.keep_types) == (pa.int64(), (pa.int64(),))


# --- text files -------------------------------------------------------------------------------------------------


def test_whole_text_files_stand_together_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b/1.txt", "b/2.txt", "b/3.txt", "c.jsonl", "d.txt", "e.txt", "f.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text('{"text": "x"}')
    monkeypatch.setattr("actors.queue.listing.MEMBERS", 3)
    listing = list_input([str(tmp_path / "in")], tmp_path / "out", "text", None, (), whole_text_files=True)
    assert [(file.name, file.rows) for file in listing.files] == [
        ("a.txt", 3),
        ("b/3.txt", 1),
        ("c.jsonl", 1),
        ("d.txt", 3),
    ]
    assert [Path(member).name for member in listing.files[0].members] == ["a.txt", "1.txt", "2.txt"]
    monkeypatch.setattr("actors.queue.listing._MEMBERS_BYTES", 26)
    listing = list_input([str(tmp_path / "in")], tmp_path / "out", "text", None, (), whole_text_files=True)
    assert [file.rows for file in listing.files] == [2, 2, 1, 2, 1]
    assert [file.rows for file in listed(tmp_path, tmp_path / "in").files] == [1] * 8, "else each line is a text"


def test_every_format_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "a.parquet", text=["a"])
    csv(folder / "b.csv", "text", "b")
    csv(folder / "c.tsv", "text", "c")
    csv(folder / "d.txt", "d", "e")
    csv(folder / "f.ndjson", '{"text": "f"}')
    with pa.ipc.new_stream(folder / "g.arrow", pa.schema([("text", pa.string())])) as writer:
        writer.write_table(pa.table({"text": ["g"]}))
    (folder / "h.jsonl.gz").write_bytes(gzip.compress(b'{"text": "h"}'))
    listing = listed(tmp_path, folder)
    assert [(file.format, file.rows) for file in listing.files] == [
        ("parquet", 1),
        ("csv", 1),
        ("tsv", 1),
        ("text", 2),
        ("jsonl", 1),
        ("arrow", 1),
        ("jsonl", 1),
    ]


def test_a_file_that_is_no_lines_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"text\na\n")[:-4])
    assert complaint(tmp_path, tmp_path / "x.csv.gz").startswith(f"input {tmp_path}/x.csv.gz cannot be read: ")
