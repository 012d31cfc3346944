"""Whole runs with nothing set, against simulated GPU servers that do not take just anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import eventually
from tests.jobs.corpora import matrix, read_out, write_parquet
from tests.servers.gpu.answers import vector_of
from tests.servers.gpu.fixture import GpuServer
from tests.servers.gpu.oracle import lognormal

ROWS = 30_000

pytestmark = pytest.mark.alone


@pytest.mark.parametrize(
    ("profile", "fields"),
    [
        ("oom", {"oom_tokens": 12_000, "fixed_s": 0.02}),
        ("text_cap", {"text_cap": 300}),
        ("tei", {}),
        ("request_cap", {"request_cap": 5, "replicas": 2}),
    ],
    ids=["out of memory", "cap in texts", "permits", "cap in requests"],
)
def test_every_row_and_few_refusals(rayembed: Any, tmp_path: Path, profile: str, fields: dict[str, Any]) -> None:
    texts = [f"{i:06d}".ljust(4 * tokens, "x") for i, tokens in enumerate(lognormal(ROWS))]
    corpus = write_parquet(tmp_path / "c.parquet", list(texts))
    with GpuServer(profile, **fields) as server:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json")
        assert run.wait() == 0, run.err
        stats = server.stats()
    summary = run.summary()
    assert (summary["rows_embedded"], summary["rows_rejected"]) == (ROWS, 0)
    assert stats["ooms"] <= 3
    assert stats["refused"] <= max(8, 0.02 * stats["requests"])
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == list(range(ROWS))
    some = np.random.default_rng(0).integers(0, ROWS, 500)
    np.testing.assert_array_equal(matrix(table)[some], [vector_of(texts[i], 32) for i in some])


def test_a_quota_that_the_server_tells_is_never_exceeded(rayembed: Any, tmp_path: Path) -> None:
    texts = [f"{i:06d}".ljust(4 * tokens, "x") for i, tokens in enumerate(lognormal(ROWS))]
    corpus = write_parquet(tmp_path / "c.parquet", list(texts))
    with GpuServer("quota_told") as server:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json", "--limit", 20_000)
        assert run.wait() == 0, run.err
        stats = server.stats()
    assert stats["refused"] <= 2
    assert run.summary()["bound_by"] == "rate-limit"


def test_what_the_user_allows_in_a_minute_is_kept(rayembed: Any, tmp_path: Path) -> None:
    texts = [f"{i:06d}".ljust(4 * tokens, "x") for i, tokens in enumerate(lognormal(2000))]
    corpus = write_parquet(tmp_path / "c.parquet", list(texts))
    (tmp_path / "c.yaml").write_text("async_inference: {batch_size: 50}\n")
    with GpuServer("near_20ms") as server:
        endpoint = f"endpoints: [{{url: {server.url}, requests_per_minute: 600}}]"
        (tmp_path / "c.yaml").write_text(f"{endpoint}\nasync_inference: {{batch_size: 50}}\n")
        run = rayembed("run", corpus, "-o", "out", "--config", "c.yaml", "--json")
        assert run.wait() == 0, run.err
    summary = run.summary()
    assert summary["rows_embedded"] == 2000
    assert summary["requests"] / summary["seconds"] < 11


def test_capacity_that_falls_and_rises_again_costs_no_row(rayembed: Any, tmp_path: Path) -> None:
    texts = [f"{i:06d}".ljust(4 * tokens, "x") for i, tokens in enumerate(lognormal(ROWS))]
    corpus = write_parquet(tmp_path / "c.parquet", list(texts))
    with GpuServer("near_20ms") as server:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--json")
        for factor in (0.3, 1.0):
            before = server.stats()["texts"]
            eventually(lambda before=before: server.stats()["texts"] > before + 5000)  # type: ignore[misc]
            server.capacity(factor)
        assert server.stats()["texts"] < ROWS
        assert run.wait() == 0, run.err
        assert server.stats()["refused"] == server.stats()["ooms"] == 0
    assert read_out(tmp_path / "out").num_rows == ROWS
