"""How many rows, and how often: in time, and fairly."""

from __future__ import annotations

import pytest

from jobs.bench.schedule import LEAST_ROUNDS, MOST_ROUNDS, Mode, Pace, choose_rows, rounds

BOTH: tuple[Mode, ...] = ("sync", "async")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def play(seconds: float, round_s: float, repeat: int | None = None) -> list[tuple[Mode, ...]]:
    """The rounds that are played when each takes so long."""
    clock = Clock()
    played = []
    for order in rounds(BOTH, seconds, clock, repeat):
        played.append(order)
        clock.now += round_s
    return played


def test_the_order_turns_round_by_round() -> None:
    assert play(120, 30) == [("sync", "async"), ("async", "sync"), ("sync", "async"), ("async", "sync")]


def test_rounds_end_in_time_but_are_repeated_once_at_least() -> None:
    assert len(play(100, 30)) == 3
    assert len(play(10, 1000)) == LEAST_ROUNDS
    assert len(play(1e9, 1)) == MOST_ROUNDS
    assert [len(play(10, 1000, repeat)) for repeat in (1, 20)] == [1, 20]


@pytest.mark.parametrize("modes", [("sync",), ("async",), BOTH])
@pytest.mark.parametrize("alone", [20.0, 2000.0])
@pytest.mark.parametrize("gain", [0.5, 1.0, 20.0])
def test_two_rounds_fit(modes: tuple[Mode, ...], alone: float, gain: float) -> None:
    pace = Pace(alone, gain * alone)
    rows = choose_rows(pace, modes, 120, 8)
    takes = 2 * sum(rows / (alone if mode == "sync" else max(1.0, gain) * alone) for mode in modes)
    assert 60 < takes < 120


def test_a_very_slow_server_gets_one_request_and_a_fast_one_no_more_than_the_disk_holds() -> None:
    assert choose_rows(Pace(0.1, 0.1), BOTH, 120, 8) == 50
    assert choose_rows(Pace(1e6, 1e6), BOTH, 0, 8) == 50
    assert choose_rows(Pace(1e6, 1e7), ("async",), 1e4, 4096) * 4096 * 4 <= 2 << 30
