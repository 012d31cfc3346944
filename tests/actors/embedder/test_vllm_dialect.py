"""The vLLM dialect on the pages and bytes that vLLM sends."""

from __future__ import annotations

import httpx
import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Answer, Description, Reply
from actors.embedder.dialects.vllm import VLLM
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Limits, Wanted
from tests.actors.embedder.answers import base64_of, finished
from tests.actors.embedder.looking import described_by
from tests.servers.vectors import vectors_of

DIALECT = VLLM()
ROWS = vectors_of(["a", "b", "c"], 8)
BYTES = ROWS.astype("<f4").tobytes()


def model(name: str = "BAAI/bge-m3", owner: str = "vllm", **more: object) -> dict[str, object]:
    return {"id": name, "object": "model", "owned_by": owner, "root": name, "parent": None, **more}


def pages(*models: dict[str, object]) -> dict[str, object]:
    return {"/v1/models": {"object": "list", "data": list(models)}, "/version": {"version": "0.32.0"}}


def known(*models: dict[str, object], name: str = "") -> Description:
    found = described_by(DIALECT, pages(*models), model=name)
    assert found is not None
    return found


def asked(
    wanted: Wanted, encoding: str = "bytes_only", route: str = "", texts: tuple[str, ...] = ("a", "b")
) -> tuple[str, dict[str, object]]:
    endpoint = Endpoint("http://host", "m", "vllm", None, route=route, encoding=encoding, wanted=wanted)
    request = DIALECT.embed(endpoint, texts)
    assert request.method == "POST"
    return request.url.removeprefix("http://host"), msgspec.json.decode(request.body)


def answered(body: bytes, texts: int, content_type: str = "application/json", **headers: str) -> Answer:
    return finished(
        DIALECT.answer(Reply(200, httpx.Headers({"content-type": content_type, **headers}), body), texts)
    )


def as_bytes(body: bytes, texts: int) -> Answer:
    return answered(body, texts, "application/octet-stream")


def by_type(embeddings: object, **more: object) -> bytes:
    return msgspec.json.encode({"id": "embd-1", "embeddings": embeddings, "texts": ["a", "b", "c"], **more})


# --- what it is -------------------------------------------------------------------------------------------------


def test_it_is_known_by_its_models_and_tells_its_version() -> None:
    found = known(model(max_model_len=8192))
    assert found.server == "vLLM 0.32.0"
    assert found.route == "http://host/v1/embeddings"
    assert (found.encodings[0], found.counted) == ("bytes_only", "base64")
    assert found.models == ("BAAI/bge-m3",)
    assert found.limits == Limits(tokens_per_text=8192)
    assert found.told == {"server": "/version", "models": "/v1/models", "tokens_per_text": "/v1/models"}
    assert found.cuts_long_texts is False


def test_the_length_is_that_of_the_model_which_is_asked_for() -> None:
    two = model("a", max_model_len=512), model("b", max_model_len=64)
    assert known(*two, name="b").limits.tokens_per_text == 64
    assert known(*two, name="c").limits.tokens_per_text is None
    assert known(*two).models == ("a", "b")


def test_a_gateway_may_hide_the_version() -> None:
    page = pages(model(max_model_len=512))
    del page["/version"]
    found = described_by(DIALECT, page)
    assert found is not None
    assert found.server == "vLLM"


@pytest.mark.parametrize(
    "models",
    [
        [],
        [model(owner="sglang", max_model_len=512)],
        [model(owner="openai", max_model_len=512)],
        [model(owner="llamacpp")],
        [model()],
        [model(max_model_len=512), model("other", owner="openai")],
        [{"id": "m", "max_model_len": 512}],
        [model(max_model_len="512")],
        [model(max_model_len=0)],
    ],
)
def test_others_are_not_taken_for_it(models: list[dict[str, object]]) -> None:
    assert described_by(DIALECT, pages(*models)) is None


def test_a_version_alone_does_not_make_it() -> None:
    assert described_by(DIALECT, {"/version": {"version": "0.32.0"}}, model="m") is None


# --- what is asked ----------------------------------------------------------------------------------------------


def test_bytes_are_asked_for_in_the_order_of_this_machine_and_not_of_the_servers() -> None:
    path, body = asked(Wanted(truncate=False))
    assert path == "/v1/embeddings"
    assert body == {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "bytes_only",
        "embed_dtype": "float32",
        "endianness": "little",
    }


def test_floats_have_no_order_of_bytes() -> None:
    _, body = asked(Wanted(truncate=False), encoding="float")
    assert body == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}


