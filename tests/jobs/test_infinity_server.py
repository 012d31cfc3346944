"""A real Infinity: what it is taken for, what it answers and refuses, and whole runs at it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.embedder.client import EmbeddingClient
from actors.embedder.dialects import DIALECTS, Answer
from actors.embedder.faults import Fault, Kind
from actors.errors import UserError
from actors.messages import Endpoint, Limits
from jobs.detection import detect
from jobs.endpoints import Server, find_endpoints
from jobs.probe import probe
from jobs.probing import _PROBE_TEXTS
from jobs.settings import Endpoint as EndpointSettings
from jobs.settings import Settings, Vectors
from tests.jobs.corpora import matrix, read_out, texts, write_jsonl
from tests.servers.infinity import API_KEY, DIM, infinity, infinity_command, tight_infinity

__all__ = ["infinity", "infinity_command", "tight_infinity"]

LONGEST = 122_880  # characters of a text
KEY = "TIGHT_INFINITY_KEY"


def found(url: str, key: str | None = None, **vectors: Any) -> Server:
    asked = [EndpointSettings(url=url, api_key_env=key)]
    (server,) = find_endpoints(asked, Vectors(**vectors), truncate=True).servers
    return server


def right(rows: Sequence[str], dim: int = DIM) -> np.ndarray[Any, Any]:
    return np.repeat([[len(row.strip())] for row in rows], dim, axis=1).astype(np.float32)


async def answers(endpoint: Endpoint, *batches: Sequence[str]) -> list[Answer | BaseException]:
    """To all of them at once."""
    client = EmbeddingClient(endpoint)
    try:
        return await asyncio.gather(*(client.embed(batch, DIM) for batch in batches), return_exceptions=True)
    finally:
        await client.aclose()


def fault(endpoint: Endpoint, batch: Sequence[str]) -> Fault:
    (said,) = asyncio.run(answers(endpoint, batch))
    assert isinstance(said, Fault)
    return said


# --- what it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_it_is_known_and_asked_where_it_is(infinity: str, suffix: str) -> None:
    server = found(infinity + suffix)
    np.testing.assert_array_equal(server.vectors, right(_PROBE_TEXTS))
    endpoint = server.endpoint
    assert (endpoint.dialect, endpoint.model) == ("infinity", "a/b")
    assert (endpoint.route, endpoint.encoding) == (f"{infinity}/embeddings", "base64")
    assert endpoint.limits == Limits(texts_per_request=2048, texts_in_flight=32_000, texts_merged=256)
    assert server.description.cuts_long_texts is True
    assert "32 texts" in server.description.batching


def test_its_table(infinity: str) -> None:
    lines = probe(Settings(endpoints=(EndpointSettings(url=infinity),)))[infinity]
    told = {line.what: (line.value, line.how) for line in lines}
    assert told["server"] == ("Infinity", "/models")
    assert told["model"] == ("a/b", "/models")
    assert told["dimensions"] == (str(DIM), "asked")
    assert told["queue"] == ("0 (infinity)", f"{infinity}/models")


def test_it_is_taken_for_nothing_else(infinity: str) -> None:
    async def spoken() -> list[str]:
        client = EmbeddingClient(Endpoint(infinity, "", "openai", None))
        try:
            return [name for name in DIALECTS if await detect(client, (name,))]
        finally:
            await client.aclose()

    assert asyncio.run(spoken()) == ["infinity"]


def test_below_a_prefix_and_behind_a_key(tight_infinity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="refused a request without a key"):
        found(tight_infinity)
    monkeypatch.setenv(KEY, API_KEY)
    assert found(tight_infinity, KEY).endpoint.route == f"{tight_infinity}/v1/embeddings"
    monkeypatch.setenv(KEY, "another")
    with pytest.raises(UserError, match=KEY):
        found(tight_infinity, KEY)


# --- what it answers --------------------------------------------------------------------------------------------


def test_base64_and_numbers_are_the_same_vectors(infinity: str) -> None:
    rows = [row for row in texts(300) if row]
    endpoint = found(infinity).endpoint
    for encoding in ("base64", "float"):
        (said,) = asyncio.run(answers(replace(endpoint, encoding=encoding), rows))
        assert isinstance(said, Answer)
        np.testing.assert_array_equal(said.vectors, right(rows))
        assert said.tokens is None


def test_shortened_vectors_are_left_alone_where_whole_ones_are_not_of_length_one_either(infinity: str) -> None:
    server = found(infinity, dimensions=5)
    np.testing.assert_array_equal(server.vectors, right(_PROBE_TEXTS, 5))
    assert not server.endpoint.unit


def test_more_dimensions_than_there_are_is_told_in_its_words(infinity: str) -> None:
    with pytest.raises(UserError, match="Select between 1 and 13"):
        found(infinity, dimensions=99)


def test_too_many_texts_tell_how_many_may_be(infinity: str) -> None:
    endpoint = found(infinity).endpoint
    refused = fault(endpoint, [f"a text of some length, number {i}" for i in range(2049)])
    assert (refused.kind, refused.status, refused.most_rows) == (Kind.TOO_MANY_INPUTS, 422, 2048)
    (taken,) = asyncio.run(answers(endpoint, ["a"] * 2048))
    assert isinstance(taken, Answer)


def test_a_text_that_is_too_long_tells_how_much_of_it_may_be(infinity: str) -> None:
    endpoint = found(infinity).endpoint
    for batch in (["é" * 2 * LONGEST], ["a text"] * 500 + ["é" * 2 * LONGEST]):
        refused = fault(endpoint, batch)
        assert (refused.kind, refused.status, refused.fits) == (Kind.TOO_LONG, 422, 0.5)
        assert len(refused.detail) <= 300
    (taken,) = asyncio.run(answers(endpoint, ["é" * LONGEST]))
    assert isinstance(taken, Answer)


def test_another_model_is_no_error_where_there_is_but_one(infinity: str) -> None:
    (said,) = asyncio.run(answers(replace(found(infinity).endpoint, model="another"), ["a"]))
    assert isinstance(said, Answer)


def test_a_queue_that_is_full_is_an_overload(tight_infinity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, API_KEY)
    endpoint = found(tight_infinity, KEY).endpoint
    batches = [[f"{i} {j}" for j in range(64)] for i in range(200)]
    for _ in range(20):
        said = asyncio.run(answers(endpoint, *batches))
        refused = [each for each in said if isinstance(each, Fault)]
        assert all(each.kind is Kind.OVERLOADED for each in refused)
        for batch, each in zip(batches, said, strict=True):
            if isinstance(each, Answer):
                np.testing.assert_array_equal(each.vectors, right(batch))
        if refused:
            return
    pytest.fail("it was never full")


# --- whole runs -------------------------------------------------------------------------------------------------


def test_a_run_brings_every_row_and_cuts_what_is_too_long(rayembed: Any, infinity: str, tmp_path: Path) -> None:
    rows = texts(3000)
    rows[70] = "x" * 3 * LONGEST
    rows[2000] = "ü" * (LONGEST + 1)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    run = rayembed("run", corpus, "-o", "out", "--endpoint", infinity, "--json")
    assert run.wait() == 0, run.err
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == list(range(len(rows)))
    assert run.summary()["rows_truncated"] == 2
    vectors = matrix(table)
    for cut in (70, 2000):
        assert 0.9 * LONGEST < vectors[cut, 0] <= LONGEST
        rows[cut] = "x" * int(vectors[cut, 0])
    np.testing.assert_array_equal(vectors, right(rows))


def test_a_run_at_one_with_room_for_few_texts_loses_no_row(
    rayembed: Any, tight_infinity: str, tmp_path: Path
) -> None:
    rows = texts(6000)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    run = rayembed(
        *("run", corpus, "-o", "out", "--endpoint", tight_infinity, "--api-key-env", KEY, "--json"),
        *("--concurrency", 32, "--batch-size", 64),
        own_ray=True,
        **{KEY: API_KEY},
    )
    assert run.wait() == 0, run.err
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == list(range(len(rows)))
    np.testing.assert_array_equal(matrix(table), right(rows))
