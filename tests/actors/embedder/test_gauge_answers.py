"""What waits at a server, by what its answers tell of their own texts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.embedder.gauges.answers import Waits
from actors.messages import QueueSample
from tests.actors.embedder.scripted import deliver, lane_to

pytestmark = pytest.mark.usefixtures("quick")


def test_of_the_texts_under_way_so_many_wait_as_their_waiting_is_of_their_time() -> None:
    waits = Waits()
    assert waits.sample(0.0) is None
    waits.came(1.0, 0.4, 320, 0.3, 0.05)
    assert waits.sample(1.5) == QueueSample(240, 40, "tei-headers", 0.5, own=True)
    for second in range(2, 100):
        waits.came(second, 0.4, 320, 0.1, 0.2)
    sample = waits.sample(99.0)
    assert sample
    assert (sample.waiting, sample.running) == (80, 160)


def test_what_cannot_be_tells_nothing() -> None:
    waits = Waits()
    for at, latency_s, queued_s, worked_s in ((1, 0.0, 0.1, 0.1), (2, 1.0, None, 0.1), (3, 1.0, 0.1, None)):
        waits.came(at, latency_s, 32, queued_s, worked_s)
    assert waits.sample(3.0) is None
    waits.came(4.0, 0.1, 32, 9.0, 0.0)  # longer than it took
    assert waits.sample(4.0) == QueueSample(32, 0, "tei-headers", 0.0, own=True)
    assert waits.sample(15.0) is None


async def test_a_lane_reports_what_waits_where_its_server_tells() -> None:
    async with lane_to(lambda _: 200, dialect="tei") as (lane, server):
        endpoint = lane._client.endpoint
        lane._client.endpoint = replace(endpoint, route=f"{endpoint.url}/v1/embeddings")
        await deliver(lane, ["a", "b"])
        assert lane.report().queue is None
        server.headers = "x-queue-time: 100000\r\nx-inference-time: 0\r\n"
        await deliver(lane, ["c", "d", "e"])
        queue = lane.report().queue
        assert queue
        assert (queue.waiting, queue.running, queue.own) == (3, 0, True)
