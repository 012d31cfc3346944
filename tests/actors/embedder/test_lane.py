"""The way to one endpoint, over real HTTP: every text ends as its vector or its reject."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from actors.corpus import Rows
from actors.embedder.batch import Batch
from actors.embedder.client import EmbeddingClient
from actors.embedder.lane import Lane
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Window
from actors.errors import UserError
from actors.messages import Endpoint, Order, Part
from tests.servers.fixture import EmbeddingServer
from tests.servers.vectors import vectors_of

DIM = 32
WIDE = 1 << 20
pytestmark = pytest.mark.usefixtures("quick")
WRONG = ["short", "dim", "nan", "zero", "truncated", "html", "index"]


@asynccontextmanager
async def lane_to(
    url: str,
    limit: int = 4,
    rows: int = 1024,
    patience_s: float = 30.0,
    dim: int = DIM,
    model: str = "test-embedder",
) -> AsyncIterator[Lane]:
    client = EmbeddingClient(Endpoint(url, model, "openai", None))
    try:
        yield Lane(client, dim, patience_s, Order(limit, rows, WIDE), Window())
    finally:
        await client.aclose()


def texts(count: int) -> list[str]:
    return [f"text {i:04d}." for i in range(count)]


def batch_of(rows: Sequence[str]) -> tuple[OpenPart, Batch]:
    part = OpenPart(Part(0, "part", 0, 0, len(rows)), Rows(list(rows), None, ()), DIM, "float32")
    window = Window()
    window.add(part)
    batch = window.take(len(rows), WIDE)
    assert batch is not None
    assert len(batch) == len(rows)
    return part, batch


async def deliver(lane: Lane, rows: Sequence[str]) -> OpenPart:
    part, batch = batch_of(rows)
    await lane.room()
    lane.start()
    await lane.deliver(batch)
    assert part.complete
    return part


def rejects(part: OpenPart) -> list[tuple[int, str, int | None]]:
    return [(each.row, each.reason, each.status) for each in part._rejects.values()]


def assert_right(part: OpenPart, rows: Sequence[str]) -> None:
    """Each row that is no reject has the vector of its own text."""
    good = [row for row in range(len(rows)) if row not in part._rejects]
    np.testing.assert_array_equal(part._vectors[good], vectors_of(rows, DIM)[good])


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in time")


async def test_vectors_land_in_their_rows_and_are_counted(server: EmbeddingServer) -> None:
    async with lane_to(server.url) as lane:
        assert_right(await deliver(lane, texts(10)), texts(10))
        first = lane.report()
        await deliver(lane, texts(3))
        second = lane.report()
    assert (first.endpoint, first.limit, first.inflight) == (server.url, 4, 0)
    assert (first.requests, first.answers, first.rows, first.tokens, first.errors) == (1, 1, 10, 30, {})
    assert (second.requests, second.answers, second.rows, second.tokens) == (2, 2, 13, 39)
    assert [(event.rows, event.tokens) for event in first.completions] == [(10, 30)]
    assert [(event.rows, event.tokens) for event in second.completions] == [(3, 9)]
    assert all(event.latency_s > 0 for event in second.completions)


@pytest.mark.parametrize(("size", "bad"), [(1, 0), (2, 1), (7, 3), (128, 0), (128, 77), (128, 127), (200, 131)])
async def test_a_poisoned_text_alone_is_rejected_in_few_requests(
    server: EmbeddingServer, size: int, bad: int
) -> None:
    rows = texts(size)
    server.behave(poison=rows[bad])
    async with lane_to(server.url) as lane:
        part = await deliver(lane, rows)
    assert rejects(part) == [(bad, "bad_request", 400)]
    assert_right(part, rows)
    assert server.stats()["requests"] - 1 <= 2 * math.ceil(math.log2(size)) + 2


async def test_several_poisoned_texts_each_become_one_reject(server: EmbeddingServer) -> None:
    rows = [f"{text} {'POISON' if i in (0, 1, 30, 63) else ''}" for i, text in enumerate(texts(64))]
    server.behave(poison="POISON")
    async with lane_to(server.url) as lane:
        part = await deliver(lane, rows)
        assert lane.rows == 60
    assert [row for row, _, _ in rejects(part)] == [0, 1, 30, 63]
    assert_right(part, rows)


async def test_the_servers_limit_on_texts_is_learnt_once(server: EmbeddingServer) -> None:
    server.behave(max_inputs=20)
    async with lane_to(server.url, rows=64) as lane:
        assert lane.batch_rows == 64
        part = await deliver(lane, texts(64))
        assert lane.batch_rows == 20
        assert rejects(part) == []
        assert_right(part, texts(64))
        lane.obey(Order(4, 128, WIDE))
        assert lane.batch_rows == 20
        lane.obey(Order(4, 5, WIDE))
        assert lane.batch_rows == 5


async def test_more_texts_than_the_real_api_takes(server: EmbeddingServer) -> None:
    async with lane_to(server.url) as lane:
        assert rejects(await deliver(lane, texts(2049))) == []


async def test_one_text_too_large_is_rejected(server: EmbeddingServer) -> None:
    server.behave(fail_next=1, fail_status=413)
    async with lane_to(server.url) as lane:
        assert rejects(await deliver(lane, ["a"])) == [(0, "payload_too_large", 413)]


async def test_overload_is_waited_out_as_long_as_the_server_asks(server: EmbeddingServer) -> None:
    server.behave(fail_next=1, fail_status=429, retry_after="1")
    began = time.monotonic()
    async with lane_to(server.url) as lane:
        part = await deliver(lane, texts(3))
        report = lane.report()
    assert time.monotonic() - began >= 1.0
    assert_right(part, texts(3))
    assert (report.requests, report.retries, report.errors) == (2, 1, {"overloaded": 1})


@pytest.mark.parametrize(("status", "value"), [(429, "inf"), (503, "86400"), (500, "86400")])
async def test_a_server_that_wants_to_be_left_for_longer_than_the_patience_ends_the_job(
    server: EmbeddingServer, status: int, value: str
) -> None:
    server.behave(fail_next=1_000_000, fail_status=status, retry_after=value)
    async with lane_to(server.url, patience_s=0.3) as lane:
        with pytest.raises(UserError, match=f"status {status}"):
            await asyncio.wait_for(deliver(lane, texts(2)), 10)


@pytest.mark.parametrize("status", [429, 503])
async def test_overload_never_splits_or_rejects(server: EmbeddingServer, status: int) -> None:
    server.behave(fail_next=12, fail_status=status)
    async with lane_to(server.url) as lane:
        part = await deliver(lane, texts(8))
    assert rejects(part) == []
    assert server.stats()["statuses"]["200"] == 2  # a text of our own, and all of these at once


@pytest.mark.parametrize(
    ("status", "words"), [(401, "without a key"), (403, "without a key"), (404, "no model 'test-embedder'")]
)
async def test_what_no_retry_can_help_ends_the_job_at_once(
    server: EmbeddingServer, status: int, words: str
) -> None:
    server.behave(fail_next=1, fail_status=status)
    async with lane_to(server.url) as lane:
        with pytest.raises(UserError, match=words) as raised:
            await deliver(lane, texts(8))
    assert (server.url in raised.value.message, raised.value.exit_code) == (True, 1)
    assert server.stats()["requests"] == 1


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_a_server_that_only_fails_ends_the_job_after_its_patience_and_rejects_nothing(
    server: EmbeddingServer, status: int
) -> None:
    server.behave(fail_next=1_000_000, fail_status=status)
    part, batch = batch_of(texts(8))
    async with lane_to(server.url, patience_s=0.3) as lane:
        lane.start()
        with pytest.raises(UserError, match="cannot be used") as raised:
            await lane.deliver(batch)
        assert lane.report().inflight == 0
    assert raised.value.exit_code == 1
    assert str(status) in raised.value.message
    assert rejects(part) == []


async def test_a_server_that_is_nowhere_ends_the_job_after_its_patience(server: EmbeddingServer) -> None:
    server.stop()
    async with lane_to(server.url, patience_s=0.3) as lane:
        with pytest.raises(UserError, match="connection refused"):
            await deliver(lane, texts(8))


async def test_a_server_that_comes_back_in_time_is_forgiven(server: EmbeddingServer) -> None:
    async with lane_to(server.url) as lane:
        server.stop()
        delivering = asyncio.create_task(deliver(lane, texts(8)))
        await until(lambda: lane.report().retries > 3)
        server.restart()
        part = await delivering
    assert rejects(part) == []
    assert_right(part, texts(8))


async def test_time_in_which_nobody_asked_is_not_time_away(server: EmbeddingServer) -> None:
    async with lane_to(server.url, patience_s=0.2) as lane:
        server.behave(poison="bad")
        assert rejects(await deliver(lane, ["bad"])) == [(0, "bad_request", 400)]
        await asyncio.sleep(0.3)
        server.behave(fail_next=1, fail_status=503)
        assert rejects(await deliver(lane, ["good"])) == []


async def test_dropped_connections_are_retried_and_never_split(server: EmbeddingServer) -> None:
    server.behave(drop_next=3)
    async with lane_to(server.url) as lane:
        part = await deliver(lane, texts(8))
        assert lane.report().errors == {"transport": 3}
    assert_right(part, texts(8))
    assert server.stats()["texts"] == 4 * 8


async def test_a_server_that_fails_now_and_then_costs_a_retry(server: EmbeddingServer) -> None:
    async with lane_to(server.url) as lane:
        await deliver(lane, texts(8))
        server.behave(fail_next=1, fail_status=500)
        part = await deliver(lane, texts(8))
    assert_right(part, texts(8))
    assert server.stats()["texts"] == 3 * 8


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_answer_is_asked_again(server: EmbeddingServer, wrong: str) -> None:
    server.behave(wrong=wrong, wrong_for="next:2")
    async with lane_to(server.url) as lane:
        part = await deliver(lane, texts(8))
        report = lane.report()
    assert rejects(part) == []
    assert_right(part, texts(8))
    assert (report.requests, report.retries, report.answers) == (3, 2, 1)
    assert report.errors == {"wrong_answer": 2}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_text_that_always_gets_a_wrong_answer_is_isolated(server: EmbeddingServer, wrong: str) -> None:
    rows = texts(16)
    server.behave(wrong=wrong, wrong_for=rows[5])
    async with lane_to(server.url) as lane:
        part = await deliver(lane, rows)
        assert lane.report().rows == 15
    assert rejects(part) == [(5, "wrong_answer", None)]
    assert_right(part, rows)


async def test_a_server_of_another_dimension_ends_the_job_and_rejects_nothing(server: EmbeddingServer) -> None:
    part, batch = batch_of(texts(4))
    async with lane_to(server.url, dim=DIM + 1, patience_s=0.3) as lane:
        lane.start()
        with pytest.raises(UserError, match="33 were expected"):
            await lane.deliver(batch)
    assert rejects(part) == []


async def test_no_more_requests_are_in_flight_than_ordered(server: EmbeddingServer) -> None:
    server.behave(delay_ms=20, poison="text 0003.")  # what is halved keeps to its one place
    async with lane_to(server.url) as lane:
        for limit in (5, 2, 3):
            lane.obey(Order(limit, 8, WIDE))
            server.reset()
            peak = 0
            async with asyncio.TaskGroup() as group:
                for _ in range(2 * limit + 1):
                    await lane.room()
                    lane.start()
                    peak = max(peak, lane.report().inflight)
                    group.create_task(lane.deliver(batch_of(texts(4))[1]))
            assert peak == limit
            assert server.stats()["max_inflight"] <= limit
        assert lane.report().inflight == 0


async def test_a_larger_order_lets_those_who_wait_go_on(server: EmbeddingServer) -> None:
    async def one(lane: Lane) -> None:
        await lane.room()
        lane.start()

    async with lane_to(server.url, limit=0) as lane:
        waiting = [asyncio.create_task(one(lane)) for _ in range(5)]
        await asyncio.sleep(0)
        for limit in (1, 1, 3, 2, 5):
            lane.obey(Order(limit, 8, WIDE))
            await until(lambda limit=limit: lane.report().inflight >= limit)  # type: ignore[misc]
        await asyncio.gather(*waiting)
        assert lane.report().inflight == 5


async def test_a_place_is_given_back_whatever_became_of_the_batch(server: EmbeddingServer) -> None:
    async with lane_to(server.url, limit=1) as lane:
        server.behave(fail_next=1, fail_status=401)
        with pytest.raises(UserError):
            await deliver(lane, texts(2))
        await deliver(lane, texts(2))

        server.behave(fail_next=1, fail_status=429, retry_after="20")
        delivering = asyncio.create_task(deliver(lane, texts(2)))
        await until(lambda: lane.report().retries == 1)
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivering
        await deliver(lane, texts(2))
        assert lane.report().inflight == 0
