"""Lines in compressed files: any parts in any order, from any member, are the lines that are there."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.corpus import lines as lines_module
from actors.corpus.compression import COMPRESSED, Inflated, zstd
from actors.errors import UserError
from tests.actors.corpus.reading import plan_of, read_all, read_parts
from tests.examples import examples

PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd.compress}


def packed(ending: str, content: bytes, cuts: Sequence[int] = ()) -> bytes:
    """`content` in members that begin at the cuts."""
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    return b"".join(PACKERS[ending](content[start:end]) for start, end in itertools.pairwise(places))


@pytest.mark.parametrize("ending", COMPRESSED)
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".txt"])
@examples(60)
@given(data=st.data(), blank=st.sets(st.integers(0, 39)), cuts=st.lists(st.integers(0, 900), max_size=6))
def test_any_parts_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    ending: str,
    data: st.DataObject,
    blank: set[int],
    cuts: list[int],
) -> None:
    texts = [f"text {i} " + "ü" * (i % 7) for i in range(40)]
    written = {".jsonl": lambda text: json.dumps({"text": text}), ".csv": lambda text: f'"{text}"'}
    lines = [written.get(kind, str)(text) + "\n" * (1 + (i in blank)) for i, text in enumerate(texts)]
    content = ("text\n" if kind == ".csv" else "") + "".join(lines)
    path = tmp_path_factory.getbasetemp() / f"x{kind}{ending}"
    path.write_bytes(packed(ending, content.encode(), cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "STRIDE", data.draw(st.integers(1, 9)))
        patch.setattr("actors.corpus.delimited.STRIDE", lines_module.STRIDE)
        patch.setattr(lines_module, "_BLOCK", data.draw(st.integers(1, 500)))
        plan = plan_of(path, data.draw(st.integers(1, 11)))
    assert plan.rows == 40
    order = data.draw(st.permutations(range(plan.parts)))
    for index, rows in zip(order, read_parts(plan, order=order), strict=True):
        part = plan.part(index)
        assert rows.texts == texts[part.offset : part.offset + part.rows]
        assert not rows.bad


@pytest.mark.parametrize("ending", COMPRESSED)
def test_going_forward_decompresses_once_and_a_jump_begins_at_a_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    lines = [f"text {i:05d}\n" for i in range(10_000)]
    halves = ["".join(lines[:6000]).encode(), "".join(lines[6000:]).encode()]
    path = tmp_path / f"x.txt{ending}"
    path.write_bytes(b"".join(map(PACKERS[ending], halves)))
    plan = plan_of(path, 1000)
    begun: list[int] = []
    begin = Inflated.__init__

    def note(self: Inflated, file: object, ending: str, start: int, *rest: object) -> None:
        begun.append(start)
        begin(self, file, ending, start, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Inflated, "__init__", note)
    second = len(PACKERS[ending](halves[0]))
    forward = list(read_parts(plan))
    assert [text for rows in forward for text in rows.texts] == [line.rstrip() for line in lines]
    assert begun == [0]
    begun.clear()
    assert [rows.texts[0] for rows in read_parts(plan, order=[0, 3, 8, 7, 1])] == [
        f"text {i:05d}" for i in (0, 3000, 8000, 7000, 1000)
    ]
    assert begun == [0, second, second, 0], "3 is reached by reading on"


@pytest.mark.parametrize("ending", COMPRESSED)
def test_bad_lines_are_numbered_as_in_the_decompressed_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.jsonl{ending}"
    path.write_bytes(packed(ending, b'{"text": "a"}\n\n\noops\n{"text": "b"}\n'))
    rows = read_all(path)
    assert rows.texts == ["a", None, "b"]
    assert list(rows.bad) == [1]
    assert rows.bad[1].startswith("line 4: not JSON")


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_truncated_file_is_refused_when_it_is_planned(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.jsonl{ending}"
    path.write_bytes(packed(ending, b'{"text": "a"}\n' * 5000)[:-3])
    with pytest.raises((OSError, UserError), match="truncated"):
        plan_of(path)
