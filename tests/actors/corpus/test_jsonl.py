"""JSON Lines input: any cut of any file gives the lines that are there, and one bad line costs one row."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.corpus import FORMATS, Rows
from actors.corpus import lines as lines_module
from actors.corpus.source import open_source
from actors.errors import UserError
from actors.messages import Columns, SourceFile
from actors.queue.plan import Plan

FORMAT = FORMATS["jsonl"]
TEXT_ONLY = Columns("text", None, (), pa.int64(), ())
MARK = b"\xef\xbb\xbf"


def plan_of(path: Path, rows_per_part: int = 1 << 20) -> Plan:
    survey = FORMAT.survey(str(path))
    file = SourceFile(str(path), path.name, "jsonl", survey.rows, survey.size, survey.fingerprint)
    return Plan((file,), rows_per_part, 1 << 40, None, (survey.checkpoints,))


def read(path: Path, columns: Columns = TEXT_ONLY) -> Rows:
    """All rows of the file as one part."""
    plan = plan_of(path)
    reader = FORMAT.open(plan.files[0], columns)
    try:
        return reader.read(plan.part(0))
    finally:
        reader.close()


def ids_of(rows: Rows) -> pa.Array:
    assert rows.ids is not None
    return rows.ids


def written(tmp_path: Path, *lines: object) -> Path:
    """A file of these lines: bytes as they are, other values as JSON."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    )
    return path


# --- cutting ----------------------------------------------------------------------------------------------------

BAD = object()


@dataclass(frozen=True)
class Line:
    """A line of a file and what its row must read as; `value` BAD is a row that is no object, None is no row."""

    content: bytes
    value: object


def _object(text: str | None, escaped: bool) -> Line:
    value = {} if text is None else {"n": 1, "text": text}
    return Line(json.dumps(value, ensure_ascii=escaped).encode(), (text,))


LINES = st.one_of(
    st.builds(
        _object,
        st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.booleans(),
    ),
    st.just(Line(b"", None)),
    st.sampled_from(
        [b"[1, 2]", b"nonsense", b'{"text": "cut of', b'"text"', b'{"text": "\xff"}', b"null", b"\0"]
    ).map(lambda content: Line(content, BAD)),
    st.sampled_from([Line(b'\r{"text": "a"}', ("a",)), Line(b"\r\r", BAD), Line(b" ", BAD)]),
    st.just(_object("long " * 200, escaped=False)),
    st.just(_object("separators \x85 \u2028 \u2029 \x0b \x0c \x1e", escaped=False)),
)


