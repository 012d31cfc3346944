"""Plain text, a text a line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from actors.messages import Columns
from tests.actors.corpus.reading import plan_of, read_all, read_parts


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    return path


def test_each_line_that_is_not_blank_is_a_text(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbffirst\r\n\n  \nsep \x0b \x85 \r inside\r\n\r\nlast"
    rows = read_all(written(tmp_path, content.replace(b"\x85", "\x85\u2028".encode())))
    assert rows.texts == ["first", "  ", "sep \x0b \x85\u2028 \r inside", "last"]
    assert rows.bad == {}
    assert (rows.ids, rows.keep) == (None, ())


def test_a_line_that_is_not_utf8_costs_its_own_row_only(tmp_path: Path) -> None:
    rows = read_all(written(tmp_path, b"a\n\n\xff\xfe\nb\n"))
    assert rows.texts == ["a", None, "b"]
    assert rows.bad == {1: "line 3: not valid UTF-8"}


def test_the_text_may_be_its_own_id(tmp_path: Path) -> None:
    rows = read_all(written(tmp_path, b"a\nb\n"), Columns("text", "text", ("text",), pa.string(), (pa.string(),)))
    assert rows.ids is not None
    assert rows.ids.to_pylist() == rows.keep[0].to_pylist() == ["a", "b"]


def test_a_text_of_10_mb(tmp_path: Path) -> None:
    huge = b"word " * (11 << 18)
    rows = read_all(written(tmp_path, b"before\n" + huge + b"\nafter\n"))
    assert rows.texts == ["before", huge.decode(), "after"]


def test_parts_in_any_order(tmp_path: Path) -> None:
    plan = plan_of(written(tmp_path, b"".join(b"%d\n" % i * (1 + i % 3) for i in range(5000))), 777)
    rows = [str(i) for i in range(5000) for _ in range(1 + i % 3)]
    order = [5, *range(plan.parts), 3]
    for index, read in zip(order, read_parts(plan, order=order), strict=True):
        part = plan.part(index)
        assert read.texts == rows[part.offset : part.offset + part.rows]
