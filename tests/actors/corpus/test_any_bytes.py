"""Whatever a file holds: rows, or one line that says why not; never another error, and never a crash."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, ipc

from actors.corpus import FORMATS
from actors.errors import UserError
from actors.messages import Columns
from tests.actors.corpus.reading import plan_of, read_parts
from tests.examples import examples

ENDINGS = [suffix for each in FORMATS.values() for suffix in each.suffixes]
PIECES = st.sampled_from(
    [
        b'{"text": "a"}',
        b'{"text": 1}',
        b"\n",
        b"\r\n",
        b'"',
        b",",
        b"\t",
        b"text",
        b"a",
        b"\xff",
        b"\0",
        b"\xef\xbb\xbf",
        b"[",
        b"}",
    ]
)


def _file(kind: str) -> bytes:
    table = pa.table({"text": [f"text {i}" for i in range(50)], "n": list(range(50))})
    file = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, file)
    elif kind == "feather":
        feather.write_feather(table, file)
    else:
        with ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    return file.getvalue()


def look(path: Path, rows_per_part: int) -> None:
    """Plan and read; whoever calls the formats makes one line of OSError and ArrowException."""
    with suppress(UserError, OSError, pa.ArrowException):
        plan = plan_of(path, rows_per_part)
        types = FORMATS[plan.files[0].format].survey(str(path)).types
        if "text" not in types or not plan.rows:
            return
        for index, rows in enumerate(read_parts(plan, Columns("text", None, (), pa.int64(), ()))):
            assert len(rows.texts) == plan.part(index).rows


@pytest.mark.parametrize("ending", ENDINGS)
@examples(40)
@given(pieces=st.lists(PIECES | st.binary(max_size=8), max_size=20), rows_per_part=st.integers(1, 5))
def test_any_content(
    tmp_path_factory: pytest.TempPathFactory, ending: str, pieces: list[bytes], rows_per_part: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(b"".join(pieces))
    look(path, rows_per_part)


@pytest.mark.parametrize("kind", ["parquet", "feather", "arrow"])
@examples(200)
@given(places=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=4))
def test_any_damage(tmp_path_factory: pytest.TempPathFactory, kind: str, places: list[tuple[int, int]]) -> None:
    content = bytearray(_file(kind))
    for place, flip in places:
        content[place % len(content)] ^= flip
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(content)
    look(path, 20)
