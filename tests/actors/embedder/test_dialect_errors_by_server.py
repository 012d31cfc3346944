"""The other errors of vLLM, TEI, Infinity and SGLang, word for word: each is understood for what it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.embedder.dialects import Reply, errors
from actors.embedder.faults import Fault, Kind

LONG = "é" * 200_000


def fault(status: int, body: object = b"") -> Fault:
    return errors.fault(Reply(status, {}, body if isinstance(body, bytes) else msgspec.json.encode(body)))


def vllm(message: str, status: int = 400, kind: str = "BadRequestError") -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def flat(message: str, status: int = 400, kind: str = "BadRequestError") -> dict[str, object]:
    """As SGLang has it, and vLLM had until 0.9."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": status}


def tei(message: str, kind: str = "Validation") -> dict[str, object]:
    return {"error": message, "error_type": kind}


def tei_v1(message: str, status: int = 422, kind: str = "Validation") -> dict[str, object]:
    return {"message": message, "code": status, "type": kind}


def infinity(message: str, status: int) -> dict[str, object]:
    return {"error": {"message": message, "type": None, "param": None, "code": status}}


def flaw(kind: str, message: str, given: object, *where: object) -> dict[str, object]:
    """One of those that FastAPI lists."""
    return {"type": kind, "loc": ["body", "text", "input", *where], "msg": message, "input": given}


NO_STRING = "Input should be a valid string"
SAID: dict[str, list[tuple[int, object, Kind]]] = {
    "vLLM": [
        (400, vllm("You must pass at least one prompt"), Kind.BAD_REQUEST),
        (400, vllm("The decoder prompt cannot be empty"), Kind.BAD_REQUEST),
        (
            400,
            vllm("Model 'tiny' does not support Matryoshka embeddings; dimensions must be unset (received ...)."),
            Kind.BAD_REQUEST,
        ),
        (400, vllm("Token id 99999 is out of vocabulary"), Kind.BAD_REQUEST),
        (400, vllm("2 validation errors: body.encoding_format", kind="Bad Request"), Kind.BAD_REQUEST),
        (400, vllm("Unsupported Media Type: Only 'application/json' is allowed"), Kind.BAD_REQUEST),
        (400, vllm("Parameter `normalize` was removed; use `use_activation` instead."), Kind.BAD_REQUEST),
        (
            400,
            vllm("Unsupported input_type 'x'. This model does not define any input_type task instructions."),
            Kind.BAD_REQUEST,
        ),
        (401, {"error": "Unauthorized"}, Kind.AUTH),
        (404, {"detail": "Not Found"}, Kind.NOT_FOUND),
        (404, flat("The model `zzz` does not exist.", 404, "NotFoundError"), Kind.NOT_FOUND),
        (503, vllm("The engine has reached its prefill token backlog limit. ...", 503), Kind.OVERLOADED),
        (500, vllm("The server had an error while processing your request.", 500), Kind.BACKEND),
        (503, b"", Kind.OVERLOADED),  # /health, once the engine is dead; a second later nobody is there
    ],
    "TEI": [
        (413, tei("batch size 33 > maximum allowed batch size 32"), Kind.TOO_MANY_INPUTS),  # up to 1.8.3
        (413, tei("Input validation error: `inputs` must have less than 512 tokens. Given: 600"), Kind.TOO_LONG),
        (
            422,
            tei_v1("Input validation error: `inputs` must have less than 9 characters. Given: 10"),
            Kind.TOO_LONG,
        ),
        (400, tei("Input validation error: `inputs` cannot be empty", "Empty"), Kind.BAD_REQUEST),
        (400, tei_v1("`inputs` cannot be empty", 400, "Empty"), Kind.BAD_REQUEST),
        (
            422,
            tei("Input validation error: `default-prompt-name` is set to `x` but it was not found"),
            Kind.BAD_REQUEST,
        ),
        (422, tei_v1("Input validation error: `dimensions` should be positive"), Kind.BAD_REQUEST),
        (
            422,
            tei("Input validation error: `dimensions` should be smaller than the maximum embedding dimension."),
            Kind.BAD_REQUEST,
        ),
        (422, tei("tokenizer error no such token", "Tokenizer"), Kind.BAD_REQUEST),
        (424, tei("Backend error: Model is not an embedding model", "Backend"), Kind.BACKEND),
        (424, tei_v1("Backend error: CUDA_ERROR_OUT_OF_MEMORY", 424, "Backend"), Kind.BACKEND),
        (429, tei_v1("Model is overloaded", 429, "Overloaded"), Kind.OVERLOADED),
        (503, tei_v1("unhealthy", 503, "Unhealthy"), Kind.STARTING),
        (400, b"Failed to parse the request body as JSON", Kind.BAD_REQUEST),
        (415, b"Expected request with `Content-Type: application/json`", Kind.BAD_REQUEST),
        (422, b"Failed to deserialize the JSON body into the target type", Kind.BAD_REQUEST),
    ],
    "Infinity": [
        (
            422,
            {
                "detail": [
                    flaw(
                        "too_long",
                        "List should have at most 2048 items after validation, not 2049",
                        ["x" * 100] * 2049,
                        "list[constrained-str]",
                    ),
                    flaw("string_type", NO_STRING, ["x" * 100] * 2049, "constrained-str"),
                ]
            },
            Kind.TOO_MANY_INPUTS,
        ),
        (
            422,
            {"detail": [flaw("too_short", "List should have at least 1 item after validation, not 0", [])]},
            Kind.BAD_REQUEST,
        ),
        (422, {"detail": [flaw("enum", "Input should be 'float' or 'base64'", "hex")]}, Kind.BAD_REQUEST),
        (422, {"detail": [flaw("int_type", "Input should be a valid integer", None)]}, Kind.BAD_REQUEST),
        (
            400,
            infinity(
                "<class 'infinity_emb.primitives.MatryoshkaDimError'> -> matryoshka_dim=99999 is not in a valid "
                "range. Select between 1 and 13.",
                400,
            ),
            Kind.BAD_REQUEST,
        ),
        (400, infinity("Invalid model: x", 400), Kind.BAD_REQUEST),
        (401, {"detail": "Unauthorized"}, Kind.AUTH),
        (404, {"detail": "Not Found"}, Kind.NOT_FOUND),
        (429, infinity("model x is currently overloaded", 429), Kind.OVERLOADED),
        (500, infinity("InternalServerError: no", 500), Kind.BACKEND),
    ],
    "SGLang": [
        (400, flat("Input cannot be empty"), Kind.BAD_REQUEST),
        (400, flat("Input cannot be empty or whitespace only"), Kind.BAD_REQUEST),
        (400, flat("Input at index 3 cannot be empty or whitespace only"), Kind.BAD_REQUEST),
        (
            400,
            flat("Model 'x' does not support matryoshka representation, changing output dimensions will lead ..."),
            Kind.BAD_REQUEST,
        ),
        (401, {"error": "Unauthorized"}, Kind.AUTH),
        (500, flat("Internal server error: no", 500, "InternalServerError"), Kind.BACKEND),
        (503, flat("The request queue is full.", 503, "503"), Kind.OVERLOADED),
    ],
}


