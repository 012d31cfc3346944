"""How an embedder ends: told to stop, refused, left alone. It never hangs and leaves nothing half-written."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.embedder import embedder as module
from actors.embedder.open_part import OpenPart
from actors.errors import UserError
from actors.messages import Claim, Grant, Order, Orders, PartDone, Report
from actors.output.done import sweep
from actors.output.parts import Reject, write_rejects
from actors.output.store import store_of
from actors.queue.ledger import SOON_S
from tests.actors.embedder.job import NoDriver, Queue, ends, job_of, reject_rows, until
from tests.jobs.corpora import assert_right, read_out, texts, write_jsonl, write_parquet
from tests.servers.fixture import EmbeddingServer

pytestmark = pytest.mark.usefixtures("quick")


async def test_stop_writes_what_is_complete_and_a_second_run_does_the_rest(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    rows, path = corpus
    job = job_of([path], tmp_path / "out", [server], rows_per_part=32)
    server.behave(hold_after=1000)
    embedder = job.embedder()
    running = asyncio.create_task(embedder.run())
    await until(lambda: len(job.parts) > 5)
    await embedder.stop()
    server.behave(hold_after=0)
    await ends(running)
    assert 5 < len(job.parts) < job.plan.parts
    assert not list(job.out.rglob(".*"))
    assert all(pq.read_metadata(job.out / name).num_rows > 0 for name in job.parts)

    again = job_of([path], job.out, [server], rows_per_part=32)
    assert again.queue.ledger.status().rows_resumed == read_out(job.out).num_rows
    await again.run()
    again.assert_whole()
    assert_right(job.out, rows)


async def test_stop_does_not_wait_for_a_server_that_does_not_answer(
    server: EmbeddingServer,
    tmp_path: Path,
    corpus: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.2)
    job = job_of([corpus[1]], tmp_path / "out", [server])
    server.behave(delay_ms=1000)
    embedder = job.embedder()
    running = asyncio.create_task(embedder.run())
    await until(lambda: server.stats()["max_inflight"] == 4)
    server.kill()  # from here on requests are retried until the patience ends
    await embedder.stop()
    await ends(running)
    assert job.parts == set()
    assert not list(job.out.rglob(".*"))
    assert not job.queue.ledger.finished


async def test_an_output_folder_that_cannot_be_written_is_named(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    job = job_of([corpus[1]], tmp_path / "out", [server])
    shutil.rmtree(job.out)
    job.out.write_text("a file, not a folder")
    with pytest.raises(UserError) as raised:
        await job.run()
    assert str(job.out) in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.exit_code == 1


async def test_a_key_refused_in_mid_run_ends_it(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    job = job_of([corpus[1]], tmp_path / "out", [server], rows_per_part=32)
    server.behave(hold_after=1000)
    running = asyncio.create_task(job.run())
    await until(lambda: len(job.parts) > 5)
    before = asyncio.all_tasks()
    server.behave(api_key="changed", hold_after=0)
    with pytest.raises(UserError, match="refused a request without a key") as raised:
        await ends(running)
    assert raised.value.exit_code == 1
    assert asyncio.all_tasks() <= before - {running}
    assert not list(job.out.rglob(".*"))
    assert reject_rows(job.out) == []


async def test_input_that_went_away_is_named(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    job = job_of([corpus[1]], tmp_path / "out", [server])
    corpus[1].unlink()
    with pytest.raises(UserError, match=r"corpus\.parquet"):
        await job.run()


async def test_jsonl_that_became_shorter_is_named(server: EmbeddingServer, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", texts(500))
    job = job_of([path], tmp_path / "out", [server])
    write_jsonl(path, texts(300))
    with pytest.raises(UserError, match=r"c\.jsonl"):
        await job.run()


@pytest.mark.parametrize("now", ["shorter", "garbage"])
async def test_parquet_that_changed_is_named(server: EmbeddingServer, tmp_path: Path, now: str) -> None:
    path = write_parquet(tmp_path / "c.parquet", list(texts(500)))
    job = job_of([path], tmp_path / "out", [server])
    if now == "shorter":
        write_parquet(path, list(texts(300)))
    else:
        path.write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match=r"c\.parquet"):
        await job.run()


async def test_a_queue_that_is_given_up_ends_the_run(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    class Away(Queue):
        async def claim(self, claim: Claim) -> Grant:
            if len(self.claims) > 2:
                raise UserError("the queue is away", 1)
            return await super().claim(claim)

    job = job_of([corpus[1]], tmp_path / "out", [server], rows_per_part=32)
    job.queue = Away(job.plan, job.out)
    server.behave(delay_ms=20)
    with pytest.raises(UserError, match="the queue is away"):
        await job.run()


async def test_a_key_that_is_not_set_ends_the_run_before_it_begins(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    job = job_of([corpus[1]], tmp_path / "out", [server])
    job.spec = replace(
        job.spec, endpoints=(replace(job.spec.endpoints[0], api_key_env="TEST_KEY_THAT_NOBODY_SETS"),)
    )
    with pytest.raises(UserError, match="TEST_KEY_THAT_NOBODY_SETS is not set"):
        await job.run()
    assert job.queue.claims == []


@pytest.mark.parametrize("turns", range(4))
async def test_a_failure_ends_the_run_also_while_the_beat_is_being_woken(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], turns: int
) -> None:
    """asyncio.wait_for on Python 3.11 loses a cancellation that comes with the result: a hang for ever."""

    class Fails(NoDriver):
        async def report(self, report: Report) -> Orders | None:
            await until(lambda: server.stats()["max_inflight"] > 0)
            await asyncio.sleep(2 * SOON_S)  # the beat now waits for its wake
            embedder._wake.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            raise UserError("stop here", 1)

    job = job_of([corpus[1]], tmp_path / "out", [server])
    job.driver = Fails()
    server.behave(delay_ms=300)
    embedder = job.embedder()
    with pytest.raises(UserError, match="stop here"):
        await ends(embedder.run())


async def test_stop_waits_for_the_part_that_the_last_answers_complete(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "c.parquet", list(texts(30)))
    job = job_of([path], tmp_path / "out", [server])
    server.behave(delay_ms=300)
    embedder = job.embedder()
    running = asyncio.create_task(embedder.run())
    await until(lambda: server.stats()["max_inflight"] == 1)
    await embedder.stop()
    await ends(running)
    job.assert_whole()
    assert_right(job.out, texts(30))


async def test_stop_before_the_run_begins(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path]
) -> None:
    job = job_of([corpus[1]], tmp_path / "out", [server])
    embedder = job.embedder()
    await embedder.stop()
    await ends(embedder.run())
    assert job.parts == set()
    assert server.stats()["requests"] == 0


async def test_rejects_of_an_attempt_that_was_killed_do_not_stay(server: EmbeddingServer, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "c.parquet", list(texts(30)))
    job = job_of([path], tmp_path / "out", [server])
    rejects = [Reject(5, "backend", 500, "it was ill that day")]
    write_rejects(
        store_of(job.out), job.plan.part(0).name, job.spec.columns, pa.array(range(30)), rejects, "killed"
    )
    await job.run()
    assert_right(job.out, texts(30))
    sweep(job.out, everything=True)  # as the job does when all is there
    assert reject_rows(job.out) == []


async def test_an_embedder_that_may_not_send_asks_for_nothing(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    job = job_of([corpus[1]], tmp_path / "out", [server], limit=0)
    job.driver = NoDriver()
    embedder = job.embedder()
    running = asyncio.create_task(embedder.run())
    await until(lambda: len(job.queue.claims) > 1)
    await embedder.stop()
    await ends(running)
    assert {claim.wanted_rows for claim in job.queue.claims} == {0}


async def test_an_order_that_comes_while_there_is_nothing_to_send_is_kept(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_S", 0.01)
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    told: list[int] = []

    class Falls(NoDriver):
        async def report(self, report: Report) -> Orders | None:
            told.append(int(len(told) < 3))
            return Orders({server.url: Order(told[-1], 8, 1 << 17)})

    class Late(Queue):
        async def claim(self, claim: Claim) -> Grant:
            if not self.claims:
                await until(lambda: told[-1:] == [0])
            return await super().claim(claim)

    job = job_of([corpus[1]], tmp_path / "out", [server], limit=1)
    job.driver, job.queue = Falls(), Late(job.plan, job.out)
    embedder = job.embedder()
    running = asyncio.create_task(embedder.run())
    await until(lambda: len(job.queue.claims) > 2)
    await embedder.stop()
    await ends(running)
    assert server.stats()["requests"] == 0


async def test_a_broken_page_in_the_input_is_named(server: EmbeddingServer, tmp_path: Path) -> None:
    """Footer and both ends are as planned, so only reading the page finds it."""
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": texts(20_000)}), path, compression="none", use_dictionary=False)
    job = job_of([path], tmp_path / "out", [server], rows_per_part=4096)
    data = bytearray(path.read_bytes())
    data[100_000:100_200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"c\.parquet"):
        await ends(job.embedder().run())


async def test_parts_being_written_at_the_stop_are_written_although_a_request_hangs(
    server: EmbeddingServer, tmp_path: Path, corpus: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.5)
    write = OpenPart.write

    def slow(part: OpenPart, *args: Any) -> PartDone:
        time.sleep(0.3)
        return write(part, *args)

    monkeypatch.setattr(OpenPart, "write", slow)
    job = job_of([corpus[1]], tmp_path / "out", [server], rows_per_part=32, limit=8)
    embedder = job.embedder()
    running = asyncio.create_task(embedder.run())
    await until(lambda: embedder._writing >= 4)
    server.behave(delay_ms=5000)
    await embedder.stop()
    complete = embedder._writing + len(job.parts)
    await ends(running)
    assert len(job.parts) >= complete
