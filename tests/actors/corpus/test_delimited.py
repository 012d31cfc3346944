"""CSV and TSV: what a writer wrote comes back, from any part, and a bad row takes no other with it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.corpus import FORMATS, records
from actors.corpus import lines as lines_module
from actors.messages import Columns
from tests.actors.corpus.reading import TEXT_ONLY, plan_of, read_all, read_parts
from tests.examples import examples

FIELDS = st.text(st.sampled_from(list('ab",;\t\n\r é\0\u2028')), max_size=6)


def written(tmp_path: Path, content: str | bytes, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def types_of(path: Path) -> dict[str, pa.DataType]:
    return FORMATS["csv"].survey(str(path)).types


def small_blocks(patch: pytest.MonkeyPatch, stride: int, block: int) -> None:
    patch.setattr("actors.corpus.delimited.STRIDE", stride)
    patch.setattr(lines_module, "STRIDE", stride)
    patch.setattr(records, "_BLOCK", block)


# --- records ----------------------------------------------------------------------------------------------------


@examples(300)
@given(
    rows=st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=12),
    ending=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", "\t"]),
    mark=st.booleans(),
    last_newline=st.booleans(),
    block=st.integers(1, 60),
    rows_per_part=st.integers(1, 5),
    data=st.data(),
)
@example([("", "a\nb", 'say "x"')], "\n", ",", True, False, 1, 1, None)
def test_what_the_csv_module_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    ending: str,
    delimiter: str,
    mark: bool,
    last_newline: bool,
    block: int,
    rows_per_part: int,
    data: st.DataObject | None,
) -> None:
    file = io.StringIO(newline="")
    # the module leaves a lone \r unquoted where rows do not end in one, which nobody could read back
    lone = ending == "\n" and any("\r" in value for row in rows for value in row)
    quoting = csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL
    writer = csv.writer(file, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    writer.writerow(["n", "te\nxt", "tag"])
    writer.writerows(rows)
    content = file.getvalue() if last_newline else file.getvalue().removesuffix(ending)
    name = "x.csv" if delimiter == "," else "x.tsv"
    path = written(tmp_path_factory.getbasetemp(), b"\xef\xbb\xbf" * mark + content.encode(), name)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, 2, block)
        plan = plan_of(path, rows_per_part)
        assert plan.rows == len(rows)
        order = list(range(plan.parts)) if data is None else data.draw(st.permutations(range(plan.parts)))
        columns = Columns("te\nxt", None, ("tag",), pa.int64(), (pa.string(),))
        for index, read in zip(order, read_parts(plan, columns, order), strict=True):
            part = plan.part(index)
            expected = rows[part.offset : part.offset + part.rows]
            assert read.texts == [text for _, text, _ in expected]
            assert read.keep[0].to_pylist() == [tag for _, _, tag in expected]
            assert read.bad == {}


@examples(200)
@given(
    content=st.lists(st.sampled_from(['"', ",", "\n", "a", "\r", '""', "é", "\t", '",', '\n"'])).map("".join),
    block=st.integers(1, 30),
    rows_per_part=st.integers(1, 4),
)
@example('1,a"\n"', 4, 1)
def test_blocks_and_parts_change_nothing_of_any_content(
    tmp_path_factory: pytest.TempPathFactory, content: str, block: int, rows_per_part: int
) -> None:
    """However wild the quotes: the rows are those that one pass in one block finds, whose lines are all there."""
    path = written(tmp_path_factory.getbasetemp(), "text,tag\n" + content, "wild.csv")
    whole = [read for plan in [plan_of(path)] if plan.rows for read in read_parts(plan)]
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, 2, block)
        plan = plan_of(path, rows_per_part)
        parts = list(read_parts(plan, order=range(plan.parts)))
        back = list(read_parts(plan, order=range(plan.parts - 1, -1, -1)))
    assert [text for rows in parts for text in rows.texts] == [text for rows in whole for text in rows.texts]
    assert [why for rows in parts for why in rows.bad.values()] == [
        why for rows in whole for why in rows.bad.values()
    ]
    assert [rows.texts for rows in back] == [rows.texts for rows in reversed(parts)]


def test_a_row_with_other_fields_than_the_header_is_bad_with_its_line(tmp_path: Path) -> None:
    content = 'id,text\n1,"a\nb"\n\n2\n3,c,d\n4,e\n'
    rows = read_all(written(tmp_path, content))
    assert rows.texts == ["a\nb", None, None, "e"]
    assert rows.bad == {
        1: "line 5: 1 fields, but the header has 2",
        2: "line 6: 3 fields, but the header has 2",
    }


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_quotes_that_do_not_add_up_cost_their_line_only(tmp_path: Path, ending: str) -> None:
    lines = [
        "id,text",
        '1,"a"',
        '2,"he said "no" twice"',
        "3,fine",
        '4,"open',
        '5,"b"',
        "6,c",
        '7,"open to the end',
    ]
    rows = read_all(written(tmp_path, ending.join([*lines, "8,d", ""])))
    assert rows.texts == ["a", None, "fine", None, "b", "c", None, "d"]
    assert sorted(rows.bad) == [1, 3, 6]
    assert rows.bad[1].startswith("line 3: not CSV")
    assert rows.bad[6] == "line 8: a quote is opened and never closed"


def test_an_open_quote_is_looked_after_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LONGEST", 2000)
    monkeypatch.setattr(records, "_BLOCK", 100)
    lines = [f"{i},text {i}" for i in range(1000)]
    lines[300] = '300,"open'
    rows = read_all(written(tmp_path, "\n".join(["id,text", *lines])))
    assert [row for row in range(1000) if rows.texts[row] != f"text {row}"] == [300]
    assert rows.bad == {300: "line 302: a quote is opened and never closed"}


def test_a_file_of_open_quotes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LONGEST", 50)
    path = written(tmp_path, "id,text\n" + '1","a\n' * 5000)
    with pytest.raises(OSError, match="quotes were opened and never closed"):
        plan_of(path)


def test_in_a_tsv_a_quote_that_is_none_is_text(tmp_path: Path) -> None:
    content = 'id\ttext\n1\t"Foo" is a word\n2\t"a\tb\nc"\n3\t5" disk\n'
    rows = read_all(written(tmp_path, content, "x.tsv"))
    assert rows.texts == ['"Foo" is a word', "a\tb\nc", '5" disk']
    assert rows.bad == {}


def test_semicolons_where_the_header_has_no_comma(tmp_path: Path) -> None:
    rows = read_all(written(tmp_path, 'id;text\n1;"a, b; c"\n2;d\n'))
    assert rows.texts == ["a, b; c", "d"]
    rows = read_all(written(tmp_path, "text,a;b\nx;y,2\n"))
    assert rows.texts == ["x;y"]


def test_a_text_of_10_mb(tmp_path: Path) -> None:
    huge = 'line "quoted", with a comma\n' * 400_000
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["id", "text"], [1, "before"], [2, huge], [3, "after"]])
    rows = read_all(written(tmp_path, file.getvalue()))
    assert len(huge) > 10 << 20
    assert rows.texts == ["before", huge, "after"]


def test_invalid_utf8_is_a_bad_row_where_it_is_needed(tmp_path: Path) -> None:
    path = written(tmp_path, b"id,text,tag\n1,a,x\n2,\xff\xfe,y\n3,c,\xe9\n4,d,z\n")
    rows = read_all(path, Columns("text", "id", (), pa.int64(), ()))
    assert rows.texts == ["a", None, "c", "d"]
    assert rows.bad == {1: "line 3: 'text' is not valid UTF-8"}
    rows = read_all(path, Columns("text", None, ("tag",), pa.int64(), (pa.string(),)))
    assert sorted(rows.bad) == [1, 2]
    assert rows.keep[0].to_pylist() == ["x", None, None, "z"]


# --- columns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["1", "-20", "0"], pa.int64()),
        (["1", "", "3"], pa.int64()),
        (["1", "2.5", "-0.1e-7"], pa.float64()),
        (["007", "1"], pa.string()),
        (["1", "x"], pa.string()),
        (["+1"], pa.string()),
        (["1 "], pa.string()),
        (["1_000"], pa.string()),
        (["nan"], pa.string()),
        (["99999999999999999999"], pa.float64()),
        (["", ""], pa.null()),
    ],
    ids=repr,
)
def test_types_are_numbers_only_where_nothing_is_lost(
    tmp_path: Path, values: list[str], type_: pa.DataType
) -> None:
    path = written(tmp_path, "text,v\n" + "".join(f"a,{value}\n" for value in values))
    assert types_of(path) == {"text": pa.string(), "v": type_}


def test_whole_numbers_stay_whole_and_what_is_none_later_is_a_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path, "id,n,text\n1,5,a\n2,,b\n007,6,c\nx,7,d\n,8,e\n6,z,f\n")
    rows = read_all(path, Columns("text", "id", ("n",), pa.int64(), (pa.int64(),)))
    assert rows.ids is not None
    assert rows.ids.to_pylist() == [1, 2, None, None, None, 6]
    assert rows.keep[0].to_pylist() == [5, None, 6, 7, 8, None]
    assert rows.bad == {
        2: "line 4: 'id' is '007', not int64 as in the first rows",
        3: "line 5: 'id' is 'x', not int64 as in the first rows",
        4: "line 6: 'id' is empty",
        5: "line 7: 'n' is 'z', not int64 as in the first rows",
    }


def test_a_number_too_large_for_its_column_is_a_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path, "id,text\n1,a\n99999999999999999999,b\n")
    rows = read_all(path, Columns("text", "id", (), pa.int64(), ()))
    assert list(rows.bad) == [1]


def test_strings_come_as_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, 'id,text\n01," a "\n1.0,""\n')
    rows = read_all(path, Columns("text", "id", ("id",), pa.string(), (pa.string(),)))
    assert rows.texts == [" a ", ""]
    assert rows.keep[0].to_pylist() == ["01", "1.0"]


def test_a_column_that_has_no_name_is_none_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    assert list(types_of(written(tmp_path, "text,,\na,b,c\n"))) == ["text"]
    with pytest.raises(OSError, match="'a'"):
        types_of(written(tmp_path, "a,a\n1,2\n"))


@pytest.mark.parametrize("content", ["", "\n\n", "text\n", "text", "\ufeff"])
def test_a_file_without_rows(tmp_path: Path, content: str) -> None:
    assert plan_of(written(tmp_path, content)).rows == 0


def test_a_header_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="first row"):
        plan_of(written(tmp_path, '"open\n1\n'))


def test_lines_are_numbered_from_any_part(tmp_path: Path) -> None:
    content = "text\n" + "".join(f'"{i}\n"\n\n' if i % 2 else f"{i},x\n" for i in range(5000))
    plan = plan_of(written(tmp_path, content), 1000)
    rows = list(read_parts(plan, TEXT_ONLY, [4, 2]))
    assert rows[0].bad[0] == "line 8002: 2 fields, but the header has 1"
    assert rows[1].bad[998] == "line 5998: 2 fields, but the header has 1"
