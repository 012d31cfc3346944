"""What the tests' embedding server says to a request: a pure function of how it was told to behave."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from tests.servers.vectors import vectors_of

MOST_INPUTS = 2048
BAD_REQUEST = "invalid_request_error"
INVALID_INPUT = (
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
)
HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


@dataclasses.dataclass(frozen=True, slots=True)
class Behaviour:
    """How the server answers. Unless said otherwise everything is off and each answer is right."""

    dim: Annotated[int, msgspec.Meta(ge=1)] = 32
    model: str = "test-embedder"
    """The one model served; a request for another gets 404."""
    delay_ms: float = 0.0
    """Each request waits this long, all at the same time."""
    texts_per_s: float = 0.0
    """One GPU that works through the requests in the order they came, at this rate. 0: no limit."""
    hold_after: int = 0
    """Once so many texts were answered since the last reset, requests wait until this is raised or 0 (never)."""
    ignore_base64: bool = False
    shuffle: bool = False
    """`data` in another order, with the right `index`."""
    api_key: str = ""
    salt: str = ""
    """Goes before each text: the vectors are those of another model."""
    length: float = 1.0
    """Of each vector."""
    shortens: Literal["", "cut", "unit"] = ""
    """What `dimensions` does: 400, the vectors' beginning, or that made of length 1."""
    max_inputs: int = 0
    """More texts in a request get TEI's 422. 0: only OpenAI's own limit of 2048 (400)."""
    poison: str = ""
    """A request with a text that contains this gets 400."""
    wrong: Literal["", "short", "dim", "nan", "zero", "truncated", "html", "index"] = ""
    """The wrong answer, with status 200: `dim`, `nan` and `zero` spoil vectors, the others the body."""
    wrong_for: str = ""
    """Who gets it: `next:N` the next N requests; else requests with a text that contains this, of whose
    vectors only those of such texts are spoilt. Empty: everyone."""
    fail_status: int = 503
    fail_next: int = 0
    """The next N requests get `fail_status` and an OpenAI error."""
    retry_after: str | int = ""
    """The `retry-after` header of those."""
    drop_next: int = 0
    """The next N requests are read, then their connection is closed without an answer."""


def changed(behaviour: Behaviour, fields: dict[str, Any]) -> Behaviour:
    """`behaviour` with these fields replaced. Raises msgspec.ValidationError on a wrong name or value."""
    if unknown := fields.keys() - {field.name for field in dataclasses.fields(Behaviour)}:
        raise msgspec.ValidationError(f"no such behaviour: {', '.join(sorted(unknown))}")
    return msgspec.convert(dataclasses.asdict(behaviour) | fields, Behaviour)


def after_request(behaviour: Behaviour) -> Behaviour:
    """What is left of the counted behaviours when one request has had its share."""
    if behaviour.drop_next > 0:
        return dataclasses.replace(behaviour, drop_next=behaviour.drop_next - 1)
    if behaviour.fail_next > 0:
        return dataclasses.replace(behaviour, fail_next=behaviour.fail_next - 1)
    if behaviour.wrong and (left := _wrong_next(behaviour)):
        return dataclasses.replace(behaviour, wrong_for=f"next:{left - 1}")
    return behaviour


def _wrong_next(behaviour: Behaviour) -> int | None:
    """N if `wrong_for` is `next:N`."""
    prefix, _, count = behaviour.wrong_for.partition(":")
    return int(count) if prefix == "next" and count.isdecimal() else None


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class Embedding(msgspec.Struct):
    index: int
    embedding: bytes | list[float]  # msgspec writes bytes as base64
    object: str = "embedding"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    retry_after: str = ""
    right: Sequence[str] = ()
    """The texts whose right vector this answer holds."""


