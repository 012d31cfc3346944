"""Which of a machine's GPUs are a server's."""

from __future__ import annotations

import pytest

from actors.embedder.gauges.reading.whose import Card, Server, cards_of


def cards(*pids: set[int]) -> list[Card]:
    uuids = ["GPU-aa0-0000", "GPU-ab1-0000", "GPU-ba2-0000"]
    return [Card(i, uuids[i], frozenset(each)) for i, each in enumerate(pids)]


def chosen(of: list[Card], server: Server | None) -> list[int]:
    return [card.index for card in cards_of(of, server)]


MINE = frozenset({7, 8})


def test_those_on_which_the_servers_processes_compute() -> None:
    assert chosen(cards({1}, {7, 2}, {8}), Server(MINE)) == [1, 2]
    assert chosen(cards({1}, {7}, set()), Server(MINE, "GPU-aa")) == [1], (
        "what computes counts, not what it may use"
    )


def test_else_those_on_which_anything_computes_else_all() -> None:
    for server in (None, Server(MINE), Server(frozenset())):
        assert chosen(cards({1}, set(), {2}), server) == [0, 2]
        assert chosen(cards(set(), set()), server) == [0, 1]
        assert chosen([], server) == []


@pytest.mark.parametrize(
    ("visible", "by_bus", "named"),
    [
        ("GPU-ba", False, [2]),
        ("GPU-ba2-0000,GPU-aa", False, [2, 0]),
        (" GPU-ba , GPU-ab ", False, [2, 1]),
        ("GPU-a", False, []),  # fits two
        ("GPU-aa,GPU-zz,GPU-ba", False, [0]),  # an entry that fits nothing ends it
        ("2,0", True, [2, 0]),
        ("0,-1,2", True, [0]),
        ("3", True, []),
        ("", False, []),  # it may use none
        ("-1", False, []),
        ("MIG-1234", False, []),
        ("MIG-GPU-aa0-0000/1/0", False, []),
        ("2", False, [0, 1]),  # by CUDA's own order: not to be told
        ("GPU-aa,1", False, [0, 1]),
    ],
)
def test_else_those_that_its_environment_names(visible: str, by_bus: bool, named: list[int]) -> None:
    assert chosen(cards({1}, {2}, set()), Server(MINE, visible, by_bus)) == named


def test_the_number_of_the_only_gpu_is_no_question() -> None:
    assert chosen(cards(set()), Server(MINE, "0")) == [0]
    assert chosen(cards(set()), Server(MINE, "1")) == []
