"""llama.cpp's dialect on its literal pages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.embedder.dialects.llamacpp import LlamaCpp
from actors.messages import Limits
from tests.actors.embedder.looking import described_by
from tests.actors.embedder.reading import at, fields, read
from tests.servers.vectors import vectors_of

DIALECT = LlamaCpp()
PROPS = {
    "default_generation_settings": {"id": 0, "n_ctx": 2048, "speculative": False, "params": {"seed": 1}},
    "total_slots": 4,
    "model_path": "/models/bge.gguf",
    "build_info": "b7000-1a2b3c4d",
}
META = {"n_vocab": 30522, "n_ctx": 2048, "n_ctx_train": 512, "n_embd": 384, "n_params": 33212160, "size": 36685152}
MODELS = {"object": "list", "data": [{"id": "bge.gguf", "object": "model", "owned_by": "llamacpp", "meta": META}]}


def test_it_is_known_by_its_pages() -> None:
    found = described_by(DIALECT, {"/v1/models": MODELS, "/props": PROPS})
    assert found
    assert found.server == "llama.cpp b7000-1a2b3c4d"
    assert found.route == "http://host/v1/embeddings"
    assert found.encodings == ("base64", "float")
    assert found.models == ("bge.gguf",)
    assert found.dim == 384
    assert found.cuts_long_texts is False
    assert found.limits == Limits(tokens_per_text=2048)
    assert found.takes == {"raw"}
    assert "up to 4 slots" in found.batching
    assert found.told == {
        "server": "/props",
        "models": "/v1/models",
        "dim": "/v1/models",
        "tokens_per_text": "/props",
        "batching": "/props",
    }


def test_either_page_is_enough() -> None:
    by_models = described_by(DIALECT, {"/v1/models": MODELS})
    assert by_models
    assert (by_models.server, by_models.dim, by_models.limits.tokens_per_text) == ("llama.cpp", 384, 2048)
    assert by_models.told == {
        "server": "/v1/models",
        "models": "/v1/models",
        "dim": "/v1/models",
        "tokens_per_text": "/v1/models",
    }
    by_props = described_by(DIALECT, {"/props": PROPS}, model="x")
    assert by_props
    assert (by_props.models, by_props.dim) == ((), None)
    assert by_props.told == {"server": "/props", "tokens_per_text": "/props", "batching": "/props"}


@pytest.mark.parametrize(
    "pages",
    [
        {"/v1/models": {"data": [{"id": "a", "object": "model"}]}},
        {"/v1/models": {"data": [{"id": "a", "n_embd": 256, "max_model_len": None}]}},  # our own server's
        {"/v1/models": {"data": []}, "/props": {"total_slots": 4}},
        {"/props": b"<html>"},
        {},
    ],
)
def test_others_are_not_taken_for_it(pages: dict[str, object]) -> None:
    assert described_by(DIALECT, pages, model="m") is None


@pytest.mark.parametrize(
    "props", [{"total_slots": 0, "build_info": ""}, PROPS | {"default_generation_settings": {"n_ctx": -1}}]
)
def test_odd_numbers_are_no_limits(props: dict[str, Any]) -> None:
    found = described_by(DIALECT, {"/props": props})
    assert found
    assert found.limits == Limits()


def test_texts_go_to_the_route_that_is_openai_s() -> None:
    request = DIALECT.embed(at("http://host", "llamacpp", dimensions=8), ["a"])
    assert request.url == "http://host/v1/embeddings"
    assert "embd_normalize" not in fields(request)
    assert fields(DIALECT.embed(at("http://host", "llamacpp", raw=True), ["a"]))["embd_normalize"] == -1


def test_an_answer_in_base64_says_so_in_each_item() -> None:
    rows = vectors_of(["a", "b"], 5)
    data = [
        {"embedding": row.tobytes(), "index": i, "object": "embedding", "encoding_format": "base64"}
        for i, row in enumerate(rows)
    ]
    body = {"model": "x", "object": "list", "usage": {"prompt_tokens": 4, "total_tokens": 4}, "data": data}
    answer = read(DIALECT, body, 2)
    np.testing.assert_array_equal(answer.vectors, rows)
    assert answer.tokens == 4