@settings(deadline=None, max_examples=300)
@given(
    lines=st.lists(st.tuples(LINES, st.booleans()), max_size=30),
    mark=st.booleans(),
    last_newline=st.booleans(),
    block=st.integers(1, 300),
    stride=st.integers(1, 7),
    rows_per_part=st.integers(1, 9),
    data=st.data(),
)
@example([(_object("a", True), True)], True, False, 4, 1, 1, None)
@example(
    [(Line(b"", None), True), (_object("a", True), True), (Line(b"", None), True)], False, False, 1, 1, 1, None
)
def test_any_parts_in_any_order_are_the_lines_that_are_there(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[Line, bool]],
    mark: bool,
    last_newline: bool,
    block: int,
    stride: int,
    rows_per_part: int,
    data: st.DataObject | None,
) -> None:
    content = b"".join(line.content + (b"\r\n" if windows else b"\n") for line, windows in lines)
    if not last_newline and content:
        content = content[:-1]  # may leave a lone \r, which is still a blank line
    expected = [line.value for line, _ in lines if line.value is not None]
    mark = mark and bool(lines) and lines[0][0].value is not None  # on a blank line it would make a row
    path = tmp_path_factory.getbasetemp() / "property.jsonl"
    path.write_bytes(MARK * mark + content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_BLOCK", block)
        patch.setattr(lines_module, "STRIDE", stride)
        plan = plan_of(path, rows_per_part)
    assert plan.rows == len(expected)
    strides = list(range(0, max(1, plan.rows), stride))
    starts = plan.checkpoints[0][:, 0].tolist()
    assert starts in (strides, strides[:-1]), "a last line that does not end may have none"
    indexes = list(range(plan.parts))
    order = indexes if data is None else data.draw(st.permutations(indexes))
    reader = FORMAT.open(plan.files[0], TEXT_ONLY)
    for index in order:
        part = plan.part(index)
        assert part.offset - part.start.row <= stride, "no more than a stride is read in vain"
        rows = reader.read(part)
        want = expected[part.offset : part.offset + part.rows]
        assert rows.texts == [None if value is BAD else value[0] for value in want]  # type: ignore[index]
        assert set(rows.bad) == {i for i, value in enumerate(want) if value is BAD}
    reader.close()


def test_a_file_of_many_blocks_at_the_real_sizes(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    filler = "x" * 1000
    count = (lines_module._BLOCK + lines_module._BLOCK // 2) // 1000
    path.write_text("".join(f'{{"text": "{i} {filler}"}}\n' for i in range(count)))
    plan = plan_of(path, 1500)
    reader = FORMAT.open(plan.files[0], TEXT_ONLY)
    for index in (*range(plan.parts), 1, 0):
        part = plan.part(index)
        assert [int(str(text).split()[0]) for text in reader.read(part).texts] == list(
            range(part.offset, part.offset + part.rows)
        )
    reader.close()


def test_a_line_longer_than_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "_BLOCK", 64)
    huge = "y" * 10_000
    path = written(tmp_path, {"text": "before"}, {"text": huge}, {"text": "after"})
    assert read(path).texts == ["before", huge, "after"]


def test_only_the_end_of_a_line_is_read_when_going_on(tmp_path: Path) -> None:
    """Reading parts in growing order is one pass: each byte once, whatever the checkpoints."""
    path = written(tmp_path, *({"text": f"{i}"} for i in range(5000)))
    plan = plan_of(path, 700)
    reader = FORMAT.open(plan.files[0], TEXT_ONLY)
    content = reader._content  # type: ignore[attr-defined]
    went: list[int] = []
    go = content.go
    content.go = lambda byte, skip: (went.append(byte), go(byte, skip))
    texts = [text for index in range(plan.parts) for text in reader.read(plan.part(index)).texts]
    assert texts == [f"{i}" for i in range(5000)]
    assert went == [0]
    reader.read(plan.part(0))
    assert went == [0, 0]
    reader.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\n\n\r", b"\r"], ids=repr)
def test_a_file_of_blank_lines_has_no_rows(tmp_path: Path, content: bytes) -> None:
    survey = FORMAT.survey(str(written(tmp_path, content)))
    assert survey.rows == 0
    assert survey.types == {}


def test_a_file_that_lost_lines_since_the_plan_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = written(tmp_path, *({"text": f"{i}"} for i in range(10)))
    plan = plan_of(path)
    path.write_bytes(b'{"text": "0"}\n')
    with pytest.raises(UserError, match=r"x\.jsonl changed"):
        open_source(plan.files[0], TEXT_ONLY).read(plan.part(0))


# --- rows -------------------------------------------------------------------------------------------------------


def test_a_bad_line_is_one_bad_row_that_says_why(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "a"}, b"oops\n", b"[]\n", {"text": 5}, b'{"text": "\xff"}\n', {"text": "b"})
    rows = read(path)
    assert rows.texts == ["a", None, None, None, None, "b"]
    assert sorted(rows.bad) == [1, 2, 3, 4]
    assert "not JSON" in rows.bad[1]
    assert "not a JSON object" in rows.bad[2]
    assert "'text' is int" in rows.bad[3]
    assert not any("\n" in reason for reason in rows.bad.values())


def test_a_deeply_nested_line_is_one_bad_row(tmp_path: Path) -> None:
    """RecursionError today: in the survey when it is in the first 1000 lines, else in the embedder."""
    path = written(tmp_path, {"text": "a"}, '{"text": "b", "x": ' + "[" * 5000 + "]" * 5000 + "}", {"text": "c"})
    rows = read(path)
    assert rows.texts == ["a", None, "c"]
    assert list(rows.bad) == [1]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"text": None}, None),
        ({"other": 1}, None),
        ({"text": ""}, ""),
        ({"text": "\0 \u2028 👍"}, "\0 \u2028 👍"),
        (b'  {"text": "a", "text": "b"}\t\n', "b"),
    ],
    ids=repr,
)
def test_text_as_it_stands(tmp_path: Path, line: object, text: str | None) -> None:
    rows = read(written(tmp_path, line))
    assert rows.texts == [text]
    assert rows.bad == {}


def test_ids_and_kept_columns_have_the_planned_types(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"text": "a", "doc": 1, "tag": "x", "list": [1, 2]},
        {"text": "b", "doc": 2, "tag": None},
        {"text": "c", "doc": 3},
    )
    types = FORMAT.survey(str(path)).types
    assert types == {"text": pa.string(), "doc": pa.int64(), "tag": pa.string(), "list": pa.list_(pa.int64())}
    rows = read(path, Columns("text", "doc", ("tag", "list"), types["doc"], (types["tag"], types["list"])))
    assert ids_of(rows).equals(pa.array([1, 2, 3], pa.int64()))
    assert rows.keep[0].equals(pa.array(["x", None, None], pa.string()))
    assert rows.keep[1].equals(pa.array([[1, 2], None, None], pa.list_(pa.int64())))
    assert rows.bad == {}