@pytest.mark.parametrize(
    ("server", "status", "body", "kind"),
    [(server, *said) for server, all_said in SAID.items() for said in all_said],
)
def test_what_a_server_says_is_understood(server: str, status: int, body: object, kind: Kind) -> None:
    assert fault(status, body).kind is kind


def too_long(*flaws: dict[str, object]) -> dict[str, Any]:
    found = fault(422, {"detail": list(flaws)})
    assert found.kind is Kind.TOO_LONG
    return {"fits": found.fits, "most_tokens": found.most_tokens, "detail": found.detail}


def test_a_string_that_is_too_long_for_infinity_tells_how_much_of_it_is_not() -> None:
    string = flaw(
        "string_too_long", "String should have at most 122880 characters", LONG, "list[constrained-str]", 0
    )
    found = too_long(string, flaw("string_type", NO_STRING, [LONG], "constrained-str"))
    assert found == {
        "fits": 122_880 / 200_000,
        "most_tokens": None,  # they are characters
        "detail": f"String should have at most 122880 characters, not 200000; {NO_STRING}",
    }


def test_what_is_wrong_is_found_behind_all_that_was_sent_and_not_in_it() -> None:
    sent = ["List should have at most 2 items", "x" * 10_000]
    string = flaw("string_too_long", "String should have at most 5000 characters", sent[1], 1)
    assert too_long(flaw("string_type", NO_STRING, sent), string)["fits"] == 0.5


def test_a_string_that_was_not_sent_back_is_too_long_all_the_same() -> None:
    message = "String should have at most 122880 characters"
    for body in ({"detail": [{"msg": message}]}, {"detail": message}):
        found = fault(422, body)
        assert (found.kind, found.fits) == (Kind.TOO_LONG, None)
