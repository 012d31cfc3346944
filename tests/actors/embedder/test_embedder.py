"""A whole embedder without Ray: real input, a real ledger and controller, a real HTTP server, real parts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.driver.tuning import Bounds
from actors.embedder import embedder as module
from actors.embedder.gauges import open_gauge
from actors.embedder.gauges.reading import watch
from actors.messages import Claim, GpuSample, QueueSample
from actors.output.folder import REJECTS_PROPERTY
from actors.output.parts import PLAN_PROPERTY
from tests.actors.embedder.job import A_LONG_TIME_S, DIM, Driver, Job, NoDriver, ends, job_of, reject_rows, until
from tests.actors.embedder.metric_pages import serve_pages
from tests.jobs.corpora import assert_right, matrix, read_out, texts, write_jsonl, write_parquet
from tests.servers.fixture import EmbeddingServer
from tests.servers.vectors import vectors_of

pytestmark = pytest.mark.usefixtures("quick")


async def test_every_row_of_parquet_and_jsonl_has_its_own_vector(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = texts(3000)
    first, second = tmp_path / "a.parquet", tmp_path / "b.jsonl"
    write_parquet(first, list(rows[:1700]))
    write_jsonl(second, rows[1700:])
    job = job_of([first, second], tmp_path / "out", [server])
    before = asyncio.all_tasks()
    await job.run()
    job.assert_whole()
    assert_right(job.out, rows)
    assert server.stats()["max_times_seen"] == 1
    assert server.stats()["max_inflight"] <= 4
    assert asyncio.all_tasks() == before


async def test_ids_kept_columns_and_float16(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = texts(300)
    ids = [f"doc {i}" for i in range(300)]
    path = write_parquet(tmp_path / "c.parquet", list(rows), ids, year=list(range(300)))
    job = job_of([path], tmp_path / "out", [server], id_column="doc", keep=["year"], dtype="float16")
    await job.run()
    table = read_out(job.out).sort_by("year")
    assert table.column("id").to_pylist() == ids
    assert table.column("year").to_pylist() == list(range(300))
    assert table.schema.field("embedding").type == pa.list_(pa.float16(), DIM)
    np.testing.assert_array_equal(matrix(table), vectors_of(rows, DIM).astype(np.float16))


async def test_several_leases_are_open_at_once(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=32)
    server.behave(delay_ms=20)
    await job.run()
    assert_right(job.out, rows)
    lease_of = {part.index: number for number, lease in enumerate(job.queue.leases) for part in lease.parts}
    assert max(len({lease_of[index] for index in claim.held}) for claim in job.queue.claims) > 1
    # nothing lent was read or sent a second time
    assert sum(len(lease.parts) for lease in job.queue.leases) == job.plan.parts
    assert server.stats()["max_times_seen"] == 1


async def test_all_endpoints_work(server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]) -> None:
    with EmbeddingServer() as other:
        rows, path = corpus
        for each in (server, other):
            each.behave(delay_ms=5)
        job = job_of([path], tmp_path / "out", [server, other])
        await job.run()
        job.assert_whole()
        assert_right(job.out, rows)
        delivered = {each.endpoint: each.rows for each in job.driver.reports[-1].endpoints}
        assert delivered == {each.url: each.stats()["texts"] for each in (server, other)}
        assert sum(delivered.values()) == len(rows)
        assert min(delivered.values()) > 0


async def test_rows_that_cannot_be_embedded_become_rejects(server: EmbeddingServer, tmp_path: Path) -> None:
    lines = [json.dumps({"n": i, "text": f"text {i}"}) for i in range(400)]
    lines[3] = json.dumps({"n": 3, "text": None})
    lines[7] = json.dumps({"n": 7, "text": ""})
    lines[130] = json.dumps({"n": 130, "text": "POISON"})
    lines[131] = json.dumps({"text": "a row without an id"})
    lines[132] = "no JSON"
    lines[399] = json.dumps({"n": 399})
    lines[200:232] = [json.dumps({"n": i, "text": ""}) for i in range(200, 232)]  # a whole part
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join(lines))
    server.behave(poison="POISON")
    job = job_of([path], tmp_path / "out", [server], rows_per_part=8, id_column="n")
    await job.run()
    job.assert_whole()

    empty = [(i, "empty_text", None) for i in range(200, 232)]
    assert reject_rows(job.out) == [
        (3, "null_text", None),
        (7, "empty_text", None),
        (130, "bad_request", 400),
        (None, "bad_row", None),
        (None, "bad_row", None),
        *empty,
        (399, "null_text", None),
    ]
    table = read_out(job.out)
    good = sorted(set(range(400)) - {131, 132} - {i for i, _, _ in reject_rows(job.out)})
    assert table.column("id").to_pylist() == good
    np.testing.assert_array_equal(matrix(table), vectors_of([f"text {i}" for i in good], DIM))
    assert job.queue.ledger.status().rejects_done == 38
    for name in job.parts:
        footer = pq.read_metadata(job.out / name)
        assert footer.metadata[PLAN_PROPERTY.encode()] == b"plan"
        assert footer.num_rows + int(footer.metadata[REJECTS_PROPERTY.encode()]) == 8


async def test_two_embedders_share_the_work(
    server: EmbeddingServer,
    tmp_path: Path,
    corpus: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WINDOW_ROWS", 100)
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=32)
    server.behave(texts_per_s=4000)
    await ends(*(job.embedder(name).run() for name in "ab"))
    job.assert_whole()
    assert_right(job.out, rows)
    assert {report.embedder for report in job.driver.reports if report.endpoints[0].rows} == {"a", "b"}
    assert server.stats()["max_times_seen"] == 1


async def test_a_part_lent_twice_is_written_twice_and_right(
    server: EmbeddingServer,
    tmp_path: Path,
    corpus: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.queue.ledger.SECOND_LEASE_AFTER_S", 0.0)
    monkeypatch.setattr("actors.queue.ledger.SECOND_LEASE_AGE", 0.0)
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=500)
    server.behave(texts_per_s=3000)
    await ends(*(job.embedder(name).run() for name in "abc"))
    assert sum(len(lease.parts) for lease in job.queue.leases) > job.plan.parts
    job.assert_whole()
    assert_right(job.out, rows)


async def test_a_restarted_embedder_takes_up_what_was_left(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=32)
    server.behave(delay_ms=30)
    first = asyncio.create_task(job.embedder().run())
    await until(lambda: len(job.parts) > 5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends(first)
    server.behave(delay_ms=0)
    await job.run()
    job.assert_whole()
    assert_right(job.out, rows)


async def test_a_queue_that_forgets_everything_learns_it_again(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=32)
    server.behave(delay_ms=10)
    running = asyncio.create_task(job.run())
    for parts in (3, 10, 25):
        await until(lambda parts=parts: len(job.parts) >= parts)  # type: ignore[misc]
        job.queue.restart()
    await ends(running)
    job.assert_whole()
    assert_right(job.out, rows)


async def test_an_endpoint_that_restarts_costs_nothing(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server])
    server.behave(delay_ms=20)
    running = asyncio.create_task(job.run())
    await until(lambda: len(job.parts) > 2)
    server.kill()
    await asyncio.sleep(0.1)
    server.restart()
    await ends(running)
    job.assert_whole()
    assert_right(job.out, rows)
    assert reject_rows(job.out) == []


async def test_without_a_driver_the_first_orders_hold(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], limit=3, batch=17)
    job.driver = NoDriver()
    server.behave(delay_ms=5)
    await job.run()
    job.assert_whole()
    assert_right(job.out, rows)
    assert server.stats()["max_inflight"] <= 3
    assert server.stats()["biggest_request"] == 17


async def test_the_drivers_orders_are_obeyed(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_S", 0.01)
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], limit=1, batch=8)
    job.driver = Driver([server.url], Bounds(limit=6, batch_rows=40))
    server.behave(delay_ms=20)
    await job.run()
    assert_right(job.out, rows)
    assert 1 < server.stats()["max_inflight"] <= 6
    assert server.stats()["biggest_request"] == 40


async def test_the_last_report_counts_every_row(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server])
    await job.run()
    last = job.driver.reports[-1]
    assert (last.embedder, last.node, last.window_rows) == ("e", "node", 0)
    assert len({report.incarnation for report in job.driver.reports}) == 1
    assert (last.endpoints[0].rows, last.endpoints[0].inflight) == (len(rows), 0)
    assert last.endpoints[0].requests == server.stats()["requests"]
    assert last.cpu_s > 0


class Told:
    """A gauge that says the same all the time."""

    def __init__(self) -> None:
        self.closed = False

    def gpu(self, url: str) -> GpuSample | None:
        return GpuSample(0.5, url, 0.1)

    def queue(self, url: str) -> QueueSample | None:
        return QueueSample(7, None, url, 0.1)

    def close(self) -> None:
        self.closed = True


async def test_each_report_says_what_the_gauges_say_of_each_endpoint(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, (_, path) = Told(), corpus
    monkeypatch.setattr(module, "open_gauge", lambda endpoints: told)
    job = job_of([path], tmp_path / "out", [server])
    await job.run()
    for report in job.driver.reports:
        (endpoint,) = report.endpoints
        assert (endpoint.gpu, endpoint.queue) == (told.gpu(server.url), told.queue(server.url))
    assert told.closed


async def test_gauges_that_cannot_be_read_hold_up_nothing(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their page never comes, and is waited for until long after the job."""
    rows, path = corpus
    monkeypatch.setattr(watch, "_TIMEOUT_S", 10 * A_LONG_TIME_S)
    monkeypatch.setattr(module, "open_gauge", open_gauge)
    with serve_pages() as pages:
        pages.silent |= {"/gpu"}
        job = job_of([path], tmp_path / "out", [server])
        endpoints = tuple(replace(each, metrics_url=f"{pages.url}/gpu") for each in job.spec.endpoints)
        job.spec = replace(job.spec, endpoints=endpoints)
        await job.run()
        assert_right(job.out, rows)
    assert {each.gpu for report in job.driver.reports for each in report.endpoints} == {None}


@pytest.mark.parametrize("most_bytes", [1, 100 * DIM * 4])
async def test_a_small_bound_on_memory_slows_but_does_not_stop(
    server: EmbeddingServer,
    tmp_path: Path,
    corpus: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    most_bytes: int,
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_BYTES", most_bytes)
    monkeypatch.setattr("actors.queue.ledger.SOON_S", 0.001)
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=64)
    running = asyncio.create_task(job.run())
    embedder_rows = []
    while not running.done():
        embedder_rows.append(sum(claim_rows(job, claim) for claim in job.queue.claims[-1:]))
        await asyncio.sleep(0.002)
    await ends(running)
    job.assert_whole()
    assert_right(job.out, rows)
    assert max(embedder_rows) <= 4 * 64


def claim_rows(job: Job, claim: Claim) -> int:
    return sum(job.plan.part(index).rows for index in claim.held)
