"""Who is to blame, the text or the server: over HTTP, from a server that says just what the test tells it to."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.embedder.pace import CATCH_UP_S
from actors.errors import UserError
from actors.messages import Order
from tests.actors.embedder.scripted import HANG_UP, deliver, lane_to

TEXTS = [f"text {i}" for i in range(8)]
BAD = TEXTS[3]
pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "bad_request"), (500, "backend"), (424, "backend"), (HANG_UP, "transport")]
)
async def test_the_one_text_that_a_server_cannot_take_is_found(status: int, reason: str) -> None:
    async with lane_to(lambda texts: status if BAD in texts else 200) as (lane, _):
        assert await deliver(lane, TEXTS) == [(3, reason, status or None)]


@pytest.mark.parametrize("status", [500, 502, HANG_UP])
async def test_no_text_is_blamed_for_a_time_in_which_all_fails(status: int) -> None:
    until = time.monotonic() + 0.5

    def say(texts: list[str]) -> int:
        return status if time.monotonic() < until else 200

    async with lane_to(say) as (lane, _):
        assert await deliver(lane, TEXTS) == []


async def test_a_server_that_takes_no_text_ends_the_job() -> None:
    async with lane_to(lambda _: 400, patience_s=0.3) as (lane, _):
        with pytest.raises(UserError, match="status 400: as told"):
            await deliver(lane, TEXTS)


@pytest.mark.parametrize("then", [200, 429, 503, HANG_UP])
async def test_a_text_is_tried_again_once_the_server_has_proved_itself(then: int) -> None:
    faults = iter([400, then])
    async with lane_to(lambda texts: next(faults, 200) if texts == [BAD] else 200) as (lane, _):
        assert await deliver(lane, [BAD]) == []


async def test_attempts_are_counted_for_each_kind_of_fault_by_itself() -> None:
    faults = iter([200, 503, 503, 503, 500, 429, 503])
    async with lane_to(lambda _: next(faults, 200)) as (lane, server):
        assert await deliver(lane, TEXTS) == []
        assert await deliver(lane, TEXTS) == []
        assert server.asked == [TEXTS] * 8


async def test_a_request_larger_than_all_that_worked_is_halved_once_the_server_has_proved_itself() -> None:
    async with lane_to(lambda asked: 500 if len(asked) > 3 else 200) as (lane, server):
        assert await deliver(lane, [20 * text for text in TEXTS]) == []
        assert [len(asked) for asked in server.asked] == [8, 1, 4, 2, 2, 2, 2]  # 1: a text of our own


async def test_a_server_that_was_away_gets_the_whole_request_again() -> None:
    faults = iter([500, 503])
    async with lane_to(lambda _: next(faults, 200)) as (lane, server):
        assert await deliver(lane, TEXTS) == []
        assert [len(asked) for asked in server.asked] == [8, 1, 1, 8]


async def test_a_slow_refusal_is_not_the_end_of_patience() -> None:
    """The endpoint was away for no time at all: it took longer than the patience to say no, once."""

    async def slowly() -> int:
        await asyncio.sleep(0.4)
        return 503

    faults = iter([slowly()])
    async with lane_to(lambda _: next(faults, 200), patience_s=0.3) as (lane, _):
        assert await deliver(lane, TEXTS) == []


async def test_an_endpoint_that_delivers_to_others_is_not_away() -> None:
    until = time.monotonic() + 4

    def say(texts: list[str]) -> int:
        return 429 if BAD in texts and time.monotonic() < until else 200

    async with lane_to(say, patience_s=2) as (lane, _):
        unlucky = asyncio.create_task(deliver(lane, [BAD]))
        while not unlucky.done():
            assert await deliver(lane, TEXTS[:2]) == []
            await asyncio.sleep(0.01)
        assert await unlucky == []


async def test_a_server_that_never_answers_is_away_after_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt waits long: there must not be several of them, and several of the proof."""
    monkeypatch.setattr("actors.embedder.answer_time.MOST_S", 0.3)
    never = asyncio.Event()

    async def hang() -> int:
        await never.wait()
        return 200

    async with lane_to(lambda _: hang(), patience_s=0.4) as (lane, server):
        with pytest.raises(UserError, match="timeout: no answer"):
            await deliver(lane, TEXTS)
        assert len(server.asked) <= 5
        never.set()


async def test_a_quota_that_is_spent_is_not_waited_out() -> None:
    async with lane_to(lambda _: 429) as (lane, server):
        server.error_type = "insufficient_quota"
        with pytest.raises(UserError, match="as told"):
            await deliver(lane, TEXTS)
        assert len(server.asked) == 1


async def test_what_waits_is_cut_again_when_requests_have_become_smaller() -> None:
    rows = [f"text {i:03d}" for i in range(64)]

    def say(texts: list[str]) -> int:
        if len(texts) <= 16:
            return 200
        lane.obey(Order(4, 1024, batch_tokens=20, version=1))
        return 429  # as long as they are this large

    async with lane_to(say) as (lane, server):
        assert await deliver(lane, rows) == []
    assert [len(texts) > 16 for texts in server.asked] == [True] + [False] * (len(server.asked) - 1)
    assert min(len(texts) for texts in server.asked) >= 5


async def test_under_a_quota_requests_go_one_after_the_other_at_its_pace() -> None:
    sent: list[float] = []

    def say(_: list[str]) -> int:
        sent.append(time.monotonic())
        return 200

    async with lane_to(say) as (lane, _):
        lane.obey(Order(4, 1024, 1 << 20, requests_per_s=20.0, version=1))
        await asyncio.gather(*(deliver(lane, [f"text {i}"]) for i in range(8)))
    assert max(sent) - min(sent) >= 0.9 * (7 / 20 - CATCH_UP_S)
