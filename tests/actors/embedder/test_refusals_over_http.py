"""What each kind of server refuses, over real HTTP, in its own words: the fault that a dialect's request meets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors.embedder.client import EmbeddingClient
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Wanted
from tests.servers.hosted import HostedServer, Model
from tests.servers.hosted_apis import Cohere
from tests.servers.in_thread import Fake, serving
from tests.servers.infinity_server import InfinityServer
from tests.servers.kserve_server import KServe
from tests.servers.kserve_server import Model as KServeModel
from tests.servers.llamacpp_server import LlamaCpp
from tests.servers.ollama_server import Model as OllamaModel
from tests.servers.ollama_server import Ollama
from tests.servers.sglang_server import SGLangServer
from tests.servers.tei_server import TEIServer
from tests.servers.vllm_server import VLLMServer

SHORT = Model(most_tokens=10)
LONG = ["word " * 40]
FEW, MANY = ["a text", "another"], [f"text {i}" for i in range(40)]
TENSORS = "TEXT[N,1] -> EMBEDDING, binary"
OWN_ROUTE = {"route": "/api/embed", "wanted": Wanted(truncate=False)}
UNCUT = {"wanted": Wanted(truncate=False)}
Make = Callable[[], HostedServer | Fake]

REFUSALS: list[tuple[str, Make, dict[str, Any], list[str], Kind, int, dict[str, Any]]] = [
    ("vllm", lambda: VLLMServer(most_queued=1), {}, FEW, Kind.OVERLOADED, 503, {}),
    ("vllm", lambda: VLLMServer(SHORT), UNCUT, LONG, Kind.TOO_LONG, 400, {"most_tokens": 10}),
    ("vllm", VLLMServer, {"model": "zzz"}, FEW, Kind.NOT_FOUND, 404, {}),
    ("vllm", lambda: VLLMServer(version="0.10.2"), {"encoding": "bytes_only"}, FEW, Kind.BAD_REQUEST, 400, {}),
    ("vllm", VLLMServer, {"wanted": Wanted(prompt_name="none")}, FEW, Kind.BAD_REQUEST, 400, {}),
    ("tei", lambda: TEIServer(permits=1), {}, FEW, Kind.OVERLOADED, 429, {}),
    ("tei", TEIServer, {}, MANY, Kind.TOO_MANY_INPUTS, 422, {"most_rows": 32}),
    ("tei", lambda: TEIServer(version="1.8.3"), {}, MANY, Kind.TOO_MANY_INPUTS, 413, {"most_rows": 32}),
    ("tei", lambda: TEIServer(most_bytes=20), {}, FEW, Kind.TOO_LARGE, 413, {}),
    ("tei", lambda: TEIServer(SHORT), UNCUT, LONG, Kind.TOO_LONG, 422, {"most_tokens": 10, "fits": 10 / 42}),
    ("tei", TEIServer, {"route": "/embed", "wanted": Wanted(prompt_name="x")}, FEW, Kind.BAD_REQUEST, 422, {}),
    ("tei", TEIServer, {}, ["a", ""], Kind.BAD_REQUEST, 400, {}),
    ("tei", lambda: TEIServer(api_key="sesame"), {}, FEW, Kind.AUTH, 401, {"detail": ""}),
    ("infinity", InfinityServer, {"route": "/v1/embeddings"}, FEW, Kind.NOT_FOUND, 404, {}),
    ("sglang", lambda: SGLangServer(most_queued=1), {}, FEW, Kind.OVERLOADED, 503, {}),
    ("sglang", lambda: SGLangServer(SHORT), {}, LONG, Kind.TOO_LONG, 400, {"most_tokens": 10, "fits": 10 / 42}),
    ("sglang", SGLangServer, {}, ["a", "  "], Kind.BAD_REQUEST, 400, {}),
    ("llamacpp", lambda: LlamaCpp(loading=1), {}, FEW, Kind.STARTING, 503, {}),
    ("llamacpp", lambda: LlamaCpp(n_ubatch=10), {}, LONG, Kind.TOO_LONG, 500, {"most_tokens": 10}),
    ("llamacpp", lambda: LlamaCpp(n_ctx=10), {}, LONG, Kind.TOO_LONG, 400, {"most_tokens": 10}),
    ("llamacpp", lambda: LlamaCpp(embeddings=False), {}, FEW, Kind.BAD_REQUEST, 501, {}),
    ("llamacpp", lambda: LlamaCpp(api_key="sesame"), {}, FEW, Kind.AUTH, 401, {}),
    ("llamacpp", LlamaCpp, {"route": "/v2/embed"}, FEW, Kind.NOT_FOUND, 404, {}),
    ("ollama", lambda: Ollama(busy=1), {}, FEW, Kind.OVERLOADED, 503, {}),
    ("ollama", lambda: Ollama(busy=1), OWN_ROUTE, FEW, Kind.OVERLOADED, 503, {}),
    ("ollama", lambda: Ollama({"m:latest": OllamaModel(context=9)}), OWN_ROUTE, LONG, Kind.TOO_LONG, 400, {}),
    ("ollama", Ollama, {"model": "zzz"}, FEW, Kind.NOT_FOUND, 404, {}),
    ("ollama", Ollama, OWN_ROUTE | {"model": "zzz"}, FEW, Kind.NOT_FOUND, 404, {}),
    ("kserve", KServe, {"encoding": TENSORS}, FEW, Kind.NOT_FOUND, 404, {}),
    (
        "kserve",
        lambda: KServe({"test-embedder": KServeModel(max_batch_size=8)}),
        {"encoding": TENSORS},
        MANY,
        Kind.TOO_MANY_INPUTS,
        400,
        {"most_rows": 8},
    ),
    (
        "kserve",
        lambda: KServe({"test-embedder": KServeModel()}),
        {"encoding": TENSORS.replace("EMB", "OTHER")},
        FEW,
        Kind.BAD_REQUEST,
        400,
        {},
    ),
    ("cohere", Cohere, {}, [f"text {i}" for i in range(97)], Kind.TOO_MANY_INPUTS, 400, {"most_rows": 96}),
]


@contextmanager
def running(make: Make) -> Iterator[str]:
    server = make()
    if isinstance(server, HostedServer):
        with server:
            yield server.url
    else:
        with serving(server.application()) as url:
            yield url


async def answer_of(endpoint: Endpoint, texts: list[str]) -> None:
    client = EmbeddingClient(endpoint)
    try:
        await client.embed(texts, None)
    finally:
        await client.aclose()


@pytest.mark.parametrize(("dialect", "make", "about", "texts", "kind", "status", "more"), REFUSALS)
def test_what_is_refused(
    dialect: str,
    make: Make,
    about: dict[str, Any],
    texts: list[str],
    kind: Kind,
    status: int,
    more: dict[str, Any],
) -> None:
    with running(make) as url:
        model = about.get("model") or ("m" if dialect == "ollama" else "test-embedder")
        fields = {**about, "model": model, "route": url + about["route"] if "route" in about else ""}
        if "route" not in about and dialect in ("vllm", "tei") and "wanted" not in about:
            fields["route"] = f"{url}/v1/embeddings"
        with pytest.raises(Fault) as raised:
            asyncio.run(answer_of(Endpoint(url, dialect=dialect, api_key_env=None, **fields), texts))
    found = raised.value
    assert (found.kind, found.status) == (kind, status)
    assert {name: getattr(found, name) for name in more} == more
