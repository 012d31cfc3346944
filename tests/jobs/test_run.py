"""Whole runs through the real command line, on a real Ray, against a real HTTP server."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.embedder.embedder import WINDOW_PARTS
from tests.conftest import eventually
from tests.jobs.corpora import assert_right, matrix, read_out, texts, write_jsonl, write_parquet
from tests.servers.vectors import vectors_of

PROBES = 7  # texts of our own that a run embeds before it starts
SMALL = ("--concurrency", 4, "--batch-size", 64)  # so that parts are there long before the end of a small corpus


def _parts(out: Path) -> dict[str, Path]:
    return {path.name: path for path in out.glob("part-*.parquet")}


def _most_sent(server, rows):
    """How often the row that was embedded most often was."""
    seen = server.seen()
    return max(seen[row] for row in rows)


def _is(actor: str, process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and actor in "".join(process.cmdline())
    except psutil.Error:
        return False


def test_every_row_once_with_its_own_vector(rayembed, server, tmp_path):
    rows = texts(6000)
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_parquet(folder / "a.parquet", rows[:3500])
    write_jsonl(folder / "b.jsonl", rows[3500:])
    run = rayembed("run", folder, "-o", "out", "--endpoint", server.url, "--actors", 2, "--json")
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    summary = run.summary()
    assert summary == json.loads((tmp_path / "out/_summary.json").read_text())
    assert summary["complete"]
    assert (summary["rows_total"], summary["rows_embedded"], summary["rows_rejected"]) == (6000, 6000, 0)
    assert summary["dim"] == 32
    assert summary["gpu_util_mean"] is None
    assert _most_sent(server, rows) == 1
    assert not list((tmp_path / "out").glob(".*"))


def test_ids_kept_columns_and_float16(rayembed, server, tmp_path):
    rows = texts(1500)
    ids = [f"doc-{i:05d}" for i in range(len(rows))]
    corpus = write_parquet(tmp_path / "c.parquet", rows, ids, year=list(range(len(rows))), title=rows)
    run = rayembed(
        *("run", corpus, "-o", "out", "--endpoint", f"{server.url}/v1", "--id-column", "doc"),
        *("--keep", "year", "--keep", "title", "--dtype", "float16"),
    )
    assert run.wait() == 0, run.err
    table = read_out(tmp_path / "out")
    assert table.schema.field("embedding").type.list_size == 32
    assert table.schema.field("embedding").type.value_type == pa.float16()
    assert table.column_names == ["id", "embedding", "year", "title"]
    assert table.column("id").to_pylist() == ids
    assert table.column("year").to_pylist() == list(range(len(rows)))
    np.testing.assert_array_equal(matrix(table), vectors_of(rows, 32).astype(np.float16))


@pytest.mark.parametrize("behaviour", [{"ignore_base64": True}, {"shuffle": True}])
def test_vectors_as_floats_or_in_another_order(rayembed, server, tmp_path, behaviour):
    server.behave(**behaviour)
    rows = texts(1200)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url)
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)


def test_rows_that_cannot_be_embedded_are_rejects_and_the_others_are_not_lost(rayembed, server, tmp_path):
    server.behave(poison="POISON")
    rows: list[str | None] = list(texts(2000))
    rows[3], rows[700], rows[1999] = None, "", "this is POISON"
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json")
    assert run.wait() == 3, run.err
    assert run.summary()["complete"]
    assert run.summary()["rows_rejected"] == 3
    rejects = pa.concat_tables(pq.read_table(path) for path in (tmp_path / "out/_rejects").iterdir()).sort_by("id")
    assert rejects.column_names == ["id", "reason", "status", "detail"]
    assert rejects.column("id").to_pylist() == [3, 700, 1999]
    assert rejects.column("reason").to_pylist() == ["null_text", "empty_text", "bad_request"]
    assert rejects.column("status").to_pylist() == [None, None, 400]
    good = [i for i in range(2000) if i not in (3, 700, 1999)]
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == good
    np.testing.assert_array_equal(matrix(table), vectors_of([rows[i] or "" for i in good], 32))
    again = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json")
    assert again.wait() == 3
    assert again.summary()["rows_resumed"] == len(good)


def test_killed_half_way_the_same_command_does_only_what_is_missing(rayembed, server, tmp_path):
    rows = texts(20_000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    server.behave(texts_per_s=5000, hold_after=14_000)
    first = rayembed(
        *("run", corpus, "-o", "out", "--endpoint", server.url, "--concurrency", 4, "--batch-size", 64),
        own_ray=True,
    )
    eventually(lambda: len(_parts(tmp_path / "out")) >= 10)
    workers = psutil.Process(first.pid).children(recursive=True)
    first.send(signal.SIGKILL)
    first.wait()
    eventually(
        lambda: not any(_is("EmbedderActor", worker) for worker in workers)
    )  # they outlive the job by a second or two
    there = _parts(tmp_path / "out")
    before = {name: path.stat().st_mtime_ns for name, path in there.items()}
    durable = sum(pq.read_metadata(path).num_rows for path in there.values())
    answered = sum(server.seen().values())
    assert durable < len(rows)

    server.behave(texts_per_s=0, hold_after=0)
    second = rayembed(
        "run", corpus, "-o", "out", "--endpoint", server.url, "--batch-size", 200, "--json", own_ray=True
    )
    assert second.wait() == 0, second.err
    assert_right(tmp_path / "out", rows)
    assert second.summary()["rows_resumed"] == durable
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
    # sent twice is what the server had answered, or had in hand, when its part was not yet durable: a few parts
    twice = sum(server.seen().values()) - len(rows)
    assert answered - durable <= twice <= answered - durable + 4 * 64 + PROBES  # those of the second run
    # a generation of the window at most, and the part that its last lease brought too many: by length, so that
    # several parts are half done at a time
    part_rows = max(pq.read_metadata(path).num_rows for path in there.values())
    assert answered - durable <= (WINDOW_PARTS + 1) * part_rows + 4 * 64
    assert _most_sent(server, rows) <= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_the_output_still_reads(rayembed, server, tmp_path, number):
    rows = texts(20_000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    server.behave(texts_per_s=4000, hold_after=14_000)
    command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--json", *SMALL)
    first = rayembed(*command)
    eventually(lambda: len(_parts(tmp_path / "out")) >= 5)
    first.send(number)
    assert first.wait() == 130, first.err
    assert "again" in first.err
    assert not first.summary()["complete"]
    assert read_out(tmp_path / "out").num_rows == first.summary()["rows_embedded"] > 0
    server.behave(texts_per_s=0, hold_after=0)
    second = rayembed(*command)
    assert second.wait() == 0, second.err
    assert_right(tmp_path / "out", rows)


def test_sigterm_before_the_first_row_is_an_interrupt_too(rayembed, server, tmp_path):
    corpus = write_parquet(tmp_path / "c.parquet", texts(100))
    command = ("run", corpus, "-o", "out", "--endpoint", server.url)
    server.behave(hold_after=1)
    probing = rayembed(*command)
    eventually(lambda: server.stats()["requests"] == 2)  # the second of the probe waits
    probing.send(signal.SIGTERM)
    assert probing.wait() == 130, probing.err
    server.behave(hold_after=0)
    starting = rayembed(*command, own_ray=True)
    eventually(lambda: any(_is("gcs_server", each) for each in psutil.Process(starting.pid).children()))
    starting.send(signal.SIGTERM)
    assert starting.wait() == 130, starting.err
    assert "run the same command again" in probing.err
    assert "run the same command again" in starting.err


@pytest.mark.parametrize("actor", ["EmbedderActor", "QueueActor", "DriverActor"])
def test_an_actor_may_be_killed(rayembed, server, tmp_path, actor):
    rows = texts(20_000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    server.behave(texts_per_s=8000, hold_after=15_000)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--actors", 2, "--json", *SMALL)
    eventually(lambda: len(_parts(tmp_path / "out")) >= 3)
    victim = next(each for each in psutil.Process().children(recursive=True) if _is(actor, each))
    victim.kill()
    server.behave(hold_after=0)
    assert run.wait() == 0, run.err
    assert run.summary()["complete"]
    assert_right(tmp_path / "out", rows)


def test_data_batches_one_by_one_give_what_all_at_once_gives(rayembed, server, tmp_path):
    rows = texts(2500)
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_parquet(folder / "a.parquet", rows[:1300])
    write_parquet(folder / "b.parquet", rows[1300:])
    config = tmp_path / "c.yaml"
    config.write_text(f"endpoints: [{server.url}]\ninput: {{rows_per_batch: 1000}}\n")
    whole = rayembed("run", folder, "-o", "whole", "--config", config)
    assert whole.wait() == 0, whole.err
    for batch, complete in ((2, False), (1, False), (3, True)):
        run = rayembed("run", folder, "-o", "single", "--config", config, "--batch", batch, "--json")
        assert run.wait() == 0, run.err
        assert run.summary()["complete"] is complete
    summary = run.summary()
    assert (summary["rows_total"], summary["rows_embedded"], summary["rows_resumed"]) == (2500, 500, 2000)
    assert_right(tmp_path / "single", rows)
    whole_parts, single_parts = _parts(tmp_path / "whole"), _parts(tmp_path / "single")
    assert whole_parts.keys() == single_parts.keys()
    assert all(pq.read_table(whole_parts[name]).equals(pq.read_table(single_parts[name])) for name in whole_parts)


def test_sync_sends_one_request_of_fifty_at_a_time(rayembed, server, tmp_path):
    rows = texts(600)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--sync")
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    assert server.stats()["max_inflight"] == 1
    assert server.stats()["biggest_request"] == 50


def test_concurrency_is_the_whole_pool_s(rayembed, server, tmp_path):
    server.behave(delay_ms=10)
    rows = texts(3000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    run = rayembed(
        *("run", corpus, "-o", "out", "--endpoint", server.url, "--actors", 2),
        *("--concurrency", 5, "--batch-size", 16),
    )
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    assert server.stats()["max_inflight"] <= 5
    assert server.stats()["biggest_request"] == 16


def test_two_endpoints_share_the_work(rayembed, server, tmp_path):
    from tests.servers.fixture import EmbeddingServer

    rows = texts(4000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    with EmbeddingServer(texts_per_s=1500) as slow:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--endpoint", slow.url, "--json")
        assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    by_url = {endpoint["url"]: endpoint for endpoint in run.summary()["endpoints"]}
    assert by_url[server.url]["rows"] + by_url[slow.url]["rows"] == 4000
    assert 0 < by_url[slow.url]["share"] < by_url[server.url]["share"]


def test_limit(rayembed, server, tmp_path):
    rows = texts(3000)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--limit", 700)
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows[:700])


def test_the_server_dies_and_comes_back(rayembed, server, tmp_path):
    rows = texts(10_000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    server.behave(texts_per_s=4000, hold_after=7000)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json", *SMALL)
    eventually(lambda: len(_parts(tmp_path / "out")) >= 3)
    eventually(lambda: server.stats()["held"])  # else it may die between two requests, which nobody would notice
    server.kill()
    # one that is back before its client looks is sent the same requests once more, and nobody counts an error
    eventually(lambda: any('"transport"' in each.read_text() for each in tmp_path.glob("out/_telemetry/*")))
    server.restart()
    server.behave(hold_after=0)
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    assert run.summary()["errors"].get("transport", 0) > 0


def test_a_server_that_stays_away_ends_the_job_and_the_same_command_goes_on(rayembed, server, tmp_path):
    rows = texts(10_000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    config = tmp_path / "c.yaml"
    config.write_text("patience_s: 2\n")
    server.behave(texts_per_s=4000, hold_after=7000)
    command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--config", config, *SMALL)
    run = rayembed(*command)
    eventually(lambda: len(_parts(tmp_path / "out")) >= 3)
    server.kill()
    assert run.wait() == 1
    assert server.url in run.err
    assert "Traceback" not in run.err
    server.restart()
    server.behave(hold_after=0)
    assert rayembed(*command).wait() == 0
    assert_right(tmp_path / "out", rows)


def test_dry_run_writes_nothing_and_sends_a_probe(rayembed, server, tmp_path):
    corpus = write_parquet(tmp_path / "c.parquet", texts(1000))
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--dry-run", "--json", own_ray=True)
    assert run.wait() == 0, run.err
    assert run.summary()["rows"] == 1000
    assert server.stats()["requests"] == 2  # what one answer says of the dimension is not believed
    assert not (tmp_path / "out").exists()
