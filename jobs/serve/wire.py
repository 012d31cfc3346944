"""OpenAI's embeddings API as bytes: what a request body asks, the body of the reply, the error envelope."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from jobs.serve.backends.base import Backend, Encoded, Vectors, unit_rows

MAX_INPUTS = 2048
_SHOWN = 200  # characters of the client's own words in an error


class ApiError(Exception):
    """Answered to the client as `{"error": {message, type, param, code}}` with `status`."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> bytes:
        """The envelope, as JSON."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return msgspec.json.encode(
            {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that this server can answer: 1 to 2048 texts, none of them empty."""

    texts: list[str]
    base64: bool
    dimensions: int


class _Request(msgspec.Struct):
    input: str | list[str]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class _Embedding(msgspec.Struct):
    index: int
    embedding: bytes | list[float]  # msgspec writes bytes as base64
    object: str = "embedding"


class _Reply(msgspec.Struct):
    data: list[_Embedding]
    model: str
    usage: dict[str, int]
    object: str = "list"


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decoder = msgspec.json.Decoder(_Request)
_encoder = msgspec.json.Encoder()


def read_request(body: bytes, backend: Backend) -> Asked:
    """What `body` asks of `backend`. Raises ApiError (400, or 404 for another model's name)."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _mistyped(body, error) from None
    except _UNREADABLE as error:
        raise _unreadable(error) from None
    if request.model and request.model != backend.name:
        raise no_such_model(request.model, backend)
    texts = [request.input] if isinstance(request.input, str) else request.input
    _check_texts(texts)
    dimensions = _dimensions(request.dimensions, backend)
    return Asked(texts, request.encoding_format == "base64", dimensions)


def no_such_model(name: str, backend: Backend) -> ApiError:
    """For a request that names another model than the one that is served."""
    message = f"The model {name[:_SHOWN]!r} does not exist here; this server has {backend.name!r}."
    return ApiError(404, message, "model", "model_not_found")


def write_reply(asked: Asked, encoded: Encoded, model: str) -> bytes:
    """The reply body: one embedding a text, in order, cut to the dimensions asked for."""
    vectors = _shortened(encoded.vectors, asked.dimensions)
    little_endian = vectors.astype("<f4", copy=False)
    rows: list[Any] = [row.tobytes() for row in little_endian] if asked.base64 else vectors.tolist()
    count = int(encoded.tokens.sum())
    reply = _Reply(
        data=[_Embedding(index, row) for index, row in enumerate(rows)],
        model=model,
        usage={"prompt_tokens": count, "total_tokens": count},
    )
    return _encoder.encode(reply)


def _shortened(vectors: Vectors, dimensions: int) -> Vectors:
    if dimensions == vectors.shape[1]:
        return vectors
    return unit_rows(np.ascontiguousarray(vectors[:, :dimensions]))


def _check_texts(texts: list[str]) -> None:
    if not 1 <= len(texts) <= MAX_INPUTS:
        raise ApiError(400, f"'input' has {len(texts)} texts; it may have 1 to {MAX_INPUTS}.", "input")
    if "" in texts:
        raise ApiError(400, f"'input' may not hold an empty string: item {texts.index('')} is one.", "input")


def _dimensions(wanted: int | None, backend: Backend) -> int:
    if wanted is None or wanted == backend.dim:
        return backend.dim
    if not backend.matryoshka:
        raise ApiError(
            400, f"'dimensions' must be {backend.dim}: {backend.name} cannot be shortened.", "dimensions"
        )
    if not 1 <= wanted <= backend.dim:
        raise ApiError(400, f"'dimensions' is {wanted}; it may be 1 to {backend.dim}.", "dimensions")
    return wanted


def _unreadable(error: Exception) -> ApiError:
    return ApiError(400, f"The body is not JSON that can be read: {error}.")


def _mistyped(body: bytes, error: msgspec.ValidationError) -> ApiError:
    """JSON of the wrong shape, explained; decoded once more, since only errors need the loose form."""
    try:
        given = msgspec.json.decode(body)
    except _UNREADABLE as unreadable:
        return _unreadable(unreadable)
    if _holds_token_ids(given):
        return ApiError(
            400, "'input' holds token ids; this server takes text: a string or a list of strings.", "input"
        )
    where = re.search(r"`\$\.(\w+)|field `(\w+)`", str(error))
    return ApiError(400, f"{str(error)[:_SHOWN]}.", where and (where[1] or where[2]))


def _holds_token_ids(body: object) -> bool:
    given = body.get("input") if isinstance(body, dict) else None
    while isinstance(given, list) and given:
        given = given[0]
    return isinstance(given, int) and not isinstance(given, bool)
