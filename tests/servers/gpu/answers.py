"""The bodies of the simulated GPU server. Vectors are encoded once: each text has one of `POOL` vectors.

Which one depends on the text alone, so a test can say which vector each row must have (`vector_of`).
"""

from __future__ import annotations

import base64
import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.servers import vectors
from tests.servers.gpu.batches import Outcome
from tests.servers.gpu.profiles import Profile

POOL = 4096
MOST_INPUTS = 2048
_INVALID_INPUT = (
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
)
_HEADS = tuple(b'{"object":"embedding","index":%d,"embedding":' % i for i in range(MOST_INPUTS))
_SEPARATED = (_HEADS[0], *(b"," + head for head in _HEADS[1:]))


def vector_of(text: str, dim: int) -> NDArray[np.float32]:
    """The vector of a text: float32[dim] of length 1, one of `POOL`, so that two texts in 4096 share theirs."""
    return vectors.vector_of(str(_place(text.encode())), dim)


def vectors_of(texts: Sequence[str], dim: int) -> NDArray[np.float32]:
    """float32[n, dim]: `vector_of` each text, quickly for many."""
    pool = vectors.vectors_of([str(i) for i in range(POOL)], dim)
    return pool[[_place(text.encode()) for text in texts]]


def _place(text: bytes) -> int:
    return zlib.crc32(text) % POOL


class EmbeddingRequest(msgspec.Struct):
    input: str | list[str]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"


class Refused(Exception):  # noqa: N818 (an answer, not an error of ours)
    """The answer to a request that needs no GPU."""

    def __init__(self, status: int, body: bytes, headers: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers


_decode = msgspec.json.Decoder(EmbeddingRequest).decode


def read(profile: Profile, body: bytes) -> tuple[list[bytes], bool]:
    """The texts in UTF-8, and whether their vectors are wanted in base64. Raises Refused."""
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, openai_error(str(error))) from None
    texts = [request.input] if isinstance(request.input, str) else request.input
    if request.model != profile.model:
        message = f"The model `{request.model}` does not exist or you do not have access to it."
        raise Refused(404, openai_error(message, code="model_not_found"))
    if not texts or "" in texts or len(texts) > MOST_INPUTS:
        raise Refused(400, openai_error(_INVALID_INPUT))
    if profile.poison and any(profile.poison in text for text in texts):
        raise Refused(400, openai_error(_INVALID_INPUT))
    return [text.encode() for text in texts], request.encoding_format == "base64" and not profile.floats


def tokens_of(texts: Sequence[bytes]) -> list[int]:
    """Tokens of each text: a quarter of its bytes, rounded up."""
    return [len(text) + 3 >> 2 for text in texts]


def embeddings(profile: Profile, texts: Sequence[bytes], base64_wanted: bool, tokens: int) -> bytes:
    """The body with the vectors of these texts."""
    return _body(profile, _SEPARATED[: len(texts)], encoded(texts, profile.dim, base64_wanted), tokens)


def embedding_list(profile: Profile, indexes: Sequence[int], vectors: Sequence[bytes], tokens: int) -> bytes:
    """The body with these vectors, as `encoded` gives them, each under its index."""
    heads = [(b"," if place else b"") + _HEADS[index] for place, index in enumerate(indexes)]
    return _body(profile, heads, vectors, tokens)


def encoded(texts: Sequence[bytes], dim: int, base64_wanted: bool) -> list[bytes]:
    """The vector of each text as JSON, and the brace after it."""
    pool = _pool(dim, base64_wanted)
    return [pool[zlib.crc32(text) % POOL] for text in texts]


def constant(value: float, dim: int, base64_wanted: bool) -> bytes:
    """A vector of this value, encoded as the others; not a number is written as Python's json does."""
    if base64_wanted:
        return _in_base64(np.full(dim, value, np.float32))
    return json.dumps([value] * dim).encode() + b"}"


def _body(profile: Profile, heads: Sequence[bytes], vectors: Sequence[bytes], tokens: int) -> bytes:
    parts = [b""] * (2 * len(heads) + 2)
    parts[0] = b'{"object":"list","data":['
    parts[1:-1:2] = heads
    parts[2:-1:2] = vectors
    parts[-1] = b'],"model":"%s","usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        profile.model.encode(),
        tokens,
        tokens,
    )
    return b"".join(parts)


def _in_base64(vector: NDArray[np.float32]) -> bytes:
    return b'"%s"}' % base64.b64encode(vector.tobytes())


@functools.lru_cache(maxsize=4)
def _pool(dim: int, base64_wanted: bool) -> list[bytes]:
    """Each vector of the pool as JSON, and the brace after it."""
    rows = vectors.vectors_of([str(i) for i in range(POOL)], dim)
    if base64_wanted:
        return [_in_base64(row) for row in rows]
    return [msgspec.json.encode(row.tolist()) + b"}" for row in rows]


def warm_up(profile: Profile) -> None:
    """Encodes the pool now, so that no request waits for it."""
    _pool(profile.dim, not profile.floats)


def openai_error(message: str, *, kind: str = "invalid_request_error", code: str | int | None = None) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def failure(profile: Profile, outcome: Outcome, count: int) -> tuple[int, bytes]:
    """Status and body for a request of `count` texts that ended so, in the words of the profile's dialect."""
    status, message, kind = _FAILURES[profile.dialect][outcome]
    text = message.format(count=count, most=profile.most_inputs, model=profile.model)
    if profile.dialect == "tei":
        return status, msgspec.json.encode({"message": text, "code": status, "type": kind})
    code = kind if profile.dialect == "openai" else status
    return status, openai_error(text, kind=kind, code=code or None)


_TOO_MANY = "batch size {count} > maximum allowed batch size {most}"
_RATE = "Rate limit reached for {model}. Please try again later."
_CUDA = 'DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")'
_FAILURES: Mapping[str, Mapping[Outcome, tuple[int, str, str]]] = {
    "openai": {
        Outcome.TOO_MANY: (413, _TOO_MANY, "invalid_request_error"),
        Outcome.OVERLOADED: (429, "The server is overloaded. Please try again later.", "server_is_overloaded"),
        Outcome.QUOTA: (429, _RATE, "rate_limit_exceeded"),
        Outcome.OOM: (500, "CUDA out of memory. Tried to allocate 2.00 GiB.", "server_error"),
    },
    "tei": {
        Outcome.TOO_MANY: (422, _TOO_MANY, "Validation"),
        Outcome.OVERLOADED: (429, "Model is overloaded", "Overloaded"),
        Outcome.QUOTA: (429, _RATE, "Overloaded"),
        Outcome.OOM: (424, f"Backend error: {_CUDA}", "Backend"),
    },
    "infinity": {
        Outcome.TOO_MANY: (422, "List should have at most {most} items after validation, not {count}", "too_long"),
        Outcome.OVERLOADED: (429, "model {model} is currently overloaded", ""),
        Outcome.QUOTA: (429, _RATE, ""),
        Outcome.OOM: (500, "InternalServerError: CUDA out of memory. Tried to allocate 2.00 GiB.", ""),
    },
}
