"""What servers say when they refuse, in their own words: each is understood for what it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.embedder.dialects import Reply, errors
from actors.embedder.faults import Fault, Kind, Then


def fault(status: int, body: object = b"") -> Fault:
    return errors.fault(Reply(status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body)))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Kind.NOT_FOUND),
        (400, Kind.BAD_REQUEST),
        (401, Kind.AUTH),
        (402, Kind.QUOTA),
        (403, Kind.AUTH),
        (404, Kind.NOT_FOUND),
        (408, Kind.TIMEOUT),
        (409, Kind.TRANSPORT),
        (413, Kind.TOO_LARGE),
        (422, Kind.BAD_REQUEST),
        (424, Kind.BACKEND),
        (429, Kind.OVERLOADED),
        (499, Kind.TRANSPORT),
        (500, Kind.BACKEND),
        (502, Kind.BACKEND),
        (503, Kind.OVERLOADED),
        (504, Kind.TIMEOUT),
        (529, Kind.BACKEND),
    ],
)
def test_what_a_status_means(status: int, kind: Kind) -> None:
    found = fault(status, {"error": {"message": "no"}})
    assert (found.kind, found.status, found.detail) == (kind, status, "no")


def test_what_smaller_requests_may_help_never_ends_a_job() -> None:
    splitting = {kind for kind in Kind if Fault(kind, "").policy.then is Then.SPLIT}
    assert splitting >= {Kind.BACKEND, Kind.TOO_LARGE, Kind.BAD_REQUEST, Kind.WRONG_ANSWER}
    assert splitting.isdisjoint({Kind.OVERLOADED, Kind.STARTING, Kind.AUTH, Kind.NOT_FOUND})


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": {"message": "openai, vllm", "type": "x", "param": None, "code": 400}}, "openai, vllm"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"message": "tei", "code": 422, "type": "Validation"}, "tei"),
        ({"object": "error", "message": "sglang", "type": "x", "param": None, "code": 400}, "sglang"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": {"code": 500, "message": "llama\n\n  .cpp"}}, "llama .cpp"),
        (b"plain words", "plain words"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 4000, "[" * 300),
    ],
)
def test_the_detail_is_what_the_server_says_for_itself(body: object, detail: str) -> None:
    assert fault(400, body).detail == detail


def test_an_address_that_leads_elsewhere_says_where() -> None:
    found = errors.fault(
        Reply(308, {"location": "https://b.example/v1/embeddings?secret=1"}, b"<html>Moved</html>")
    )
    assert (found.kind, found.detail) == (Kind.NOT_FOUND, "it leads to https://b.example/v1/embeddings")


def test_a_body_that_repeats_the_whole_input_is_cut() -> None:
    assert len(fault(422, {"detail": [{"input": "x" * 1_000_000}]}).detail) <= 300


@pytest.mark.parametrize("status", [413, 422])
def test_a_limit_on_texts_is_learnt_from_the_message(status: int) -> None:
    message = "batch size 33 > maximum allowed batch size 32"
    for body in ({"message": message, "code": status, "type": "Validation"}, {"error": message}):
        found = fault(status, body)
        assert (found.kind, found.most_rows) == (Kind.TOO_MANY_INPUTS, 32)


def test_a_quota_that_is_spent_is_no_overload() -> None:
    body = {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "param": None}}
    found = fault(429, body)
    assert found.policy.then is Then.STOP
    assert found.policy.attempts == 1
    assert found.kind is not Kind.OVERLOADED


WORDS: list[tuple[int, object, Kind, dict[str, object]]] = [
    # TEI
    (
        422,
        {"error": "batch size 33 > maximum allowed batch size 32", "error_type": "Validation"},
        Kind.TOO_MANY_INPUTS,
        {"most_rows": 32},
    ),
    (
        422,
        {"message": "Input validation error: `inputs` must have less than 512 tokens. Given: 600", "code": 422},
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 512 / 600},
    ),
    (
        413,
        {"error": "Input validation error: `inputs` must have less than 100 characters. Given: 400"},
        Kind.TOO_LONG,
        {"most_tokens": None, "fits": 0.25},
    ),
    (413, b"Failed to buffer the request body: length limit exceeded", Kind.TOO_LARGE, {"fits": None}),
    (424, {"error": "Backend error: CUDA_ERROR_OUT_OF_MEMORY", "error_type": "Backend"}, Kind.BACKEND, {}),
    (429, {"error": "Model is overloaded", "error_type": "Overloaded"}, Kind.OVERLOADED, {}),
    (503, {"error": "unhealthy", "error_type": "Unhealthy"}, Kind.STARTING, {}),
    (401, b"", Kind.AUTH, {}),
    (400, {"error": "Input validation error: `inputs` cannot be empty"}, Kind.BAD_REQUEST, {}),
    # Infinity
    (
        422,
        {
            "detail": [
                {
                    "type": "too_long",
                    "loc": ["body", "text", "input", "list[constrained-str]"],
                    "msg": "List should have at most 2048 items after validation, not 2049",
                    "input": ["x"] * 2049,
                }
            ]
        },
        Kind.TOO_MANY_INPUTS,
        {"most_rows": 2048},
    ),
    (
        429,
        {"error": {"message": "model x is currently overloaded", "type": None, "param": None, "code": 429}},
        Kind.OVERLOADED,
        {},
    ),
    # vLLM, new and old
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 64 tokens. However, your prompt contains at "
                "least 65 input tokens, which exceeds this limit even without any output tokens. Please reduce "
                "the length of the input prompt. (parameter=input_tokens, value=65)",
                "code": 400,
            }
        },
        Kind.TOO_LONG,
        {"most_tokens": 64, "fits": None},
    ),
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 64 tokens. However, your prompt contains "
                "60000 characters (more than 384 characters, which is the upper bound)"
            }
        },
        Kind.TOO_LONG,
        {"most_tokens": None, "fits": 384 / 60000},
    ),
    (
        400,
        {
            "message": "This model's maximum context length is 512 tokens. However, you requested 1024 tokens in "
            "the input for embedding generation. Please reduce the length of the input."
        },
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 0.5},
    ),
    (
        503,
        {
            "error": {
                "message": "The engine is currently busy and cannot accept new requests. Please try again later "
                "or on a different instance.",
                "type": "Service Unavailable",
            }
        },
        Kind.OVERLOADED,
        {},
    ),
    (
        500,
        {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause."}},
        Kind.BACKEND,
        {},
    ),
    (404, {"error": {"message": "The model `zzz` does not exist.", "type": "NotFoundError"}}, Kind.NOT_FOUND, {}),
    # SGLang
    (
        400,
        {
            "object": "error",
            "message": "The input (900 tokens) is longer than the model's context length (512 tokens).",
        },
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 512 / 900},
    ),
    (503, {"object": "error", "message": "The request queue is full.", "type": "503"}, Kind.OVERLOADED, {}),
    # llama.cpp
    (
        500,
        {
            "error": {
                "code": 500,
                "message": "input (700 tokens) is too large to process. increase the physical batch "
                "size (current batch size: 512)",
                "type": "server_error",
            }
        },
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 512 / 700},
    ),
    (
        400,
        {
            "error": {
                "message": "input (700 tokens) is larger than the max context size (512 tokens). skipping",
                "type": "exceed_context_size_error",
            }
        },
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 512 / 700},
    ),
    (
        400,
        {
            "error": {
                "message": "request (700 tokens) exceeds the available context size (512 tokens), try increasing it"
            }
        },
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 512 / 700},
    ),
    (500, {"error": {"code": 500, "message": "Compute error.", "type": "server_error"}}, Kind.BACKEND, {}),
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, Kind.STARTING, {}),
    # Ollama
    (
        400,
        {"error": "the input length exceeds the context length"},
        Kind.TOO_LONG,
        {"most_tokens": None, "fits": None},
    ),
    (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, Kind.OVERLOADED, {}),
    (404, {"error": "model 'x' not found"}, Kind.NOT_FOUND, {}),
    # Triton
    (
        400,
        {"error": "[request id: 1] inference request batch-size must be <= 8 for 'M'"},
        Kind.TOO_MANY_INPUTS,
        {"most_rows": 8},
    ),
    (
        400,
        {
            "error": "request JSON size of 70000000 bytes exceeds the maximum allowed input size of 67108864 bytes."
            " Use --http-max-input-size to increase the limit."
        },
        Kind.TOO_LARGE,
        {"most_rows": None},
    ),
    (503, {"error": "Exceeds maximum queue size"}, Kind.OVERLOADED, {}),
    (503, {"error": "explicit version 1 of model 'M' is not at ready state"}, Kind.STARTING, {}),
    # OpenAI
    (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens, however you requested 9000 tokens "
                "(9000 in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        },
        Kind.TOO_LONG,
        {"most_tokens": 8192, "fits": 8192 / 9000},
    ),
    (
        400,
        {"error": {"message": "Invalid 'input': maximum context length is 8192 tokens."}},
        Kind.TOO_LONG,
        {"most_tokens": 8192, "fits": None},
    ),
    (
        400,
        {
            "error": {
                "message": "Requested 400000 tokens, max 300000 tokens per request",
                "type": "max_tokens_per_request",
                "code": "max_tokens_per_request",
            }
        },
        Kind.TOO_LARGE,
        {"fits": 0.75, "most_tokens": None},
    ),
    (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}, Kind.QUOTA, {}),
]


@pytest.mark.parametrize(("status", "body", "kind", "more"), WORDS)
def test_what_a_server_says_is_understood(status: int, body: object, kind: Kind, more: dict[str, object]) -> None:
    found = fault(status, body)
    assert found.kind is kind
    assert {name: getattr(found, name) for name in more} == more


def test_a_text_that_quotes_an_error_does_not_make_it_so() -> None:
    assert fault(500, {"error": "maximum allowed batch size 1"}).kind is Kind.BACKEND
    assert fault(429, {"error": "maximum context length is 1 tokens"}).kind is Kind.OVERLOADED


@given(st.integers(400, 599), st.binary(max_size=200))
def test_no_bytes_are_too_strange_for_a_fault(status: int, body: bytes) -> None:
    assert fault(status, body).status == status
