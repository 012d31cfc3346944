"""Voyage's API: OpenAI's shape with other words."""

from __future__ import annotations

import numpy as np
import pytest

from actors.embedder.dialects.voyage import Voyage
from actors.messages import Limits
from tests.actors.embedder.looking import described_by
from tests.actors.embedder.reading import at, fields, read, wrong
from tests.servers.vectors import vectors_of

DIALECT = Voyage()
HOST = "https://api.voyageai.com"


@pytest.mark.parametrize("url", [HOST, f"{HOST}/v1"])
def test_it_is_known_by_its_name(url: str) -> None:
    found = described_by(DIALECT, {}, url, "voyage-3")
    assert found
    assert (found.server, found.route) == ("Voyage API", f"{HOST}/v1/embeddings")
    assert found.encodings == ("base64", "float")
    assert found.limits == Limits(texts_per_request=128, tokens_per_request=120_000)
    assert found.takes == {"dimensions", "prompt_name", "truncate"}
    assert described_by(DIALECT, {}, "http://host", "voyage-3") is None


def test_what_is_asked() -> None:
    request = DIALECT.embed(at(f"{HOST}/v1", "voyage"), ["a", "b"])
    assert request.url == f"{HOST}/v1/embeddings"
    assert fields(request) == {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "input_type": None,
        "truncation": True,
    }
    wanted = {"prompt_name": "document", "truncate": False, "dimensions": 512}
    assert fields(DIALECT.embed(at(HOST, "voyage", "float", **wanted), ["a"])) == {
        "model": "m",
        "input": ["a"],
        "encoding_format": None,
        "input_type": "document",
        "truncation": False,
        "output_dimension": 512,
    }


@pytest.mark.parametrize("as_base64", [True, False])
def test_the_tokens_are_the_total(as_base64: bool) -> None:
    rows = vectors_of(["a", "b"], 5)
    data = [
        {"object": "embedding", "embedding": row.tobytes() if as_base64 else row.tolist(), "index": i}
        for i, row in enumerate(rows)
    ]
    answer = read(DIALECT, {"object": "list", "data": data, "model": "m", "usage": {"total_tokens": 10}}, 2)
    np.testing.assert_array_equal(answer.vectors, rows)
    assert answer.tokens == 10


def test_what_is_no_embedding_list_is_wrong() -> None:
    assert "not an embedding list" in wrong(DIALECT, {"detail": "no"}, 1)
