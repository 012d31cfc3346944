"""A server that holds fewer texts than a request has refuses it for ever, as if it were busy."""

from __future__ import annotations

import pytest

from actors.errors import UserError
from tests.actors.embedder.scripted import Said, deliver, lane_to

pytestmark = pytest.mark.usefixtures("quick")
BUSY = 503, "The engine is currently busy and cannot accept new requests."


@pytest.mark.parametrize("most", [1, 5, 8, 39])
async def test_requests_become_small_enough_for_what_it_holds(most: int) -> None:
    async with lane_to(lambda texts: 200 if len(texts) <= most else BUSY) as (lane, server):
        assert await deliver(lane, [f"text {i}" for i in range(40)]) == []
        before = len(server.asked)
        assert await deliver(lane, [f"more {i}" for i in range(40)]) == []
    assert max(map(len, server.asked[before:])) <= most  # it is learnt
    assert before <= 4 * 6 + 40 // most * 2 + 8


async def test_a_server_that_is_busy_for_a_while_is_waited_for() -> None:
    told: list[int] = []

    def busy_at_first(texts: list[str]) -> Said:
        told.append(len(texts))
        return BUSY if len(told) <= 6 else 200

    async with lane_to(busy_at_first) as (lane, _):
        assert await deliver(lane, [f"text {i}" for i in range(40)]) == []
    assert told[-1] == 40  # it takes as much as before


async def test_a_size_that_worked_is_not_doubted() -> None:
    said = iter([200, *[BUSY] * 8])
    async with lane_to(lambda _: next(said, 200)) as (lane, server):
        for start in (0, 40):
            assert await deliver(lane, [f"text {i}" for i in range(start, start + 40)]) == []
    assert {len(texts) for texts in server.asked} == {40}


async def test_a_server_that_is_busy_for_good_ends_the_job() -> None:
    async with lane_to(lambda _: BUSY, patience_s=0.5) as (lane, _):
        with pytest.raises(UserError, match="overloaded"):
            await deliver(lane, ["a", "b"])
