"""Whole runs whose output is in an object store, over a real S3 protocol."""

from __future__ import annotations

import io
import json
import signal

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tests.conftest import eventually
from tests.jobs.corpora import matrix, texts, write_parquet
from tests.servers.s3 import BUCKET, S3
from tests.servers.vectors import vectors_of

POISONED = (3, 15_000)


def table_of(s3: S3, url: str) -> pa.Table:
    """All parts, as pyarrow sees them."""
    return ds.dataset(url, format="parquet").to_table().sort_by("id")


def actors_of(pid: int) -> list[psutil.Process]:
    return [
        each for each in psutil.Process(pid).children(recursive=True) if "EmbedderActor" in "".join(each.cmdline())
    ]


def test_killed_half_way_and_again(rayembed, server, s3: S3, tmp_path):
    rows = texts(20_000)
    for row in POISONED:
        rows[row] = f"POISON {row}"
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    url = f"s3://{BUCKET}/killed/out"
    command = ("run", corpus, "-o", url, "--endpoint", server.url, "--batch-size", 64, "--json")
    server.behave(poison="POISON", texts_per_s=5000, hold_after=14_000)
    first = rayembed(*command, "--concurrency", 4, own_ray=True, **s3.environment)

    def parts() -> dict[str, str]:
        return {name: etag for name, etag in s3.listed("killed/out/").items() if name.startswith("part-")}

    eventually(lambda: len(parts()) >= 10, timeout=200)
    workers = actors_of(first.pid)
    first.send(signal.SIGKILL)
    first.wait()
    psutil.wait_procs(workers, timeout=20)
    before = parts()
    partial = table_of(s3, url)
    np.testing.assert_array_equal(matrix(partial), vectors_of([rows[i] for i in partial["id"].to_pylist()], 32))

    server.behave(poison="POISON", texts_per_s=0, hold_after=0)
    second = rayembed(*command, own_ray=True, **s3.environment)
    assert second.wait() == 3, second.err
    good = [i for i in range(len(rows)) if i not in POISONED]
    table = table_of(s3, url)
    assert table["id"].to_pylist() == good
    np.testing.assert_array_equal(matrix(table), vectors_of([rows[i] for i in good], 32))
    summary = second.summary()
    assert summary["rows_resumed"] == partial.num_rows
    assert before.items() <= parts().items(), "what was there stays as it is"
    there = s3.listed("killed/out/")
    assert json.loads(s3.get("killed/out/_summary.json")) == summary
    assert b"<svg" in s3.get("killed/out/report.html")
    lines = [
        json.loads(line)
        for name in there
        if "_telemetry" in name
        for line in s3.get(f"killed/out/{name}").splitlines()
    ]
    assert lines[-1]["endpoint"] == server.url
    rejects = [
        pq.read_table(io.BytesIO(s3.get(f"killed/out/{name}")))
        for name in there
        if name.startswith("_rejects/part-")
    ]
    assert sorted(pa.concat_tables(rejects)["id"].to_pylist()) == list(POISONED)
    options = {
        "aws_endpoint_url": s3.environment["AWS_ENDPOINT_URL"],
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    read = pl.scan_parquet(f"{url}/part-*.parquet", storage_options=options | s3.keys).select("id").collect()
    assert read["id"].sort().to_list() == good

    verified = rayembed("verify", url, **s3.environment)
    assert verified.wait() == 0, verified.out
    assert "19,998 rows embedded and 2 rejected" in verified.out
    other = rayembed(*command, "--dtype", "float16", own_ray=True, **s3.environment)
    assert other.wait() == 2
    assert f"{url} holds another run (dtype: float32 there, float16 now)" in other.err
    nowhere = rayembed(*command, "-o", "s3://no-such-bucket/out", own_ray=True, **s3.environment)
    assert nowhere.wait() == 1
    assert "cannot write to s3://no-such-bucket/out: there is no such bucket; create it first" in nowhere.err


def test_vectors_of_an_earlier_output_there(rayembed, server, s3: S3, tmp_path):
    rows = texts(3000)
    old, new = f"s3://{BUCKET}/reuse/old", f"s3://{BUCKET}/reuse/new"
    corpus = write_parquet(tmp_path / "a.parquet", rows)
    command = ("run", corpus, "--endpoint", server.url, "--json")
    first = rayembed(*command, "-o", old, own_ray=True, **s3.environment)
    assert first.wait() == 0, first.err
    grown = [*rows[:1000], "new", *rows[1000:]]
    write_parquet(corpus, grown)
    second = rayembed(*command, "-o", new, "--reuse", old, own_ray=True, **s3.environment)
    assert second.wait() == 0, second.err
    assert (second.summary()["rows_reused"], second.summary()["unique_texts"]) == (3000, 1)
    np.testing.assert_array_equal(matrix(table_of(s3, new)), vectors_of(grown, 32))
    assert not [name for name in s3.listed("reuse/new/") if name.startswith("_reuse")]
