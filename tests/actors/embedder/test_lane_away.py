"""A server that goes away and comes back: nothing but a text of our own goes there meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.embedder.answer_time import AnswerTime
from actors.embedder.window import Window
from actors.errors import UserError
from actors.messages import Order
from tests.actors.embedder.scripted import DIM, HANG_UP, Said, deliver, lane_to, opened
from tests.servers.vectors import vectors_of

TEXTS = [f"text {i}" for i in range(8)]
LOADING = 503, "Loading model"
pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("away", [LOADING, 500, 502, HANG_UP])
async def test_while_it_is_away_only_a_text_of_our_own_is_sent(away: Said) -> None:
    gone = True
    async with lane_to(lambda _: away if gone else 200) as (lane, server):
        many = [asyncio.create_task(deliver(lane, [f"{text} of {i}" for text in TEXTS])) for i in range(6)]
        await asyncio.sleep(0.3)
        asked, meanwhile = len(server.asked), len(server.asked)
        while meanwhile < asked + 20:
            await asyncio.sleep(0.01)
            meanwhile = len(server.asked)
        assert {len(texts) for texts in server.asked[asked:meanwhile]} == {1}
        assert not lane.has_room
        assert not lane.works
        gone = False
        assert await asyncio.gather(*many) == [[]] * 6
        assert lane.works


async def test_its_texts_go_back_for_another_server_to_take() -> None:
    window = Window()
    part = opened(TEXTS)
    window.add(part)
    async with lane_to(lambda _: LOADING, window=window, elsewhere=lambda: True) as (away, _):
        batch = window.take(8, 1 << 20)
        assert batch is not None
        away.start()
        await away.deliver(batch)
        assert window.rows == 8
        assert not part.complete
        async with lane_to(lambda _: 200, window=window) as (lane, _):
            again = window.take(8, 1 << 20)
            assert again is not None
            lane.start()
            await lane.deliver(again)
    assert part.complete
    assert (part._vectors == vectors_of(TEXTS, DIM)).all()


async def test_a_server_that_is_away_ends_nothing_while_another_works() -> None:
    works = True
    window = Window()
    window.add(opened(TEXTS))
    async with lane_to(lambda _: LOADING, 0.2, window=window, elsewhere=lambda: works) as (lane, _):
        batch = window.take(8, 1 << 20)
        assert batch is not None
        lane.start()
        await lane.deliver(batch)
        room = asyncio.create_task(lane.room())
        await asyncio.sleep(0.4)
        assert not room.done()
        works = False
        with pytest.raises(UserError, match="starting: status 503: Loading model"):
            await asyncio.wait_for(room, 5)


async def test_a_page_instead_of_vectors_is_waited_out() -> None:
    until = time.monotonic() + 0.5

    def say(_: list[str]) -> Said:
        return (200, "<html>Be right back</html>") if time.monotonic() < until else 200

    async with lane_to(say, 30.0) as (lane, _):
        assert await deliver(lane, TEXTS) == []


async def test_a_server_that_hangs_is_found_by_how_long_answers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedder.answer_time.LEAST_S", 0.2)
    hangs = False

    async def say(_: list[str]) -> Said:
        if hangs:
            await asyncio.sleep(60)
        return 200

    async with lane_to(lambda texts: say(texts)) as (lane, _):
        assert await deliver(lane, TEXTS) == []
        hangs = True
        waiting = asyncio.create_task(deliver(lane, TEXTS))
        await asyncio.sleep(1.0)
        assert lane.report().errors["timeout"] >= 2
        assert not lane.works
        hangs = False
        assert await waiting == []


def test_what_is_waited_for_follows_what_was_measured() -> None:
    times = AnswerTime()
    assert times.limit_s() == 300
    times.came(0.1)
    assert times.limit_s() == 10
    times.came(4.0)
    assert times.limit_s() == 32
    assert times.limit_s(timeouts=2) == 128
    assert times.limit_s(timeouts=50) == 300


async def test_a_limit_in_bytes_is_learnt_and_not_met_again() -> None:
    def say(texts: list[str]) -> Said:
        return 413 if sum(map(len, texts)) > 1000 else 200

    rows = [f"{i:04d}" * 25 for i in range(64)]
    async with lane_to(say) as (lane, server):
        assert await deliver(lane, rows) == []
        refused = sum(say(texts) == 413 for texts in server.asked)
        assert refused <= 4
        assert await deliver(lane, rows) == []
        assert sum(say(texts) == 413 for texts in server.asked) == refused


async def test_a_limit_in_tokens_is_learnt_from_what_the_server_says() -> None:
    def say(texts: list[str]) -> Said:
        tokens = sum(map(len, texts)) // 4
        return (400, f"Requested {tokens} tokens, max 400 tokens per request") if tokens > 400 else 200

    async with lane_to(say) as (lane, server):
        assert await deliver(lane, [f"{i:04d}" + "word" * 24 for i in range(64)]) == []
        assert [say(texts) == 200 for texts in server.asked] == [False] + [True] * (len(server.asked) - 1)
        lane.obey(Order(4, 1024, 1 << 20, version=1))


@pytest.mark.parametrize("refusal", [(422, "batch size 40 > maximum allowed batch size 1"), (413, "too large")])
async def test_a_limit_that_was_none_is_found_out(monkeypatch: pytest.MonkeyPatch, refusal: Said) -> None:
    """As one server of several behind one address may say, or a text that is quoted."""
    monkeypatch.setattr("actors.ceiling.AGAIN_S", 0.0)
    monkeypatch.setattr("actors.ceiling.SOON_S", 0.0)
    said = iter([refusal])
    rows = [f"{i:04d}" * 25 for i in range(40)]
    async with lane_to(lambda _: next(said, 200)) as (lane, server):
        for _ in range(8):
            assert await deliver(lane, rows) == []
    sizes = [len(texts) for texts in server.asked]
    assert (sizes[0], sizes[-1]) == (40, 40)
    assert min(sizes) < 40
