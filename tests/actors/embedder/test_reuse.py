"""Vectors of an earlier output, in the parts of a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.corpus import Rows
from actors.embedder import reuse as module
from actors.embedder.open_part import OpenPart
from actors.embedder.reuse import OldVectors
from actors.errors import UserError
from actors.messages import Part, Reuse
from jobs.reuse import index_of
from tests.examples import examples
from tests.jobs.corpora import matrix, read_out
from tests.jobs.outputs import DIM, NAMES, PLAN, Output, build

REJECTED = 5


def opened(texts: Sequence[str | None], dtype: str = "float32") -> OpenPart:
    return OpenPart(Part(0, "part", 0, 0, len(texts)), Rows(list(texts), None, ()), DIM, dtype)


def given_to(part: OpenPart, reuse: Reuse) -> int:
    old = OldVectors(reuse)
    old.give(part)
    old.close()
    return old.rows


def old_output(folder: Path, dtype: str = "float32") -> tuple[Output, dict[int, npt.NDArray[np.float32]]]:
    """An output of "text 0", "text 1" …, and the vector of each number."""
    output = build(folder, rejected=[REJECTED], dtype=dtype)
    table = read_out(folder)
    return output, dict(zip(table["id"].to_pylist(), matrix(table), strict=True))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reuse, dict[int, npt.NDArray[np.float32]]]:
    output, vectors = old_output(tmp_path_factory.mktemp("old"))
    return index_of(output.out, tmp_path_factory.mktemp("new")), vectors


@examples(60)
@given(
    st.lists(st.none() | st.just(-1) | st.integers(0, PLAN.rows + 5), min_size=1, max_size=40), st.integers(1, 3)
)
def test_each_text_that_is_there_has_its_vector_and_the_others_are_to_be_sent(
    old: tuple[Reuse, dict[int, npt.NDArray[np.float32]]], numbers: list[int | None], most_open: int
) -> None:
    """-1: an empty text."""
    reuse, vectors = old
    part = opened([None if n is None else "" if n < 0 else f"text {n}" for n in numbers])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST_OPEN", most_open)
        rows = given_to(part, reuse)
    there = [row for row, n in enumerate(numbers) if n in vectors]
    assert rows == len(there)
    assert part.sendable.tolist() == [
        row for row, n in enumerate(numbers) if n is not None and n >= 0 and n not in vectors
    ]
    assert part.complete == (not len(part.sendable))
    for row in there:
        number = numbers[row]
        assert number is not None
        np.testing.assert_array_equal(part._vectors[row], vectors[number])


def test_float32_is_rounded_to_half_floats(old: tuple[Reuse, dict[int, npt.NDArray[np.float32]]]) -> None:
    reuse, vectors = old
    part = opened(["text 3"], "float16")
    assert given_to(part, reuse) == 1
    np.testing.assert_array_equal(part._vectors[0], vectors[3].astype(np.float16))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_damaged_vector_is_not_taken(tmp_path: Path, value: float) -> None:
    output, vectors = old_output(tmp_path / "old")
    reuse = index_of(output.out, tmp_path / "new")
    path = output.out / NAMES[0]
    data = path.read_bytes()
    assert data.count(vectors[2].tobytes()) == 1
    path.write_bytes(data.replace(vectors[2].tobytes(), np.full(DIM, value, np.float32).tobytes()))
    part = opened(["text 1", "text 2", "text 3"])
    assert given_to(part, reuse) == 2
    assert part.sendable.tolist() == [1]


def test_a_part_that_went_away_is_an_error_that_names_it(tmp_path: Path) -> None:
    output, _ = old_output(tmp_path / "old")
    reuse = index_of(output.out, tmp_path / "new")
    (output.out / NAMES[0]).unlink()
    with pytest.raises(UserError, match=rf"{NAMES[0]} cannot be read .*run without --reuse"):
        given_to(opened(["text 1"]), reuse)
