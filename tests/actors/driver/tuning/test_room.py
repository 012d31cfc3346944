"""How far each knob may go, and in which steps."""

from __future__ import annotations

from itertools import pairwise

import pytest

from actors.driver.tuning.aims import LEAST, Aim
from actors.driver.tuning.base import Bounds
from actors.driver.tuning.measure import Reading
from actors.driver.tuning.room import BATCH, START, Room
from actors.messages import Completion

TEXTS = 1024


def reading(rate: float = 1e6, tokens: float = 8000, rows: float = 100, capped: float = 0.0) -> Reading:
    return Reading(rate, 0.01 * rate, 0.05, 0.0, 2.0, 20, tokens, rows, capped)


def known(room: Room, latency_s: float = 0.01) -> Room:
    """It has answered once."""
    room.came([Completion(1.0, latency_s, 100, 8000, 8000)], 1.0)
    return room


def test_larger_requests_are_fewer_where_they_would_only_wait() -> None:
    assert known(Room(Bounds())).larger(Aim(8, 8192), 2.0, reading()) == Aim(4, 16_384)
    assert Room(Bounds()).larger(Aim(8, 8192), 2.0, reading()) == Aim(8, 16_384)  # how long one takes is not known
    far = known(Room(Bounds()), latency_s=0.1)
    assert far.larger(Aim(64, 8192), 2.0, reading(rate=2e6)) == Aim(38, 16_384)  # 25 of them are on their way


def test_larger_requests_are_as_many_at_a_server_that_merges_them() -> None:
    room = known(Room(Bounds(server_batch_tokens=65_536)))
    assert room.larger(Aim(8, 8192), 2.0, reading()) == Aim(8, 16_384)
    assert room.larger(Aim(16, 8192), 2.0, reading()) == Aim(8, 16_384)  # where that fills two batches anyway


def test_larger_requests_are_as_many_where_that_is_pinned() -> None:
    assert known(Room(Bounds(limit=8))).larger(Aim(8, 8192), 2.0, reading()) == Aim(8, 16_384)


def test_requests_at_the_row_cap_cannot_be_larger() -> None:
    assert known(Room(Bounds())).larger(Aim(8, 8192), 2.0, reading(capped=1.0)) is None


def test_where_two_requests_share_a_cap_in_texts_they_may_still_have_more_tokens() -> None:
    room = known(Room(Bounds()))
    room.cap.texts = TEXTS
    assert room.larger(Aim(4, 8192), 2.0, reading()) == Aim(2, 16_384)
    assert room.larger(Aim(2, 8192), 2.0, reading()) == Aim(2, 16_384)


@pytest.mark.parametrize(
    ("bounds", "wants"),
    [
        (Bounds(), 0),
        (Bounds(server_batch_tokens=16_384), BATCH * 16_384),
        (Bounds(server_merged_texts=256), 256 * 80),
    ],
)
def test_what_a_server_that_merges_wants_in_flight(bounds: Bounds, wants: float) -> None:
    room = Room(bounds)
    assert room.wants(reading()) == wants
    assert room.merges == bool(wants)
    assert room.aim.limit == (LEAST if wants else START.limit)


def orders(room: Room, limits: list[int]) -> list[tuple[int, int]]:
    """Requests in flight and texts of each, at each order and when all before it has come back."""
    told = []
    for limit in limits:
        room.aim = Aim(limit, 8192)
        for _ in range(2):
            told.append((room.order(), room.rows_now))
            room.settle()
    return told


def test_under_a_cap_in_texts_requests_grow_when_there_are_fewer_and_get_more_when_they_have_shrunk() -> None:
    room = Room(Bounds())
    room.cap.texts = TEXTS
    told = orders(room, [8, 2, 4])
    assert told == [(8, 128), (8, 128), (2, 128), (2, 512), (2, 256), (4, 256)]
    for (before, _), (limit, rows) in pairwise(told):
        assert max(before, limit) * rows <= TEXTS  # some obey already, others not yet


def test_without_a_cap_in_texts_an_order_is_one_step() -> None:
    assert orders(Room(Bounds()), [8, 2, 4]) == [(8, 2048), (8, 2048), (2, 2048), (2, 2048), (4, 2048), (4, 2048)]
    few = Room(Bounds(server_rows=32, server_texts_inflight=512))
    assert orders(few, [8, 16, 4]) == [(8, 32), (8, 32), (16, 32), (16, 32), (4, 32), (4, 32)]


def test_orders_that_change_again_keep_to_the_least_of_all_that_may_still_be_obeyed() -> None:
    room = Room(Bounds())
    room.cap.texts = TEXTS
    room.order()
    for limit in (2, 16):
        room.aim = Aim(limit, 8192)
        assert (room.order(), room.rows_now) == (2, TEXTS // max(8, limit))
        assert room.is_changing
    room.settle()
    assert (room.order(), room.rows_now) == (16, 64)
