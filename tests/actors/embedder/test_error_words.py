"""Each row of the tables of errors of llama.cpp, Ollama, Triton, OpenAI, Cohere and Voyage, in their envelopes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.embedder.dialects import Reply, errors
from actors.embedder.faults import Fault, Kind


def fault(status: int, body: object) -> Fault:
    return errors.fault(Reply(status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body)))


def llamacpp(status: int, message: str, kind: str, **more: object) -> dict[str, object]:
    return {"error": {"code": status, "message": message, "type": kind, **more}}


def openai(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def mistral(message: str) -> dict[str, object]:
    return {"object": "error", "message": message, "type": "invalid_request_error", "param": None, "code": "3210"}


TOO_LARGE = "input (700 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
TOO_LONG = "input (9000 tokens) is larger than the max context size (8192 tokens). skipping"
CONTEXT = {"n_prompt_tokens": 9000, "n_ctx": 8192}
LLAMACPP: list[tuple[int, object, Kind, dict[str, Any]]] = [
    (500, llamacpp(500, TOO_LARGE, "server_error"), Kind.TOO_LONG, {"most_tokens": 512, "fits": 512 / 700}),
    (400, llamacpp(400, TOO_LONG, "exceed_context_size_error", **CONTEXT), Kind.TOO_LONG, {"most_tokens": 8192}),
    (
        400,
        llamacpp(
            400,
            "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
            "exceed_context_size_error",
            **CONTEXT,
        ),
        Kind.TOO_LONG,
        {"most_tokens": 8192, "fits": 8192 / 9000},
    ),
    (400, llamacpp(400, "too long", "exceed_context_size_error", **CONTEXT), Kind.TOO_LONG, {"most_tokens": None}),
    (400, llamacpp(400, '"input" must not be empty', "invalid_request_error"), Kind.BAD_REQUEST, {}),
    (400, llamacpp(400, "Input content cannot be empty", "invalid_request_error"), Kind.BAD_REQUEST, {}),
    (
        400,
        llamacpp(400, "Pooling type 'none' is not OAI compatible. Please use a different one", "x"),
        Kind.BAD_REQUEST,
        {},
    ),
    (500, llamacpp(500, "Compute error.", "server_error"), Kind.BACKEND, {}),
    (503, llamacpp(503, "Loading model", "unavailable_error"), Kind.STARTING, {}),
    (401, llamacpp(401, "Invalid API Key", "authentication_error"), Kind.AUTH, {}),
    (
        501,
        llamacpp(
            501,
            "This server does not support embeddings. Start it with `--embeddings`",
            "not_supported_error",
        ),
        Kind.BAD_REQUEST,
        {},
    ),
    (404, llamacpp(404, "File Not Found", "not_found_error"), Kind.NOT_FOUND, {}),
]
BUSY = "server busy, please try again.  maximum pending requests exceeded"
OLLAMA: list[tuple[int, object, Kind, dict[str, Any]]] = [
    (400, {"error": "the input length exceeds the context length"}, Kind.TOO_LONG, {"most_tokens": None}),
    (400, {"error": "invalid input type"}, Kind.BAD_REQUEST, {}),
    (400, openai("invalid input", "invalid_request_error"), Kind.BAD_REQUEST, {}),
    (404, {"error": 'model "x" not found, try pulling it first'}, Kind.NOT_FOUND, {}),
    (404, openai("model 'x' not found", "not_found_error"), Kind.NOT_FOUND, {}),
    (503, {"error": BUSY}, Kind.OVERLOADED, {"detail": " ".join(BUSY.split())}),
    (503, openai(BUSY, "api_error"), Kind.OVERLOADED, {}),
    (499, {"error": "request canceled"}, Kind.TRANSPORT, {}),
    (500, {"error": "llama runner process has terminated: cudaMalloc failed: out of memory"}, Kind.BACKEND, {}),
    (400, {"error": "something of the runner's own"}, Kind.BAD_REQUEST, {}),
    (400, {"error": "cudaMalloc failed: out of memory"}, Kind.BACKEND, {}),
]
TRITON: list[tuple[int, object, Kind, dict[str, Any]]] = [
    (
        400,
        {"error": "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'embedder'"},
        Kind.TOO_MANY_INPUTS,
        {"most_rows": 8},
    ),
    (503, {"error": "[request id: <id_unknown>] Exceeds maximum queue size"}, Kind.OVERLOADED, {}),
    (503, {"error": "Request timeout expired"}, Kind.OVERLOADED, {}),
    (404, {"error": "Request for unknown model: 'M' is not found"}, Kind.NOT_FOUND, {}),
    (404, {"error": "Request for unknown model: 'M' has no available versions"}, Kind.NOT_FOUND, {}),
    (503, {"error": "Request for unknown model: 'M' version 1 is not at ready state"}, Kind.STARTING, {}),
    (
        400,
        {
            "error": "Request JSON size of 70000000 bytes exceeds the maximum allowed value of 67108864. "
            "Use --http-max-input-size to increase the limit."
        },
        Kind.TOO_LARGE,
        {"most_rows": None, "most_tokens": None},
    ),
    (403, {"error": "This API is restricted, expecting header 'X'"}, Kind.AUTH, {}),
    (500, {"error": "in ensemble 'e', CUDA out of memory"}, Kind.BACKEND, {}),
    (501, {"error": "not supported"}, Kind.BAD_REQUEST, {}),
    (400, {"error": "expected 2 inputs but got 1 inputs for model 'M'"}, Kind.BAD_REQUEST, {}),
]
INVALID = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
OPENAI: list[tuple[int, object, Kind, dict[str, Any]]] = [
    (400, openai(INVALID, "invalid_request_error"), Kind.BAD_REQUEST, {}),
    (401, openai("Incorrect API key provided", "invalid_request_error", code="invalid_api_key"), Kind.AUTH, {}),
    (404, openai("no", "invalid_request_error", code="model_not_found"), Kind.NOT_FOUND, {}),
    (429, openai("Rate limit reached", "tokens", code="rate_limit_exceeded"), Kind.OVERLOADED, {}),
    (429, openai("quota", "insufficient_quota", code="insufficient_quota"), Kind.QUOTA, {}),
    (429, openai("Your account is not active", "billing_not_active", code="billing_not_active"), Kind.QUOTA, {}),
    (400, openai("Billing hard limit has been reached", "x", code="billing_hard_limit_reached"), Kind.QUOTA, {}),
    (500, openai("The server had an error", "server_error"), Kind.BACKEND, {}),
    (503, openai("Slow down", "server_error", code="slow_down"), Kind.OVERLOADED, {}),
    (503, openai("The server is overloaded", "server_error", code="server_is_overloaded"), Kind.OVERLOADED, {}),
]
VOYAGE = (
    "Request to model 'voyage-3-large' failed. The max allowed tokens per submitted batch is 120000. Your batch "
    "has 160000 tokens after truncation. Please lower the number of tokens in the batch."
)
VOYAGE_LONG = (
    "Request to model 'voyage-4-large' failed. The example at index 0 in your batch has too many tokens and does "
    "not fit into the model's context window of 32000 tokens. Please lower the number of tokens or use truncation."
)
GEMINI = "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"
AZURE = (
    "Too many inputs. The max number of inputs is 16.  We hope to increase the number of inputs per request soon."
)
DASHSCOPE = (
    "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than "
    "10.: input.contents"
)
REPORTED: list[tuple[int, object, Kind, dict[str, Any]]] = [  # by users of hosted APIs
    (400, {"detail": VOYAGE}, Kind.TOO_LARGE, {"fits": 0.75, "most_tokens": None}),
    (
        400,
        {"id": "1", "message": "invalid request: total number of texts must be at most 96 - received 131"},
        Kind.TOO_MANY_INPUTS,
        {"most_rows": 96},
    ),
    (400, {"detail": VOYAGE_LONG}, Kind.TOO_LONG, {"most_tokens": 32_000, "fits": None}),
    (
        400,
        mistral("Too many tokens in batch. Max is 16384 got 32768"),
        Kind.TOO_LARGE,
        {"fits": 0.5, "most_tokens": None},
    ),
    (400, mistral("Too many tokens overall, split into more batches."), Kind.TOO_LARGE, {"fits": None}),
    (
        400,
        mistral("Too many inputs in request, split into more batches."),
        Kind.TOO_MANY_INPUTS,
        {"most_rows": None},
    ),
    (
        400,
        [{"error": {"code": 400, "message": GEMINI, "status": "INVALID_ARGUMENT"}}],
        Kind.TOO_MANY_INPUTS,
        {"most_rows": 100},
    ),
    (
        500,
        {"error": "in ensemble 'NV-Embed-QA', Input length 548 exceeds maximum allowed token size 512"},
        Kind.TOO_LONG,
        {"most_tokens": 512, "fits": 512 / 548},
    ),
    (400, openai(AZURE, "invalid_request_error"), Kind.TOO_MANY_INPUTS, {"most_rows": 16}),
    (400, openai(DASHSCOPE, "InvalidParameter"), Kind.TOO_MANY_INPUTS, {"most_rows": 10}),
]
OF_STATUS = {  # Cohere's client has a class for each, Voyage's pages name those from 429 on
    400: Kind.BAD_REQUEST,
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.AUTH,
    404: Kind.NOT_FOUND,
    422: Kind.BAD_REQUEST,
    429: Kind.OVERLOADED,
    498: Kind.BAD_REQUEST,
    499: Kind.TRANSPORT,
    500: Kind.BACKEND,
    501: Kind.BAD_REQUEST,
    502: Kind.BACKEND,
    503: Kind.OVERLOADED,
    504: Kind.TIMEOUT,
}
HOSTED: list[tuple[int, object, Kind, dict[str, Any]]] = [
    (status, {"id": "1", "message": "in the server's own words"}, kind, {"detail": "in the server's own words"})
    for status, kind in OF_STATUS.items()
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "more"), [*LLAMACPP, *OLLAMA, *TRITON, *OPENAI, *REPORTED, *HOSTED]
)
def test_what_a_server_says_is_understood(status: int, body: object, kind: Kind, more: dict[str, Any]) -> None:
    found = fault(status, body)
    assert (found.kind, found.status) == (kind, status)
    assert {name: getattr(found, name) for name in more} == more