def read(body: bytes) -> EmbeddingRequest | Answer:
    """The request in `body`, or the 400 that says what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=EmbeddingRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refusal(400, str(error))


def key_refused(behaviour: Behaviour, authorization: str | None) -> Answer | None:
    """The 401 for a request that does not bring the key, if one is asked for."""
    if not behaviour.api_key or authorization == f"Bearer {behaviour.api_key}":
        return None
    return _refusal(401, "Incorrect API key provided", code="invalid_api_key")


def answer(behaviour: Behaviour, authorization: str | None, request: EmbeddingRequest | Answer) -> Answer:
    """What the server says to `request`, by `behaviour` alone."""
    if behaviour.fail_next > 0:
        return _failure(behaviour)
    if refusal := key_refused(behaviour, authorization):
        return refusal
    if isinstance(request, Answer):
        return request
    if request.model != behaviour.model:
        message = f"The model `{request.model}` does not exist or you do not have access to it."
        return _refusal(404, message, code="model_not_found")
    texts = request.texts
    if not texts or "" in texts or len(texts) > MOST_INPUTS:
        return _refusal(400, INVALID_INPUT)
    if 0 < behaviour.max_inputs < len(texts):
        message = f"batch size {len(texts)} > maximum allowed batch size {behaviour.max_inputs}"
        return Answer(422, msgspec.json.encode({"message": message, "code": 422, "type": "Validation"}))
    if behaviour.poison and any(behaviour.poison in text for text in texts):
        return _refusal(400, INVALID_INPUT)
    if request.dimensions and not behaviour.shortens:
        return _refusal(400, "This model does not support specifying dimensions.")
    return _embeddings(behaviour, request, request.encoding_format == "base64" and not behaviour.ignore_base64)


def _embeddings(behaviour: Behaviour, request: EmbeddingRequest, base64: bool) -> Answer:
    texts = request.texts
    spoilt = _spoilt(behaviour, texts) if behaviour.wrong else []
    wrong = behaviour.wrong if spoilt else ""
    if wrong == "html":
        return Answer(200, HTML, "text/html")

    vectors = vectors_of([behaviour.salt + text for text in texts], behaviour.dim) * np.float32(behaviour.length)
    if request.dimensions:
        vectors = vectors[:, : request.dimensions].copy()
        if behaviour.shortens == "unit":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if wrong == "nan":
        vectors[spoilt, 0] = np.nan
    if wrong == "zero":
        vectors[spoilt] = 0
    rows = list(vectors)
    if wrong == "dim":
        for i in spoilt:
            rows[i] = rows[i][:-1]
    first = 1 if wrong == "index" else 0
    data = [Embedding(i, row.tobytes() if base64 else row.tolist()) for i, row in enumerate(rows, first)]
    if wrong == "short":
        data.pop()
    if behaviour.shuffle:  # by one place: unlike a reversal, doing it a second time does not undo it
        data = data[1:] + data[:1]

    tokens = sum(-(-len(text.encode()) // 4) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = msgspec.json.encode({"object": "list", "data": data, "model": behaviour.model, "usage": usage})
    if wrong in ("short", "index", "truncated"):
        return Answer(200, body[: len(body) // 2] if wrong == "truncated" else body)
    left_out = set(spoilt)
    return Answer(200, body, right=[text for i, text in enumerate(texts) if i not in left_out])


def _spoilt(behaviour: Behaviour, texts: list[str]) -> list[int]:
    """The positions of the texts that the wrong answer is for."""
    count = _wrong_next(behaviour)
    if count is not None:
        return list(range(len(texts))) if count > 0 else []
    return [i for i, text in enumerate(texts) if behaviour.wrong_for in text]


def _failure(behaviour: Behaviour) -> Answer:
    status = behaviour.fail_status
    kind = "server_error" if status >= 500 else "requests" if status == 429 else BAD_REQUEST
    code = "rate_limit_exceeded" if status == 429 else None
    refusal = _refusal(status, f"Simulated failure with status {status}", kind=kind, code=code)
    return dataclasses.replace(refusal, retry_after=str(behaviour.retry_after))


def _refusal(status: int, message: str, *, kind: str = BAD_REQUEST, code: str | None = None) -> Answer:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return Answer(status, msgspec.json.encode({"error": error}))
