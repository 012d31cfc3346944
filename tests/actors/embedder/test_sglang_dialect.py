"""The SGLang dialect on the pages that SGLang sends."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Description, Reply
from actors.embedder.dialects.sglang import SGLang
from actors.messages import Endpoint, Limits, Wanted
from tests.actors.embedder.answers import base64_of, finished
from tests.actors.embedder.looking import described_by
from tests.servers.vectors import vectors_of

DIALECT = SGLang()
MODELS = {"data": [{"id": "m", "owned_by": "sglang", "root": "m", "max_model_len": 512}], "object": "list"}
MODEL_INFO = {"model_path": "/models/m", "tokenizer_path": "/models/m", "is_generation": False}
SERVER_INFO = {
    "model_path": "/models/m",
    "max_prefill_tokens": 16384,
    "max_running_requests": None,
    "max_queued_requests": 300,
    "allow_auto_truncate": True,
    "version": "0.5.23",
}


def known(pages: dict[str, object]) -> Description:
    found = described_by(DIALECT, pages)
    assert found is not None
    return found


def test_its_pages_tell_what_it_takes() -> None:
    found = known({"/v1/models": MODELS, "/server_info": SERVER_INFO})
    assert (found.server, found.models) == ("SGLang 0.5.23", ("m",))
    assert found.route == "http://host/v1/embeddings"
    assert found.encodings[0] == "base64"
    assert found.cuts_long_texts is True
    assert found.limits == Limits(tokens_per_text=511, texts_in_flight=300, tokens_per_gpu_batch=16384)
    assert found.told == {
        "server": "/server_info",
        "models": "/v1/models",
        "tokens_per_text": "/v1/models",
        "texts_in_flight": "/server_info",
        "tokens_per_gpu_batch": "/server_info",
        "cuts_long_texts": "/server_info",
    }


def test_the_models_alone_make_it_known() -> None:
    found = known({"/v1/models": MODELS})
    assert found.server == "SGLang"
    assert found.limits == Limits(tokens_per_text=511)
    assert found.cuts_long_texts is False
    assert "cuts_long_texts" not in found.told


def test_so_does_its_page_of_the_model() -> None:
    found = known({"/model_info": MODEL_INFO, "/server_info": SERVER_INFO})
    assert (found.models, found.told["models"]) == (("/models/m",), "/model_info")
    assert found.limits.tokens_per_text is None


@pytest.mark.parametrize(
    "pages",
    [
        {},
        {"/v1/models": {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 512}]}},
        {"/v1/models": {"data": [{"id": "m"}]}},
        {"/server_info": SERVER_INFO},
        {"/model_info": {"model_path": "m"}},
        {"/model_info": {"is_generation": False}},
        {"/info": {"model_id": "m"}},
    ],
)
def test_others_are_not_taken_for_it(pages: dict[str, object]) -> None:
    assert described_by(DIALECT, pages) is None


def test_a_context_of_one_token_is_no_limit_of_none() -> None:
    models = {"data": [{"id": "m", "owned_by": "sglang", "max_model_len": 1}]}
    assert known({"/v1/models": models}).limits.tokens_per_text == 1


def test_it_is_asked_as_openai_is() -> None:
    wanted = Wanted(dimensions=8, raw=True)
    request = DIALECT.embed(Endpoint("http://host", "m", "sglang", None, wanted=wanted), ["a"])
    assert request.url == "http://host/v1/embeddings"
    body = {"model": "m", "input": ["a"], "encoding_format": "base64", "dimensions": 8}
    assert msgspec.json.decode(request.body) == body


def test_its_answer_is_read_as_openais_is() -> None:
    rows = vectors_of(["a", "b"], 8)
    data = [
        {"object": "embedding", "embedding": base64_of(row.tobytes()), "index": i} for i, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": 12, "total_tokens": 12, "completion_tokens": 0}
    body = {"object": "list", "data": data, "model": "/models/m", "usage": usage}
    got = finished(DIALECT.answer(Reply(200, {}, msgspec.json.encode(body)), 2))
    np.testing.assert_array_equal(got.vectors, rows)
    assert got.tokens == 12
