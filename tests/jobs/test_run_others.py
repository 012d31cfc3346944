"""Whole runs against servers that are not of OpenAI's kind, or only almost."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.corpora import assert_right, matrix, read_out, texts, write_parquet
from tests.servers.in_thread import Servers, servers
from tests.servers.kserve_server import KServe
from tests.servers.kserve_server import Model as KServeModel
from tests.servers.llamacpp_server import LlamaCpp
from tests.servers.ollama_server import Model as OllamaModel
from tests.servers.ollama_server import Ollama
from tests.servers.tei_server import TEIServer
from tests.servers.vectors import vectors_of

__all__ = ["servers"]


def _rows(rayembed: Any, folder: Any, url: str, rows: list[str], *options: object) -> Any:
    corpus = write_parquet(folder / "c.parquet", list(rows))
    run = rayembed("run", corpus, "-o", "out", "--endpoint", url, "--json", *options)
    assert run.wait() == 0, run.err
    return run.summary()


@pytest.mark.parametrize("batch", [8, 64])
def test_a_run_with_kserve_in_bytes(rayembed: Any, tmp_path: Any, servers: Servers, batch: int) -> None:
    fake = KServe(models={"embedder": KServeModel(max_batch_size=batch)})
    rows = texts(1500)
    summary = _rows(rayembed, tmp_path, servers.start(fake), rows)
    assert_right(tmp_path / "out", rows)
    assert (summary["rows_embedded"], summary["model"]) == (1500, "embedder")
    assert fake.asked.most_texts <= batch
    assert all(fake.asked.texts[row] == 1 for row in rows)


def test_a_run_with_kserve_in_json(rayembed: Any, tmp_path: Any, servers: Servers) -> None:
    fake = KServe(extensions=[])
    rows = texts(700)
    _rows(rayembed, tmp_path, servers.start(fake), rows)
    np.testing.assert_allclose(matrix(read_out(tmp_path / "out")), vectors_of(rows, 32), rtol=1e-6)


def test_a_run_with_ollama(rayembed: Any, tmp_path: Any, servers: Servers) -> None:
    fake = Ollama(busy=2)
    rows = texts(1500)
    _rows(rayembed, tmp_path, servers.start(fake), rows)
    assert_right(tmp_path / "out", rows)
    assert fake.asked.routes() == {"/v1/embeddings"}
    assert all(fake.asked.texts[row] == 1 for row in rows)


def test_a_run_with_ollama_that_may_not_cut(rayembed: Any, tmp_path: Any, servers: Servers) -> None:
    fake = Ollama(models={"m:latest": OllamaModel(context=40)})
    rows = texts(150)
    fitting = [i for i, row in enumerate(rows) if len(row.split()) + 2 <= 40]
    assert 0 < len(fitting) < 150
    corpus = write_parquet(tmp_path / "c.parquet", list(rows))
    config = tmp_path / "c.yaml"
    config.write_text("input: {too_long: reject}\n")
    run = rayembed(*("run", corpus, "-o", "out", "--endpoint", servers.start(fake), "--config", config, "--json"))
    assert run.wait() == 3, run.err
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == fitting
    np.testing.assert_allclose(matrix(table), vectors_of([rows[i] for i in fitting], 32), rtol=1e-6)
    rejects = pa.concat_tables(pq.read_table(path) for path in (tmp_path / "out/_rejects").iterdir())
    assert set(rejects.column("reason").to_pylist()) == {"input_too_long"}
    assert sorted(rejects.column("id").to_pylist()) == sorted(set(range(150)) - set(fitting))
    assert fake.asked.routes() == {"/api/embed"}


@pytest.mark.parametrize("version", ["1.8.3", "1.9.3"])
def test_a_run_with_tei_that_takes_small_bodies_and_few_inputs(rayembed: Any, tmp_path: Any, version: str) -> None:
    rows = texts(700)
    with TEIServer(most_bytes=2000, client_batch=24, version=version) as fake:
        _rows(rayembed, tmp_path, fake.url, rows)
    assert_right(tmp_path / "out", rows)
    requests = [body.get("inputs") or body["input"] for _, body in fake.asked]
    assert 1 < max(map(len, requests)) <= 24, "it says so in /info"
    sent = Counter(chain.from_iterable(requests))
    assert {sent[row] for row in rows} == {1}, "what was refused for its bytes was not embedded"


def test_a_run_with_llamacpp_that_learns_what_it_takes(rayembed: Any, tmp_path: Any, servers: Servers) -> None:
    fake = LlamaCpp(n_ubatch=50)
    rows = texts(300)
    summary = _rows(rayembed, tmp_path, servers.start(fake), rows)
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == list(range(300))
    whole = [i for i, row in enumerate(rows) if len(row.split()) + 2 <= 50]
    assert 0 < len(whole) < 300
    np.testing.assert_array_equal(matrix(table)[whole], vectors_of([rows[i] for i in whole], 32))
    assert summary["rows_rejected"] == 0
