"""The threads around a model: what shares a batch, who gets what, and what comes of a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from actors.embedder.gauges.base import Depth
from actors.embedder.gauges.page import Page
from actors.embedder.gauges.rayembed import RAYEMBED
from jobs.serve import engine as engine_module
from jobs.serve.app import create_app
from jobs.serve.backends.base import Ids, Vectors
from jobs.serve.engine import Engine, FullError
from jobs.serve.metrics import page
from tests.jobs.serve.test_serve_app import client_of
from tests.servers.in_thread import serving


@dataclass
class Lengths:
    """A text's token is its length, its vector (length, 1); it computes when `go` is set, and fails on `fail`."""

    lanes: int = 2
    batches: list[list[int]] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go: threading.Event = field(default_factory=threading.Event)
    name: str = 'le"ngths'
    dim: int = 2
    max_tokens: int | None = None
    matryoshka: bool = False
    batch_tokens: int = 1000

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        return [np.full(len(text), len(text) if text != "fail" else -1, np.int32) for text in texts]

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        self.batches.append([len(row) for row in rows])
        self.started.release()
        assert self.go.wait(30)
        if any(row[0] < 0 for row in rows):
            raise MemoryError("no memory left on the device")
        return np.array([[len(row), 1] for row in rows], np.float32)


async def started(model: Lengths, batches: int) -> None:
    for _ in range(batches):
        assert await asyncio.to_thread(model.started.acquire, timeout=30)


async def first(engine: Engine, texts: list[str]) -> list[float]:
    """The first element of each vector."""
    encoded = await engine.embed(texts)
    assert encoded.tokens.tolist() == [len(text) for text in texts]
    return [float(value) for value in encoded.vectors[:, 0]]


async def waiting(engine: Engine, texts: int) -> None:
    """Until so many texts wait."""
    for _ in range(3000):
        if engine.counters().waiting == texts:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(engine.counters())


async def test_requests_that_wait_share_a_batch_and_each_gets_its_own() -> None:
    model = Lengths()
    engine = Engine(model)
    held = [asyncio.create_task(first(engine, ["a" * 600])) for _ in range(2)]
    await started(model, 2)
    requests = [["b" * 20, "c" * 24, "d" * 21], ["e" * 24, "f" * 19], ["g" * 22] * 5]
    tasks = [asyncio.create_task(first(engine, texts)) for texts in requests]
    await waiting(engine, 10)
    assert engine.counters().running == 2
    model.go.set()
    assert await asyncio.gather(*tasks) == [[len(text) for text in texts] for texts in requests]
    assert await asyncio.gather(*held) == [[600], [600]]
    assert model.batches == [[600], [600], sorted(len(text) for texts in requests for text in texts)]
    told = engine.counters()
    assert (told.waiting, told.running, told.texts, told.batches) == (0, 0, 12, 3)
    assert (told.tokens, told.padded_tokens) == (1200 + 218, 1200 + 240)
    assert told.busy_s > 0
    engine.close()


async def test_each_request_by_itself_when_told_so() -> None:
    model = Lengths(lanes=1)
    engine = Engine(model, 50, merge=False)
    requests = [["a" * 10, "b" * 25], ["c" * 20] * 2, ["d"], ["e" * 20, "f" * 40, "g" * 70]]
    tasks = []
    for number, texts in enumerate(requests):
        tasks.append(asyncio.create_task(first(engine, texts)))
        await (waiting(engine, sum(map(len, requests[1 : number + 1]))) if number else started(model, 1))
    model.go.set()
    assert await asyncio.gather(*tasks) == [[len(text) for text in texts] for texts in requests]
    assert model.batches == [[10, 25], [20, 20], [1], [70], [40], [20]]
    engine.close()


async def test_a_failed_batch_fails_its_requests_and_no_others() -> None:
    model = Lengths()
    engine = Engine(model, merge=False)
    held = [asyncio.create_task(first(engine, ["a" * 600])) for _ in range(2)]
    await started(model, 2)
    failing = asyncio.create_task(first(engine, ["fail", "b" * 900, "c" * 900]))
    fine = asyncio.create_task(first(engine, ["d", "e"]))
    await waiting(engine, 5)
    model.go.set()
    with pytest.raises(MemoryError):
        await failing
    assert await fine == [1, 1]
    assert await asyncio.gather(*held) == [[600], [600]]
    for _ in range(3000):
        if not engine.counters().running:
            break
        await asyncio.sleep(0.01)
    told = engine.counters()
    assert (told.waiting, told.running) == (0, 0)
    assert told.texts <= 4 + 2  # the failed one's, of which the other lane may have had a batch
    engine.close()


@pytest.mark.parametrize("merge", [True, False])
async def test_what_nobody_waits_for_is_not_computed(merge: bool) -> None:
    model = Lengths(lanes=1)
    engine = Engine(model, merge=merge)
    with serving(create_app(model, engine=engine)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            held = asyncio.create_task(client.post("/v1/embeddings", json={"input": ["a" * 900, "b" * 950]}))
            await started(model, 1)
            left = asyncio.create_task(client.post("/v1/embeddings", json={"input": ["c" * 500] * 20}))
            stays = asyncio.create_task(client.post("/v1/embeddings", json={"input": ["d" * 500]}))
            await waiting(engine, 22)
            left.cancel()
            await waiting(engine, 2)
            model.go.set()
            assert [(await task).status_code for task in (held, stays)] == [200, 200]
    assert sorted(length for batch in model.batches for length in batch) == [500, 900, 950]


async def test_no_more_texts_are_let_in_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MOST_TEXTS", 10)
    model = Lengths()
    engine = Engine(model)
    async with client_of(model, engine=engine) as client:
        # alone, a request may be larger than all that may wait
        large = asyncio.create_task(client.post("/v1/embeddings", json={"input": ["a"] * 11}))
        await started(model, 1)
        refused = await client.post("/v1/embeddings", json={"input": "a"})
        assert refused.status_code == 503
        assert "overloaded" in refused.json()["error"]["message"]
        with pytest.raises(FullError):
            await engine.embed(["a"])
        model.go.set()
        assert (await large).status_code == 200
        assert (await client.post("/v1/embeddings", json={"input": "a"})).status_code == 200


async def test_the_page_of_metrics_is_what_the_jobs_gauge_reads() -> None:
    model = Lengths()
    async with client_of(model, "sesame-42") as client:
        headers = {"Authorization": "Bearer sesame-42"}
        assert (await client.get("/metrics")).status_code == 401
        tasks = [
            asyncio.create_task(client.post("/v1/embeddings", json={"input": ["a" * 900] * n}, headers=headers))
            for n in (1, 4)
        ]
        await started(model, 2)
        told = await client.get("/metrics", headers=headers)
        assert told.headers["content-type"].startswith("text/plain")
        assert RAYEMBED.queue(Page(told.text), model.name) == Depth(3, 2)
        model.go.set()
        assert [(await task).status_code for task in tasks] == [200, 200]
        after = Page((await client.get("/metrics", headers=headers)).text)
        assert after.total("rayembed_tokens_total", model.name) == 4500
        assert after.total("rayembed_inputs_total", model.name) == 5


def test_a_page_names_each_metric_once_and_the_model_as_it_may_be_written() -> None:
    text = page(Engine(Lengths()).counters(), 'a"b\\c\nd')
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len({line.partition("{")[0] for line in lines}) == len(lines)
    assert all(r'{model="a\"b\\c\nd"}' in line for line in lines)
