"""Plain text, a text a file: many files stand as one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from actors.corpus import documents
from actors.errors import UserError
from actors.messages import Columns, SourceFile
from actors.queue.plan import Plan
from tests.actors.corpus.reading import plan_of, read_parts

FILE_AS_ID = Columns("text", "file", ("file",), pa.string(), (pa.string(),))


def written(folder: Path, **contents: bytes) -> list[str]:
    """Files of these contents, in the order of their names."""
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


def test_each_file_is_a_row_with_its_name(tmp_path: Path) -> None:
    members = written(
        tmp_path, a_txt=b"one\ntwo\n", b__c_txt=b"\xef\xbb\xbfmarked", d_txt=b"\xff", e_txt=b"", f_txt=b"last"
    )
    plan = plan_of(members[0], 2, members)
    assert plan.rows == 5
    parts = list(read_parts(plan, FILE_AS_ID, [1, 0, 2]))
    texts = [text for rows in (parts[1], parts[0], parts[2]) for text in rows.texts]
    assert texts == ["one\ntwo\n", "marked", None, "", "last"]
    assert parts[0].bad == {0: "d.txt: not valid UTF-8"}
    ids = parts[1].ids
    assert ids is not None
    assert ids.to_pylist() == parts[1].keep[0].to_pylist() == ["a.txt", "b/c.txt"]


def test_compressed_files_are_texts_too(tmp_path: Path) -> None:
    members = written(tmp_path, a_txt=b"plain", b_txt_gz=gzip.compress(b"packed"))
    assert next(read_parts(plan_of(members[0], 9, members))).texts == ["plain", "packed"]


def test_a_file_too_long_for_a_text_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_LINE", 1 << 20)
    members = written(tmp_path, a_txt=b"a" * (1 << 20), b_txt=b"b" * ((1 << 20) + 1), c_txt=b"c")
    rows = next(read_parts(plan_of(members[0], 9, members)))
    assert [text and len(text) for text in rows.texts] == [1 << 20, None, 1]
    assert rows.bad == {1: "b.txt: longer than 1 MiB"}


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    def fingerprint(folder: str, **contents: bytes) -> str:
        members = written(tmp_path / folder, **contents)
        return plan_of(members[0], 9, members).files[0].fingerprint

    prints = [
        fingerprint("1", a_txt=b"a", b_txt=b"b"),
        fingerprint("2", a_txt=b"a", b_txt=b"c"),
        fingerprint("3", a_txt=b"a", c_txt=b"b"),
        fingerprint("4", a_txt=b"ab"),
        fingerprint("5", a_txt=b"a", b_txt=b"b"),
    ]
    assert len(set(prints)) == 4
    assert prints[0] == prints[4], "moving the folder changes nothing"


@pytest.mark.parametrize("change", ["other content", "gone"])
def test_a_file_that_changes_or_vanishes_is_told(tmp_path: Path, change: str) -> None:
    members = written(tmp_path, a_txt=b"a", b_txt=b"b", c_txt=b"c")
    plan = plan_of(members[0], 1, members)
    parts = read_parts(plan)
    next(parts)
    Path(members[2]).write_bytes(b"something else") if change == "other content" else Path(members[2]).unlink()
    with pytest.raises((UserError, FileNotFoundError), match=r"a\.txt changed|c\.txt"):
        list(parts)


def test_one_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\nb")
    survey = documents.DocumentsFormat().survey(str(path))
    file = SourceFile(str(path), "x.txt", "documents", survey.rows, survey.size, survey.fingerprint)
    assert next(read_parts(Plan((file,), 9, 9))).texts == ["a\nb"]
