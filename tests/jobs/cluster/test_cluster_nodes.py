"""A job over several machines: one dies, others come, some see other storage, and at last the head is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import ROOT, Command, eventually
from tests.jobs.cluster.machines import Machine, Machines, machines, own_mounts
from tests.jobs.corpora import assert_right, read_out, texts, write_parquet
from tests.servers.fixture import EmbeddingServer

LIMIT = 6
SMALL = ("--concurrency", str(LIMIT), "--batch-size", "64")
NEVER = "1000000"  # a dead machine is dead to Ray after so many calls without an answer: it tells us nothing here

# Ray takes the head for the job's own machine when both are on one; this job is at home on another
ELSEWHERE = """
import functools, sys, ray, jobs.nodes
ray.init = functools.partial(ray.init, _node_ip_address="127.0.0.2")
jobs.nodes.HEAD_AWAY_S = 4.0
from jobs.__main__ import main
main(sys.argv[1:])
"""


@pytest.fixture
def cluster() -> Iterator[Machines]:
    """A head without embedders, and one machine with."""
    with machines(RAY_health_check_failure_threshold=NEVER) as these:
        these.head("--num-cpus=0", "--include-dashboard=false")
        these.join("127.0.0.2")
        yield these


class Running:
    """A job on the cluster; what it says can be read while it runs."""

    def __init__(self, cluster: Machines, folder: Path, *command: str) -> None:
        self._err = folder / "err"
        with self._err.open("wb") as err, (folder / "summary").open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": cluster.address},
                cwd=folder,
                stdout=out,
                stderr=err,
            )

    @property
    def err(self) -> str:
        return self._err.read_text()

    def says(self, words: str) -> None:
        """Wait until it does."""
        eventually(lambda: words in self.err or self._process.poll() is not None)
        assert words in self.err, self.err

    def wait(self) -> int:
        return self._process.wait(timeout=300)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def parts(out: Path) -> int:
    return len(list(out.glob("part-*.parquet")))


def embeds(machine: Machine) -> bool:
    return machine.runs("EmbedderActor")


def test_machines_die_and_join_and_those_that_see_other_storage_are_named(
    cluster: Machines, server: EmbeddingServer, tmp_path: Path
) -> None:
    rows, out = texts(20_000), tmp_path / "out"
    corpus = write_parquet(tmp_path / "c.parquet", list(rows))
    out.mkdir()
    mounts = own_mounts()
    command = ("-m", "jobs", "run", str(corpus), "-o", str(out), "--endpoint", server.url, "--json", *SMALL)
    dying = cluster.join("127.0.0.3")
    blind = cluster.join("127.0.0.4", hides=out) if mounts else None
    if blind:
        with Running(cluster, tmp_path, *command) as refused:
            assert refused.wait() == 1, refused.err
            said = refused.err.splitlines()[-1]
        assert said.startswith("rayembed: 1 of 4 nodes cannot take part: node ")
        assert f"(127.0.0.4, {blind.id[:12]}) does not see the job's note in {out}" in said
        assert "--skip-bad-nodes" in said
        assert not set(rows) & server.seen().keys(), "it was found out before the first request"

    server.reset()
    server.behave(texts_per_s=4000, hold_after=14_000)
    with Running(cluster, tmp_path, *command, "--skip-bad-nodes") as job:
        eventually(lambda: embeds(dying) and parts(out) >= 5)
        assert server.stats()["max_inflight"] <= LIMIT, "however many machines ask"
        dying.kill()
        joined = cluster.join("127.0.0.5")
        late_blind = cluster.join("127.0.0.6", hides=out) if mounts else None
        job.says(f"no answer from embedder {dying.id[:12]}")
        job.says(f"(127.0.0.5, {joined.id[:12]}) has joined")
        eventually(lambda: embeds(joined))
        for machine in filter(None, (blind, late_blind)):
            job.says(f"{machine.id[:12]}): it does not see the job's note")
            assert not embeds(machine)
        server.behave(hold_after=0)
        assert job.wait() == 0, job.err
    assert_right(out, rows)
    assert json.loads((tmp_path / "summary").read_text())["rows_embedded"] == len(rows)
    assert not list(out.glob(".*")), "no note is left"


def test_the_heads_loss_ends_the_job_and_another_cluster_finishes_it(
    cluster: Machines, rayembed: Callable[..., Command], server: EmbeddingServer, tmp_path: Path
) -> None:
    rows, out = texts(12_000), tmp_path / "out"
    corpus = write_parquet(tmp_path / "c.parquet", list(rows))
    server.behave(texts_per_s=4000, hold_after=8000)
    command = ("run", str(corpus), "-o", str(out), "--endpoint", server.url, "--json", *SMALL)
    with Running(cluster, tmp_path, "-c", ELSEWHERE, *command) as job:
        eventually(lambda: parts(out) >= 5)
        cluster.all[0].kill()
        assert job.wait() == 1, job.err
        assert job.err.splitlines()[-1].startswith("rayembed: the head of the Ray cluster has not answered"), (
            job.err
        )
        assert "Traceback" not in job.err
    there = read_out(out).num_rows
    server.behave(hold_after=0)
    again = rayembed(*command)  # on the session's Ray
    assert again.wait() == 0, again.err
    assert again.summary()["rows_resumed"] >= there
    assert_right(out, rows)
