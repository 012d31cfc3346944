"""Whole runs into a Lance dataset: killed half way, run again, each row once."""

from __future__ import annotations

import json
import signal

import lance
import numpy as np
import psutil
import pyarrow as pa

from tests.conftest import eventually
from tests.jobs.corpora import matrix, texts, write_parquet
from tests.jobs.test_run_s3 import actors_of
from tests.servers.s3 import BUCKET, S3
from tests.servers.vectors import vectors_of

POISONED = (3, 15_000)


def test_killed_half_way_and_again(rayembed, server, tmp_path):
    rows = texts(20_000)
    for row in POISONED:
        rows[row] = f"POISON {row}"
    ids = [f"doc-{i}" for i in range(len(rows))]
    corpus = write_parquet(tmp_path / "c.parquet", rows, ids, year=list(range(len(rows))))
    command = (
        "run",
        corpus,
        "-o",
        "out",
        "--endpoint",
        server.url,
        "--batch-size",
        64,
        "--sink",
        "lance",
        "--json",
    )
    command = (*command, "--id-column", "doc", "--keep", "year")
    server.behave(poison="POISON", texts_per_s=5000, hold_after=14_000)
    first = rayembed(*command, "--concurrency", 4, own_ray=True)
    ledger, dataset = tmp_path / "out" / "_fragments", tmp_path / "out" / "vectors.lance"
    eventually(lambda: len(list(ledger.glob("part-*.json"))) >= 10, timeout=200)
    workers = actors_of(first.pid)
    first.send(signal.SIGKILL)
    first.wait()
    psutil.wait_procs(workers, timeout=20)
    assert lance.dataset(str(dataset)).count_rows() == 0, "killed between writing and committing"

    server.behave(poison="POISON", texts_per_s=0, hold_after=0)
    second = rayembed(*command, own_ray=True)
    assert second.wait() == 3, second.err
    assert "fork" not in second.err
    summary = second.summary()
    assert summary["rows_resumed"] >= 10 * 512 - len(POISONED)
    assert summary["complete"]
    assert json.loads((tmp_path / "out/_run.json").read_text())["sink"] == "lance"
    good = [i for i in range(len(rows)) if i not in POISONED]
    table = lance.dataset(str(dataset)).to_table()
    assert table.column_names == ["id", "embedding", "year"]
    assert table["embedding"].type == pa.list_(pa.float32(), 32)
    assert table["year"].to_pylist() == good, "in the order of the plan"
    assert table["id"].to_pylist() == [ids[i] for i in good]
    np.testing.assert_array_equal(matrix(table), vectors_of([rows[i] for i in good], 32))
    assert "lance.dataset(" in (tmp_path / "out/report.html").read_text()

    version = lance.dataset(str(dataset)).version
    third = rayembed(*command)
    assert (third.wait(), third.summary()["rows_resumed"]) == (3, len(good))
    assert lance.dataset(str(dataset)).version == version
    verified = rayembed("verify", "out")
    assert verified.wait() == 0, verified.out
    assert "19,998 rows embedded and 2 rejected of 20,000" in verified.out
    other = rayembed(*(each if each != "lance" else "parquet" for each in command))
    assert other.wait() == 2
    assert "holds another run (sink: lance there, parquet now)" in other.err
    reused = rayembed("run", corpus, "-o", "new", "--endpoint", server.url, "--reuse", "out")
    assert reused.wait() == 2
    assert "a lance output does not say which texts its vectors are of" in reused.err


def test_in_an_object_store(rayembed, server, s3: S3, tmp_path):
    rows = texts(3000)
    corpus, url = write_parquet(tmp_path / "c.parquet", rows), f"s3://{BUCKET}/lance/out"
    run = rayembed(
        "run", corpus, "-o", url, "--endpoint", server.url, "--sink", "lance", own_ray=True, **s3.environment
    )
    assert run.wait() == 0, run.err
    options = {"aws_endpoint": s3.environment["AWS_ENDPOINT_URL"], "allow_http": "true"}
    table = lance.dataset(f"{url}/vectors.lance", storage_options=options).to_table()
    assert table["id"].to_pylist() == list(range(len(rows)))
    np.testing.assert_array_equal(matrix(table), vectors_of(rows, 32))
    verified = rayembed("verify", url, **s3.environment)
    assert verified.wait() == 0, verified.out