@pytest.mark.parametrize("encoding", ["bytes_only", "base64", "float"])
def test_what_is_wanted_is_said_in_its_words_and_never_by_the_one_it_refuses(encoding: str) -> None:
    _, body = asked(Wanted(dimensions=64, raw=True, truncate=True), encoding)
    assert body["dimensions"] == 64
    assert body["use_activation"] is False
    assert body["truncate_prompt_tokens"] == -1
    assert "normalize" not in body


def test_a_prompt_is_asked_for_by_name_where_that_can_be_done() -> None:
    path, body = asked(Wanted(prompt_name="query", dimensions=64))
    assert path == "/v2/embed"
    assert body == {
        "model": "m",
        "texts": ["a", "b"],
        "embedding_types": ["base64"],
        "input_type": "query",
        "output_dimension": 64,
        "truncate": "END",
    }
    _, body = asked(Wanted(prompt_name="query", truncate=False), encoding="float")
    assert (body["truncate"], body["embedding_types"]) == ("NONE", ["float"])


def test_each_route_gets_its_own_shape() -> None:
    path, body = asked(Wanted(), route="http://host/vllm/v2/embed")
    assert path == "/vllm/v2/embed"
    assert "texts" in body
    assert "input_type" not in body
    path, body = asked(Wanted(), route="http://host/vllm/v1/embeddings")
    assert path == "/vllm/v1/embeddings"
    assert "input" in body


# --- what comes back --------------------------------------------------------------------------------------------


def test_bytes_are_vectors_and_are_copied() -> None:
    got = as_bytes(BYTES, 3)
    np.testing.assert_array_equal(got.vectors, ROWS)
    assert got.vectors.dtype == np.float32
    assert got.tokens is None
    assert not np.shares_memory(got.vectors, np.frombuffer(BYTES, np.uint8))  # which is used again


@pytest.mark.parametrize("body", [b"", BYTES[:-1], BYTES[:-4], BYTES + b"\0" * 4, b"\0"])
def test_bytes_that_are_no_vectors_of_these_texts_are_a_wrong_answer(body: bytes) -> None:
    with pytest.raises(Fault) as raised:
        as_bytes(body, 3)
    assert raised.value.kind is Kind.WRONG_ANSWER
    assert str(len(body)) in raised.value.detail


def test_whatever_was_asked_for_an_embedding_list_may_come() -> None:
    for rows in ([base64_of(row.tobytes()) for row in ROWS], ROWS.tolist()):
        data = [{"index": i, "object": "embedding", "embedding": row} for i, row in enumerate(rows)]
        usage = {"prompt_tokens": 12, "total_tokens": 12, "completion_tokens": 0, "prompt_tokens_details": None}
        body = {"id": "embd-1", "object": "list", "created": 1, "model": "m", "data": data, "usage": usage}
        got = answered(msgspec.json.encode(body), 3)
        np.testing.assert_array_equal(got.vectors, ROWS)
        assert got.tokens == 12


@pytest.mark.parametrize("kind", ["base64", "float"])
@pytest.mark.parametrize("rest", [{}, {"base64": None}, {"float": None, "binary": None}])
def test_vectors_by_type(kind: str, rest: dict[str, None]) -> None:
    rows = [base64_of(row.tobytes()) if kind == "base64" else row.tolist() for row in ROWS]
    for meta, tokens in (
        ({"billed_units": {"input_tokens": 12}}, 12),
        ({"billed_units": None}, None),
        (None, None),
    ):
        got = answered(by_type(rest | {kind: rows}, meta=meta), 3)
        np.testing.assert_array_equal(got.vectors, ROWS)
        assert got.tokens == tokens


@pytest.mark.parametrize(
    "embeddings",
    [
        {},
        {"float": None, "base64": None},
        {"float": ROWS[:2].tolist()},
        {"float": [[1.0], [1.0, 2.0], [1.0]]},
        {"float": [[1.0], [None], [1.0]]},
        {"base64": ["AACAPw==", "AACAPw==", "AACAP"]},
        {"base64": ["AACAPw==", "AACAPw==", ""]},
        {"binary": [[1], [2], [3]]},
        None,
        [[1.0], [2.0], [3.0]],
    ],
)
def test_types_without_one_vector_a_text_are_a_wrong_answer(embeddings: object) -> None:
    with pytest.raises(Fault) as raised:
        answered(by_type(embeddings), 3)
    assert raised.value.kind is Kind.WRONG_ANSWER
