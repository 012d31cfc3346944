"""A whole embedder on a corpus most of whose texts repeat: each is sent once, each row has its vector."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from actors.embedder import embedder as module
from tests.actors.embedder.job import ends, job_of, reject_rows, until
from tests.jobs.corpora import assert_right, matrix, read_out, texts, write_parquet
from tests.servers.fixture import EmbeddingServer
from tests.servers.vectors import vectors_of

DIM = 32
pytestmark = pytest.mark.usefixtures("quick")


def repeating(count: int, different: int) -> list[str]:
    """Each text at least once, in an order in which repeats are near and far."""
    chosen = np.random.default_rng(3).permutation(np.arange(count) % different)
    distinct = texts(different)
    return [distinct[i] for i in chosen]


async def test_each_text_is_sent_once(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = repeating(3000, 900)
    job = job_of([write_parquet(tmp_path / "c.parquet", list(rows))], tmp_path / "out", [server])
    await job.run()
    job.assert_whole()
    assert_right(job.out, rows)
    assert (server.stats()["texts"], server.stats()["max_times_seen"]) == (900, 1)
    [last] = job.driver.reports[-1].endpoints
    assert (last.rows, last.unique_texts) == (3000, 900)


@pytest.mark.parametrize("kept", [1 << 20, 0])
async def test_what_repeated_is_kept_when_its_parts_are_closed(
    server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Ten parts of 40 texts, in each of them the same two thrice; few are open at a time."""
    monkeypatch.setattr(module, "KEPT_BYTES", kept)
    monkeypatch.setattr(module, "MAX_OPEN_BYTES", 1)
    monkeypatch.setattr("actors.queue.ledger.SOON_S", 0.001)
    rows = [f"often {i % 2}" if i % 40 < 6 else f"text {i}" for i in range(400)]
    job = job_of([write_parquet(tmp_path / "c.parquet", list(rows))], tmp_path / "out", [server], rows_per_part=40)
    await job.run()
    job.assert_whole()
    assert_right(job.out, rows)
    assert (server.stats()["max_times_seen"] > 1) == (not kept)


async def test_a_restarted_embedder_takes_up_what_was_left(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = repeating(3000, 1400)
    job = job_of([write_parquet(tmp_path / "c.parquet", list(rows))], tmp_path / "out", [server], rows_per_part=32)
    server.behave(delay_ms=20)
    first = asyncio.create_task(job.embedder().run())
    await until(lambda: len(job.parts) > 5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends(first)
    server.behave(delay_ms=0)
    await job.run()
    job.assert_whole()
    assert_right(job.out, rows)


async def test_two_endpoints_one_of_which_goes_away(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = repeating(4000, 2500)
    with EmbeddingServer() as other:
        for each in (server, other):
            each.behave(delay_ms=10)
        path = write_parquet(tmp_path / "c.parquet", list(rows))
        job = job_of([path], tmp_path / "out", [server, other])
        running = asyncio.create_task(job.run())
        await until(lambda: len(job.parts) > 1)
        other.kill()
        await ends(running)
        job.assert_whole()
        assert_right(job.out, rows)
        assert sum(each.rows for each in job.driver.reports[-1].endpoints) == len(rows)
        assert sum(each.unique_texts for each in job.driver.reports[-1].endpoints) == 2500


async def test_every_row_of_a_refused_text_is_a_reject(server: EmbeddingServer, tmp_path: Path) -> None:
    rows = repeating(1000, 300)
    bad = rows[17]
    server.behave(poison=bad)
    job = job_of([write_parquet(tmp_path / "c.parquet", list(rows))], tmp_path / "out", [server])
    await job.run()
    job.assert_whole()
    assert reject_rows(job.out) == [(i, "bad_request", 400) for i, row in enumerate(rows) if row == bad]
    good = [row for row in rows if row != bad]
    np.testing.assert_array_equal(matrix(read_out(job.out)), vectors_of(good, DIM))
