"""What the vectors of a whole run are of and are to be: prompt, dimensions, length; and what `probe` says first."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.jobs.corpora import assert_right, matrix, read_out, texts, write_parquet
from tests.servers.vectors import vectors_of


def test_a_prompt_goes_before_each_text(rayembed, server, tmp_path):
    rows = texts(900)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--prompt", "passage: ")
    assert run.wait() == 0, run.err
    with_prompt = vectors_of([f"passage: {text}" for text in rows], 32)
    np.testing.assert_array_equal(matrix(read_out(tmp_path / "out")), with_prompt)
    assert json.loads((tmp_path / "out/_run.json").read_text())["prompt"] == {"text": "passage: "}

    other = rayembed("run", corpus, "-o", "out", "--endpoint", server.url, "--prompt", "query: ")
    assert other.wait() == 2
    assert "prompt" in other.err


@pytest.mark.parametrize("normalize", ["auto", "yes"])
def test_shortened_vectors_have_length_one_also_where_the_server_only_cuts(rayembed, server, tmp_path, normalize):
    server.behave(shortens="cut")
    rows = texts(900)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    run = rayembed(
        *(
            "run",
            corpus,
            "-o",
            "out",
            "--endpoint",
            server.url,
            "--dimensions",
            8,
            "--normalize",
            normalize,
            "--json",
        )
    )
    assert run.wait() == 0, run.err
    assert run.summary()["dim"] == 8
    cut = vectors_of(rows, 32)[:, :8]
    right = cut / np.linalg.norm(cut, axis=1, keepdims=True)
    np.testing.assert_allclose(matrix(read_out(tmp_path / "out")), right, atol=1e-6)


def test_vectors_of_another_length_are_kept_unless_length_one_is_wanted(rayembed, server, tmp_path):
    server.behave(length=3.0)
    rows = texts(600)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    for out, options, length in (("kept", (), 3.0), ("unit", ("--normalize", "yes"), 1.0)):
        run = rayembed("run", corpus, "-o", out, "--endpoint", server.url, *options)
        assert run.wait() == 0, run.err
        lengths = np.linalg.norm(matrix(read_out(tmp_path / out)), axis=1)
        np.testing.assert_allclose(lengths, length, atol=1e-5)


def test_a_limit_that_is_set_is_never_passed(rayembed, server, tmp_path):
    server.behave(max_inputs=20)
    rows = texts(2000)
    corpus = write_parquet(tmp_path / "c.parquet", rows)
    config = tmp_path / "config.yaml"
    config.write_text(f"endpoints:\n  - url: {server.url}\n    texts_per_request: 20\n")
    run = rayembed("run", corpus, "-o", "out", "--config", config, "--json")
    assert run.wait() == 0, run.err
    assert_right(tmp_path / "out", rows)
    assert server.stats()["biggest_request"] == 20
    assert run.summary()["errors"] == {}


def test_probe_says_what_a_server_is_and_how_that_is_known(rayembed, server):
    run = rayembed("probe", "--endpoint", server.url, own_ray=True)
    assert run.wait() == 0, run.err
    lines = {line[2:].split("  ")[0].strip(): line for line in run.out.splitlines()[1:]}
    assert "test-embedder" in lines["model"]
    assert "/v1/models" in lines["model"]
    assert " 32 " in lines["dimensions"]
    assert "base64" in lines["encoding"]
    assert "cannot be read from here" in lines["GPU utilisation"]


def test_probe_in_json_and_of_a_server_that_is_not_there(rayembed, server):
    run = rayembed("probe", "--endpoint", server.url, "--json", own_ray=True)
    assert run.wait() == 0, run.err
    assert json.loads(run.out)[server.url]["dimensions"] == {"value": "32", "how": "asked"}
    server.stop()
    gone = rayembed("probe", "--endpoint", server.url, own_ray=True)
    assert gone.wait() == 1
    assert server.url in gone.err
    assert "Traceback" not in gone.err
