"""The pool on a real Ray: as many embedders as the driver wants, and no row lost when one goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from actors.driver.tuning import Bounds
from actors.errors import FAILED, UserError
from actors.messages import DriverStatus
from tests.actors.embedder.job import Job, job_of
from tests.conftest import eventually
from tests.jobs.corpora import texts, write_parquet
from tests.servers.fixture import EmbeddingServer

ROWS, PER_PART, BATCH = 20_000, 200, 20


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the driver is made to want on every node."""
    import jobs.pool as module

    ask, answer = module._ask, {"embedders": 1}

    def overruled(method: Any, otherwise: Any, *patience_s: float) -> Any:
        said = ask(method, otherwise, *patience_s)
        if isinstance(said, DriverStatus):
            said = replace(said, wanted=dict.fromkeys(said.wanted, answer["embedders"]))
        return said

    monkeypatch.setattr(module, "_ask", overruled)
    return answer


@pytest.fixture
def job(tmp_path: Path, server: EmbeddingServer, ray_address: str) -> Iterator[Job]:
    corpus = write_parquet(tmp_path / "corpus.parquet", texts(ROWS))
    server.reset()
    server.behave(delay_ms=20)
    yield job_of([corpus], tmp_path / "out", [server], rows_per_part=PER_PART, batch=BATCH)
    server.behave(delay_ms=0)


def _bounds(job: Job) -> dict[str, Bounds]:
    return {each.url: Bounds(limit=4, batch_rows=BATCH) for each in job.spec.endpoints}


def test_it_grows_and_shrinks_as_the_driver_wants(
    job: Job, server: EmbeddingServer, wanted: dict[str, int]
) -> None:
    from jobs.pool import Pool

    pool = Pool(job.plan, None, job.spec, _bounds(job), None)
    try:
        for embedders in (1, 3, 1, 2):
            wanted["embedders"] = embedders
            eventually(lambda: pool.look(0.1)[1].embedders == wanted["embedders"])
            assert not pool.look(0.1)[0].finished
        server.behave(delay_ms=0)
        eventually(lambda: pool.look(0.1)[0].finished)
        queue, driver = pool.finish()
    finally:
        for name in list(pool._embedders):
            pool._embedders[name].handle.__ray_terminate__.remote()
    parts = sorted(job.parts)
    assert len(parts) == job.plan.parts
    ids = [row for part in parts for row in pq.read_table(job.out / part)["id"].to_pylist()]
    assert ids == list(range(ROWS))
    assert queue.leases_expired == 0
    assert driver.endpoints[0].rows < 1.2 * ROWS


@pytest.mark.parametrize("size", [None, 2])
def test_without_any_node_it_ends_instead_of_waiting_for_ever(
    job: Job, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    """As when Ray's own daemon on this machine was killed, and every process of Ray's with it."""
    import ray

    import jobs.nodes as module
    from jobs.pool import Pool

    pool = Pool(job.plan, None, job.spec, _bounds(job), size)
    try:
        monkeypatch.setattr(ray, "nodes", list)
        eventually(lambda: not pool._nodes.alive())
        pool.look(0.1)  # a moment without is nothing
        monkeypatch.setattr(module, "NO_NODES_S", 0.0)
        with pytest.raises(UserError, match="no node of the Ray cluster") as ended:
            pool.look(0.1)
        assert ended.value.exit_code == FAILED
    finally:
        pool.stop()
        for actor in (pool._queue, pool._driver):
            ray.kill(actor)  # their names are for the next
