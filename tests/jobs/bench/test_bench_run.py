"""Whole tests through the real command line: both modes against a real HTTP server, saved, and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.results import Comparison, ModeResult, read_folder
from tests.conftest import eventually
from tests.jobs.corpora import texts, write_jsonl, write_parquet
from tests.servers.fixture import EmbeddingServer
from tests.servers.gpu.fixture import GpuServer

Start = Callable[..., Any]


def test_both_modes_on_the_same_rows(rayembed: Start, tmp_path: Path) -> None:
    corpus = write_parquet(tmp_path / "c.parquet", list(texts(6000)), ids=["same"] * 6000)
    with GpuServer("near_20ms") as server:
        command = rayembed(
            *("bench", corpus, "--mode", "both", "--endpoint", server.url, "--seconds", 90, "--limit", 3000),
            *("--repeat", 2, "--config", _config(tmp_path), "--json"),
        )
        assert command.wait() == 0, command.err
        stats = server.stats()
    saved = read_folder(tmp_path / "quick_test_results", besides="")
    assert not saved.skipped
    sync, async_ = (_only(saved.results, ModeResult, kind) for kind in ("sync", "async"))
    both = _only(saved.results, Comparison, "comparison")
    rows, count = both.setup.rows, len(both.pairs)
    assert 50 <= rows <= 3000
    assert count == 2
    assert stats["texts"] >= 2 * rows * count
    assert both.vectors.rows == both.vectors.identical == rows * count
    assert {each.first for each in both.pairs} == {"sync", "async"}
    for result in (sync, async_):
        assert [run.summary.rows_embedded for run in result.runs] == [rows] * count
        assert all(run.timeline.stretches and run.summary.cpu_seconds > 0 for run in result.runs)
        assert result.setup == both.setup
    assert max(stretch.limit.max() for stretch in _series(sync)) == 1
    assert max(stretch.inflight.max() for stretch in _series(sync)) <= 1
    assert max(stretch.batch_rows.max() for stretch in _series(sync)) == 50
    assert all(rows / 50 <= run.summary.requests < 1.1 * rows / 50 for run in sync.runs)
    assert max(stretch.limit.max() for stretch in _series(async_)) > 1
    assert sync.settings["requests in flight"] == "1"
    assert list(both.setup.servers) == [server.url]
    ratio = [each.async_rows_per_s / each.sync_rows_per_s for each in both.pairs]
    assert both.times_faster.least == pytest.approx(min(ratio))
    if sync.runs[0].steady:
        assert sync.gpu_util, "the server tells how busy it is"
    said = json.loads(command.out)
    assert said["exit_code"] == 0
    assert {Path(path).name for path in said["results"]} == set(saved.results)
    assert not list((tmp_path / "quick_test_results").glob(".*")), "the outputs are gone"


def test_vectors_that_differ_are_found(rayembed: Start, server: EmbeddingServer, tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "c.jsonl", texts(400))
    command = rayembed(
        *("bench", corpus, "--mode", "both", "--endpoint", server.url, "--seconds", 0, "--results", "saved"),
        *("--repeat", 1, "--config", _config(tmp_path)),
    )
    eventually(lambda: list(tmp_path.glob("saved/.work-*/sync-0/_summary.json")))
    server.behave(salt="another model: ")
    assert command.wait() == 1, command.err
    assert "vectors: NOT the same" in command.out
    both = _only(read_folder(tmp_path / "saved", besides="").results, Comparison, "comparison")
    assert both.vectors.differing == both.vectors.rows == both.setup.rows


def test_one_mode_pinned_with_rows_rejected(rayembed: Start, server: EmbeddingServer, tmp_path: Path) -> None:
    server.behave(poison="POISON")
    corpus = write_jsonl(tmp_path / "c.jsonl", [*texts(20), "this is POISON", *texts(300)[20:]])
    command = rayembed(
        *("bench", corpus, "--mode", "async", "--concurrent", 3, "--endpoint", server.url, "--seconds", 0),
        *("--repeat", 1, "--config", _config(tmp_path)),
    )
    assert command.wait() == 3, command.err
    (result,) = read_folder(tmp_path / "quick_test_results", besides="").results.values()
    assert isinstance(result, ModeResult)
    assert result.kind == "async"
    assert {run.summary.rows_rejected for run in result.runs} == {1}
    assert max(stretch.limit.max() for stretch in _series(result)) <= 3
    assert result.settings["requests in flight"] == "3"
    assert command.out.startswith("async  ")


def test_without_endpoint_and_input_a_local_server_embeds_a_sample(rayembed: Start, tmp_path: Path) -> None:
    command = rayembed("bench", "--limit", 100, "--repeat", 1)
    assert command.wait() == 0, command.err
    assert "testing a local server" in command.err
    (result,) = read_folder(tmp_path / "quick_test_results", besides="").results.values()
    assert isinstance(result, ModeResult)
    assert result.setup.model.startswith("wordllama")
    assert result.setup.corpus == "documentation of the Python standard library"
    assert [run.summary.rows_embedded for run in result.runs] == [result.setup.rows] == [100]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--mode", "fast"), "'fast' is not one of 'async', 'sync', 'both'"),
        (("--concurrent", "0"), "--concurrent"),
        (("--endpoint", "gpu-1:8000"), "--endpoint is 'gpu-1:8000'; expected an http:// or https:// URL"),
        (("nowhere.parquet", "--endpoint", "http://127.0.0.1:9"), "input not found: nowhere.parquet"),
    ],
)
def test_wrong_options_are_errors_of_one_line(
    rayembed: Start, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    command = rayembed("bench", *options, own_ray=True)
    assert command.wait() == 2
    assert why in command.err
    assert command.err.count("\n") == 1
    assert not list((tmp_path / "quick_test_results").rglob("*"))


def _config(folder: Path) -> Path:
    """That of somebody who uses ids and a preset in the main job."""
    path = folder / "c.yaml"
    path.write_text("input: {id_column: doc, keep: [doc]}\nasync_inference: {max_batch_size: 256}\n")
    return path


def _only(results: dict[str, Any], type_: type[Any], kind: str) -> Any:
    (found,) = [each for name, each in results.items() if isinstance(each, type_) and each.kind == kind]
    assert next(name for name, each in results.items() if each is found).startswith(f"{kind}_")
    return found


def _series(result: ModeResult) -> list[Any]:
    return [
        series for run in result.runs for stretch in run.timeline.stretches for series in stretch.series.values()
    ]
