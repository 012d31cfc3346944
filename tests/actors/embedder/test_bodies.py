"""Memory for answers: the size that is asked for, the same memory again, and never what somebody looks at."""

from __future__ import annotations

import mmap

import pytest

from actors.embedder.bodies import _IDLE_BYTES, _LEAST_BYTES, Bodies

SIZE = 10 * _LEAST_BYTES


def lent_again(first: int, second: int) -> bool:
    """Whether the memory of a body of the first size serves one of the second."""
    bodies = Bodies()
    body = bodies.take(first)
    assert len(body) == first
    bodies.give(body)
    again = bodies.take(second)
    assert len(again) == second
    again[second - 1] = 1  # is really there
    return again is body


@pytest.mark.parametrize("size", [SIZE, SIZE - 9, SIZE + 9, SIZE // 2, 2 * SIZE])
def test_the_same_memory_for_a_similar_size(size: int) -> None:
    assert lent_again(SIZE, size)


@pytest.mark.parametrize("size", [1, SIZE // 2 - 1, 2 * SIZE + 1])
def test_other_memory_for_another_size(size: int) -> None:
    assert not lent_again(SIZE, size)


def test_little_is_not_kept() -> None:
    assert not lent_again(_LEAST_BYTES - 1, _LEAST_BYTES - 1)
    assert lent_again(_LEAST_BYTES, _LEAST_BYTES)
    assert len(Bodies().take(0)) == 0


def given(sizes: list[int]) -> tuple[Bodies, list[bytearray | mmap.mmap]]:
    """Bodies of these sizes that were all out at the same time."""
    bodies = Bodies()
    out = [bodies.take(size) for size in sizes]
    for each in out:
        bodies.give(each)
    return bodies, out


def test_the_last_used_of_a_similar_size_comes_first() -> None:
    bodies, out = given([SIZE, SIZE, 3 * SIZE])
    assert bodies.take(SIZE) is out[1]


def test_of_many_those_used_last_are_kept() -> None:
    size = _IDLE_BYTES // 4
    bodies, out = given([size] * 10)
    assert [bodies.take(size) in out[6:] for _ in range(5)] == [True] * 4 + [False]


def test_one_is_kept_however_large_it_is() -> None:
    size = 2 * _IDLE_BYTES
    bodies, out = given([SIZE, size, size])
    assert bodies.take(size) is out[2]
    assert bodies.take(size) not in out
    assert bodies.take(SIZE) not in out


def test_what_is_let_go_is_no_memory_any_more() -> None:
    _, out = given([_IDLE_BYTES, _IDLE_BYTES])
    with pytest.raises(ValueError, match="closed"):
        out[0][0]


def test_what_somebody_looks_at_is_not_lent_again() -> None:
    bodies = Bodies()
    body = bodies.take(SIZE)
    with memoryview(body):
        bodies.give(body)
        assert bodies.take(SIZE) is not body
    assert len(body) == SIZE
