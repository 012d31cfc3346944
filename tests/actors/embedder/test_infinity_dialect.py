"""The Infinity dialect on the pages that Infinity sends; `tests/jobs/test_infinity_server.py` asks a real one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Description, Reply
from actors.embedder.dialects.infinity import Infinity
from actors.messages import Endpoint, Limits, Wanted
from tests.actors.embedder.answers import base64_of, finished
from tests.actors.embedder.looking import described_by
from tests.servers.vectors import vectors_of

DIALECT = Infinity()


def model(name: str = "BAAI/bge-m3", batch: object = 32) -> dict[str, object]:
    stats = {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": batch}
    more = {"owned_by": "infinity", "created": 1, "backend": "torch", "capabilities": ["embed"]}
    return {"id": name, "stats": stats, "object": "model", **more}


def found(pages: dict[str, object], name: str = "") -> Description | None:
    return described_by(DIALECT, pages, model=name)


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_it_is_known_by_the_state_of_its_queue_below_either_prefix(prefix: str) -> None:
    known = found({f"{prefix}/models": {"data": [model()], "object": "list"}})
    assert known is not None
    assert (known.server, known.models) == ("Infinity", ("BAAI/bge-m3",))
    assert known.route == f"http://host{prefix}/embeddings"
    assert known.cuts_long_texts is True
    assert known.limits == Limits(texts_per_request=2048, texts_in_flight=32_000, texts_merged=256)
    assert known.told["models"] == f"{prefix}/models"
    assert "32 texts" in known.batching
    assert "256 texts" in known.batching


def test_the_batch_is_that_of_the_model_which_is_asked_for() -> None:
    known = found({"/models": {"data": [model("a"), model("b", 8)]}}, "b")
    assert known is not None
    assert "8 texts" in known.batching
    assert known.models == ("a", "b")


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"id": "m"}],
        [{"id": "m", "stats": {}}],
        [{"id": "m", "stats": {"queue_fraction": 0.0}}],
        [model(batch=0)],
        [model(batch="32")],
        [model(), {"id": "m"}],
    ],
)
def test_a_list_of_models_is_not_enough(data: list[object]) -> None:
    assert found({"/models": {"data": data}, "/v1/models": {"data": data}}) is None


def asked(endpoint: Endpoint) -> tuple[str, dict[str, object]]:
    request = DIALECT.embed(endpoint, ["a"])
    return request.url, msgspec.json.decode(request.body)


def test_no_field_is_sent_that_it_would_refuse_as_null() -> None:
    endpoint = Endpoint("http://host", "m", "infinity", None, route="http://host/v1/embeddings")
    assert asked(endpoint) == (
        "http://host/v1/embeddings",
        {"model": "m", "input": ["a"], "encoding_format": "base64"},
    )


def test_dimensions_are_the_one_thing_that_it_can_be_asked_for() -> None:
    wanted = Wanted(dimensions=8, raw=True, truncate=False)
    _, body = asked(Endpoint("http://host", "m", "infinity", None, wanted=wanted))
    assert body == {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 8}


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_where_nothing_is_known_the_prefix_is_what_the_url_says(suffix: str) -> None:
    url, _ = asked(Endpoint(f"http://host{suffix}", "m", "infinity", None))
    assert url == f"http://host{suffix}/embeddings"


def test_characters_are_not_taken_for_tokens() -> None:
    rows = vectors_of(["a", "b"], 8)
    data = [
        {"object": "embedding", "embedding": base64_of(row.tobytes()), "index": i} for i, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": 304, "total_tokens": 304}
    body = {"object": "list", "data": data, "model": "m", "usage": usage, "id": "infinity-1", "created": 1}
    got = finished(DIALECT.answer(Reply(200, {}, msgspec.json.encode(body)), 2))
    np.testing.assert_array_equal(got.vectors, rows)
    assert got.tokens is None
