"""What embedding servers answer when something is wrong with them, in their own words.

The sources of the words are vLLM, TEI, Infinity, SGLang, llama.cpp, Ollama, Triton and OpenAI, each of which has an
envelope of its own. Which request meets which fault follows from the seed and the order of the requests.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.servers.gpu import answers
from tests.servers.gpu.profiles import Fault, Profile

_HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>"
_BUSY: Sequence[tuple[int, bytes]] = (
    (429, b'{"message":"Model is overloaded","code":429,"type":"Overloaded"}'),
    (
        429,
        b'{"error":{"message":"model gpu-embedder is currently overloaded","type":null,"param":null,"code":429}}',
    ),
    (
        503,
        b'{"error":{"message":"The engine is currently busy and cannot accept new requests. Please try again later '
        b'or on a different instance.","type":"Service Unavailable","param":null,"code":503}}',
    ),
    (503, b'{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}'),
    (
        503,
        b'{"error":{"message":"server busy, please try again.  maximum pending requests exceeded",'
        b'"type":"api_error","param":null,"code":null}}',
    ),
    (503, b'{"error":"Exceeds maximum queue size"}'),
)
_QUOTA: Sequence[tuple[int, bytes]] = (
    (
        429,
        b'{"error":{"message":"Rate limit reached for gpu-embedder. Please try again later.","type":"requests",'
        b'"param":null,"code":"rate_limit_exceeded"}}',
    ),
)
_STARTING: Sequence[tuple[int, bytes]] = (
    (503, b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'),
    (503, b'{"message":"unhealthy","code":503,"type":"Unhealthy"}'),
    (503, b"no healthy upstream"),
)
_BACKEND: Sequence[tuple[int, bytes]] = (
    (424, b'{"message":"Backend error: DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)","code":424,"type":"Backend"}'),
    (
        500,
        b'{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.",'
        b'"type":"InternalServerError","param":null,"code":500}}',
    ),
    (500, b'{"error":{"code":500,"message":"Compute error.","type":"server_error"}}'),
    (500, b'{"error":{"message":"InternalServerError: CUDA error","code":500}}'),
    (502, _HTML),
)
_ERROR_200: Sequence[tuple[int, bytes]] = (
    (200, b'{"error":{"message":"Internal server error","type":"server_error","param":null,"code":500}}'),
    (200, b'{"object":"error","message":"Internal server error","type":"InternalServerError","code":500}'),
    (200, b'{"detail":"Internal Server Error"}'),
)
_WORDS = {
    Fault.BUSY: _BUSY,
    Fault.QUOTA: _QUOTA,
    Fault.STARTING: _STARTING,
    Fault.BACKEND: _BACKEND,
    Fault.ERROR_200: _ERROR_200,
}
_ALL = tuple(Fault)
_AT_ONCE = (Fault.BUSY, Fault.QUOTA, Fault.STARTING)
RIGHT = (None, Fault.HANG, Fault.SHUFFLED)
"""Under these the answer holds every text's own vector."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it goes out. `cut`: its connection ends before the half of it is there."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: str = ""
    cut: bool = False


class Faults:
    """Decides who meets which fault, and makes the answers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"faults {seed}")

    def draw(self, profile: Profile) -> Fault | None:
        """What happens to the next request."""
        if not profile.faults or self._random.random() >= profile.faults:
            return None
        return profile.fault or self._random.choice(_ALL)

    def refusal(self, profile: Profile, fault: Fault | None) -> answers.Refused | None:
        """The answer of a server that does not even begin, if that is the fault."""
        if fault not in _AT_ONCE:
            return None
        headers = f"retry-after: {profile.retry_after_s:g}\r\n" if fault is Fault.QUOTA else ""
        return answers.Refused(*self._random.choice(_WORDS[fault]), headers)

    def reply(
        self, profile: Profile, fault: Fault | None, texts: Sequence[bytes], base64: bool, tokens: int
    ) -> Reply:
        """The answer to a request that was computed."""
        if fault in _WORDS:
            return Reply(*self._random.choice(_WORDS[fault]))
        if fault is Fault.HTML:
            return Reply(200, _HTML, "text/html")
        if fault in (Fault.COUNT, Fault.DIM, Fault.NAN, Fault.ZERO, Fault.SHUFFLED, Fault.DUPLICATE):
            return Reply(200, self._list(profile, fault, texts, base64, tokens))
        body = answers.embeddings(profile, texts, base64, tokens)
        if fault is Fault.TRUNCATED:
            return Reply(200, body[: self._random.randrange(1, len(body))])
        return Reply(200, body, cut=fault is Fault.CUT)

    def _list(self, profile: Profile, fault: Fault, texts: Sequence[bytes], base64: bool, tokens: int) -> bytes:
        """An embedding list with something about it that a client must notice, or (shuffled) must put up with."""
        indexes = list(range(len(texts)))
        dim = profile.dim - 1 if fault is Fault.DIM and profile.dim > 1 else profile.dim
        vectors = answers.encoded(texts, dim, base64)
        victim = self._random.randrange(len(texts))
        match fault:
            case Fault.COUNT:
                del indexes[victim], vectors[victim]
            case Fault.DUPLICATE:
                indexes[victim] = (victim + 1) % max(2, len(texts))
            case Fault.NAN:
                vectors[victim] = answers.constant(float("nan"), dim, base64)
            case Fault.ZERO:
                vectors[victim] = answers.constant(0.0, dim, base64)
            case Fault.SHUFFLED:
                order = self._random.sample(indexes, len(indexes))
                indexes, vectors = order, [vectors[i] for i in order]
        return answers.embedding_list(profile, indexes, vectors, tokens)