@pytest.mark.parametrize("wrong", ["1", True, 1.5, [1], {"a": 1}, 2**63, 2**70, None], ids=repr)
def test_an_id_of_another_type_is_a_bad_row(tmp_path: Path, wrong: object) -> None:
    path = written(tmp_path, {"text": "a", "doc": 1}, {"text": "b", "doc": wrong}, {"text": "c", "doc": 3})
    rows = read(path, Columns("text", "doc", (), pa.int64(), ()))
    assert ids_of(rows).to_pylist() == [1, None, 3]
    assert list(rows.bad) == [1]
    assert "'doc'" in rows.bad[1]


def test_a_missing_id_is_a_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "a", "doc": "x"}, {"text": "b"}, b"oops\n")
    rows = read(path, Columns("text", "doc", (), pa.string(), ()))
    assert ids_of(rows).to_pylist() == ["x", None, None]
    assert "'doc' is missing" in rows.bad[1]
    assert "not JSON" in rows.bad[2], "the first reason stays"


def test_a_column_of_strings_keeps_what_is_no_string_as_json(tmp_path: Path) -> None:
    path = written(tmp_path, *({"text": "a", "tag": tag} for tag in ("x", 5, None, ["y"], "z")))
    rows = read(path, Columns("text", None, ("tag",), pa.int64(), (pa.string(),)))
    assert rows.keep[0].to_pylist() == ["x", "5", None, '["y"]', "z"]
    assert rows.bad == {}


def test_a_kept_value_of_another_type_is_a_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path, *({"text": "a", "n": n} for n in (1, "x", None)))
    rows = read(path, Columns("text", None, ("n",), pa.int64(), (pa.int64(),)))
    assert rows.keep[0].to_pylist() == [1, None, None]
    assert rows.bad == {1: "line 2: 'n' is 'x', not int64 as in the first rows"}


@pytest.mark.parametrize(
    ("good", "wrong"),
    [(7, 1.5), (1.5, True), (7, True), ({"a": 1}, {"a": 1, "b": 2}), ({"a": 1}, {"a": 1.5}), ([1], [1.5])],
    ids=repr,
)
def test_no_kept_value_is_changed_in_silence(tmp_path: Path, good: object, wrong: object) -> None:
    """Arrow alone makes 1 of 1.5 and 1.0 of true, and drops the keys that a struct's type has not."""
    path = written(tmp_path, {"text": "a", "n": good}, {"text": "b", "n": wrong})
    rows = read(path, Columns("text", None, ("n",), pa.int64(), (pa.array([good]).type,)))
    assert rows.keep[0].to_pylist() == [good, None]
    assert list(rows.bad) == [1]


# --- survey -----------------------------------------------------------------------------------------------------


def test_survey_says_size_and_a_fingerprint_of_the_whole_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"text": f"{i}"} for i in range(100)]
    survey = FORMAT.survey(str(written(tmp_path, *lines)))
    content = (tmp_path / "x.jsonl").read_bytes()
    assert survey.size == len(content)
    assert survey.fingerprint == f"{zlib.crc32(content):08x}"
    monkeypatch.setattr(lines_module, "_BLOCK", 7)
    assert FORMAT.survey(str(tmp_path / "x.jsonl")).fingerprint == survey.fingerprint
    lines[57]["text"] = "!!"
    assert FORMAT.survey(str(written(tmp_path, *lines))).fingerprint != survey.fingerprint


def test_a_column_whose_values_disagree_is_text(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "a", "mixed": 1, "wide": 2**70}, b"oops\n", {"text": "b", "mixed": "x"})
    assert FORMAT.survey(str(path)).types == dict.fromkeys(("text", "mixed", "wide"), pa.string())


def test_whole_and_broken_numbers_together_are_floats(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "a", "n": 1}, {"text": "b", "n": 1.5})
    assert FORMAT.survey(str(path)).types["n"] == pa.float64()


def test_checkpoints_stay_few(tmp_path: Path) -> None:
    path = written(tmp_path, *({"text": f"{i}"} for i in range(3 * lines_module.STRIDE + 1)))
    assert len(FORMAT.survey(str(path)).checkpoints) <= 5
    plan = plan_of(path, 1000)
    assert [plan.part(index).start.row for index in range(plan.parts)] == [0, 0, 1024, 2048]


def test_what_is_not_asked_for_is_passed_over(tmp_path: Path) -> None:
    """Not even its bytes are decoded, whatever they are; but the line has to be JSON."""
    path = written(tmp_path, b'{"html": "\xff", "text": "a", "_0": 1}\n', b'{"text": "b", "html": [}\n')
    rows = read(path)
    assert rows.texts == ["a", None]
    assert list(rows.bad) == [1]


@pytest.mark.parametrize("name", ["", "_0", "a b", "ü", "text "])
def test_keys_of_any_name(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, {"text": "a", name: 1}, {name: 2, "text": "b"}, {"text": "c"})
    rows = read(path, Columns("text", None, (name,), pa.int64(), (pa.int64(),)))
    assert rows.keep[0].to_pylist() == [1, 2, None]
