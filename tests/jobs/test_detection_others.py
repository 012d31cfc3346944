"""llama.cpp, Ollama, KServe, Cohere and Voyage, looked at and embedded with over real HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import DIALECTS
from actors.embedder.faults import Kind
from actors.errors import UserError
from actors.messages import Endpoint, Limits
from jobs import probing
from jobs.detection import detect
from jobs.endpoints import Server, find_endpoints
from jobs.settings import Endpoint as Asked
from jobs.settings import Vectors
from tests.servers.fixture import EmbeddingServer
from tests.servers.hosted_apis import COHERE_MODELS, Cohere, Voyage
from tests.servers.in_thread import Servers, servers
from tests.servers.kserve_server import KServe
from tests.servers.kserve_server import Model as KServeModel
from tests.servers.llamacpp_server import LlamaCpp
from tests.servers.ollama_server import Model as OllamaModel
from tests.servers.ollama_server import Ollama
from tests.servers.vectors import vectors_of

__all__ = ["servers"]

Fake = LlamaCpp | Ollama | KServe | Cohere | Voyage
FAKES = {"llamacpp": LlamaCpp, "ollama": Ollama, "kserve": KServe, "cohere": Cohere, "voyage": Voyage}
BY_NAME_ONLY = ("cohere", "voyage")  # by the name of their host
SPEAK_OPENAI = ("llamacpp", "ollama")


def look(url: str, truncate: bool = True, vectors: dict[str, Any] | None = None, **endpoint: Any) -> Server:
    return find_endpoints([Asked(url=url, **endpoint)], Vectors(**(vectors or {})), truncate=truncate).servers[0]


def assert_own_vectors(server: Server) -> None:
    expected = vectors_of(probing._PROBE_TEXTS, server.vectors.shape[1])
    np.testing.assert_array_equal(server.vectors, expected)


async def spoken(url: str, dialect: str, model: str) -> bool:
    async def ask(client: Any) -> bool:
        return await detect(client, (dialect,)) is not None

    return await probing.with_client(Endpoint(url, model, dialect, None), ask)


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize("model", ["", "m"])
def test_no_other_dialect_takes_a_server_for_its_own(servers: Servers, kind: str, model: str) -> None:
    fake: Fake = FAKES[kind]()
    if isinstance(fake, KServe) and model:
        fake.models = {model: KServeModel()}
    url = servers.start(fake)
    others = DIALECTS.keys() - {kind} - ({"openai"} if kind in SPEAK_OPENAI or model else set())
    taken = [other for other in others if asyncio.run(spoken(url, other, model))]
    assert taken == []
    assert asyncio.run(spoken(url, kind, model)) is (kind not in BY_NAME_ONLY)


def test_a_server_of_openai_s_kind_is_nothing_else(server: EmbeddingServer) -> None:
    assert [kind for kind in FAKES if asyncio.run(spoken(server.url, kind, "test-embedder"))] == []
    assert look(server.url).endpoint.dialect == "openai"


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_llamacpp(servers: Servers, suffix: str) -> None:
    fake = LlamaCpp()
    url = servers.start(fake)
    found = look(url + suffix)
    assert found.endpoint.dialect == "llamacpp"
    assert found.endpoint.model == fake.model
    assert (found.endpoint.route, found.endpoint.encoding) == (f"{url}/v1/embeddings", "base64")
    assert found.endpoint.limits == Limits(tokens_per_text=2048)
    assert found.description.dim == 32
    assert "llama.cpp b7000" in found.description.server
    assert found.description.told["server"] == "/props"
    assert_own_vectors(found)
    assert fake.asked.routes() == {"/v1/embeddings"}


def test_llamacpp_that_loads_is_waited_for(servers: Servers) -> None:
    for model in (None, "m"):  # a name alone must not make it just any server of OpenAI's kind
        fake = LlamaCpp(loading=2)
        assert look(servers.start(fake), model=model).endpoint.dialect == "llamacpp"
        assert fake.loading == 0


def test_llamacpp_that_cannot_embed(servers: Servers) -> None:
    with pytest.raises(UserError, match="Start it with `--embeddings`"):
        look(servers.start(LlamaCpp(embeddings=False)))


def test_llamacpp_gives_raw_vectors_and_no_fewer_dimensions(servers: Servers) -> None:
    url = servers.start(LlamaCpp())
    raw = look(url, vectors={"normalize": "no"}).vectors
    np.testing.assert_allclose(np.linalg.norm(raw, axis=1), 2, rtol=1e-6)
    with pytest.raises(UserError, match="32 dimensions, not the 8 of --dimensions"):
        look(url, vectors={"dimensions": 8})


def test_llamacpp_with_a_key(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    url = servers.start(LlamaCpp(api_key="sesame"))
    with pytest.raises(UserError, match="refused a request without a key"):
        look(url)
    monkeypatch.setenv("A_KEY", "sesame")
    assert look(url, api_key_env="A_KEY").endpoint.dialect == "llamacpp"


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_ollama(servers: Servers, suffix: str) -> None:
    fake = Ollama()
    url = servers.start(fake)
    found = look(url + suffix)
    assert found.endpoint.dialect == "ollama"
    assert found.endpoint.model == "nomic-embed-text:latest"  # the other one does not embed
    assert (found.endpoint.route, found.endpoint.encoding) == (f"{url}/v1/embeddings", "base64")
    assert found.endpoint.limits == Limits(tokens_per_text=512)
    assert found.description.dim == 32
    assert "Ollama 0.33.0" in found.description.server
    assert found.description.told["server"] == "/api/version"
    assert_own_vectors(found)
    assert fake.asked.routes() == {"/v1/embeddings"}


@pytest.mark.parametrize("fields", [{"encoding": "float"}, {"route": "{}/api/embed"}])
def test_ollama_s_own_route_can_be_asked_for(servers: Servers, fields: dict[str, str]) -> None:
    fake = Ollama()
    url = servers.start(fake)
    found = look(url, **{name: value.format(url) for name, value in fields.items()})
    np.testing.assert_allclose(found.vectors, vectors_of(probing._PROBE_TEXTS, 32), rtol=1e-6)
    assert fake.asked.routes() == {"/api/embed"}


def test_ollama_is_told_not_to_cut_on_the_route_that_can_be_told(servers: Servers) -> None:
    fake = Ollama(models={"m:latest": OllamaModel(context=20)})
    url = servers.start(fake)
    with pytest.raises(UserError, match="input length exceeds the context length"):
        look(url, truncate=False)
    assert fake.asked.routes() == {"/api/embed"}
    cut = look(url, truncate=True).endpoint
    assert (cut.dialect, cut.route) == ("ollama", f"{url}/v1/embeddings")
    fitting = Ollama()
    url = servers.start(fitting)
    uncut = look(url, truncate=False).endpoint
    assert (uncut.route, uncut.encoding) == (f"{url}/api/embed", "float")


def test_ollama_before_it_told_capabilities_and_knew_base64(servers: Servers) -> None:
    fake = Ollama(models={"m:latest": OllamaModel(capabilities=None)}, knows_base64=False)
    found = look(servers.start(fake))
    assert (found.endpoint.dialect, found.endpoint.model) == ("ollama", "m:latest")
    assert_own_vectors(found)


def test_ollama_without_the_model_that_was_named(servers: Servers) -> None:
    with pytest.raises(UserError, match=r"no model 'x'.*model 'x' not found"):
        look(servers.start(Ollama()), model="x")


def test_ollama_of_several_models_wants_one_named(servers: Servers) -> None:
    url = servers.start(Ollama(models={"a:latest": OllamaModel(), "b:latest": OllamaModel(dim=16)}))
    with pytest.raises(UserError, match=r"several models \(a:latest, b:latest\)"):
        look(url)
    assert look(url, model="b").description.dim == 16


def test_ollama_shortens(servers: Servers) -> None:
    fake = Ollama()
    url = servers.start(fake)
    assert look(url, encoding="float", vectors={"dimensions": 8}).vectors.shape[1] == 8
    assert all(msgspec.json.decode(body)["dimensions"] == 8 for _, body in fake.asked.requests)


@pytest.mark.parametrize("suffix", ["", "/v2", "/v1"])
def test_kserve(servers: Servers, suffix: str) -> None:
    fake = KServe()
    url = servers.start(fake)
    found = look(url + suffix)
    assert found.endpoint.dialect == "kserve"
    assert found.endpoint.model == "embedder"
    assert found.endpoint.route == f"{url}/v2/models/embedder/infer"
    assert found.endpoint.encoding == "TEXT[N,1] -> EMBEDDING, binary"
    assert found.endpoint.limits == Limits(texts_per_request=8, bytes_per_request=64 << 20)
    assert found.description.dim == 32
    assert found.description.batching == "merges requests, up to 8 texts (dynamic_batching)"
    assert "triton 2.73.0" in found.description.server
    assert_own_vectors(found)


def test_kserve_in_half_precision(servers: Servers) -> None:
    model = KServeModel(outputs=(("EMBEDDING", "FP16", (32,)),))
    found = look(servers.start(KServe(models={"embedder": model})))
    expected = vectors_of(probing._PROBE_TEXTS, 32).astype(np.float16)
    np.testing.assert_array_equal(found.vectors, expected.astype(np.float32))


def test_kserve_whose_model_takes_a_row_of_any_size(servers: Servers) -> None:
    model = KServeModel(
        max_batch_size=0,
        dynamic_batching=False,
        inputs=(("TEXT", "BYTES", (-1,)),),
        outputs=(("EMBEDDING", "FP32", (-1, 32)),),
    )
    found = look(servers.start(KServe(models={"embedder": model})))
    assert found.endpoint.encoding == "TEXT[N] -> EMBEDDING, binary"
    assert found.endpoint.limits.texts_per_request is None
    assert found.description.batching.startswith("merges nothing")
    assert_own_vectors(found)


def test_kserve_without_triton_s_pages_and_extension(servers: Servers) -> None:
    fake = KServe(is_triton=False, extensions=[])
    url = servers.start(fake)
    with pytest.raises(UserError, match="does not say which model it serves; name it with --model"):
        look(url)
    found = look(url, model="embedder")
    assert found.endpoint.dialect == "kserve"
    assert found.endpoint.encoding == "TEXT[N,1] -> EMBEDDING, json"
    assert found.endpoint.limits == Limits()
    np.testing.assert_allclose(found.vectors, vectors_of(probing._PROBE_TEXTS, 32), rtol=1e-6)


def test_kserve_that_refuses_bytes_is_asked_in_json(servers: Servers) -> None:
    found = look(servers.start(KServe(refuses_bytes=True)))
    assert found.endpoint.encoding == "TEXT[N,1] -> EMBEDDING, json"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            KServeModel(outputs=(("POOLED", "FP32", (32,)), ("EMBEDDING", "FP32", (32,)))),
            r"takes TEXT BYTES\[-1, 1\] and gives POOLED FP32\[-1, 32\], EMBEDDING FP32\[-1, 32\]",
        ),
        (
            KServeModel(inputs=(("TEXT", "BYTES", (1,)), ("LANGUAGE", "BYTES", (1,)))),
            r"takes TEXT BYTES\[-1, 1\], LANGUAGE BYTES\[-1, 1\] and gives",
        ),
        (
            KServeModel(inputs=(("input_ids", "INT64", (-1,)), ("attention_mask", "INT64", (-1,)))),
            r"takes input_ids INT64\[-1, -1\], attention_mask INT64\[-1, -1\] and gives",
        ),
    ],
)
def test_kserve_whose_tensors_are_not_clear_says_which_there_are(
    servers: Servers, model: KServeModel, words: str
) -> None:
    with pytest.raises(UserError, match=words) as refused:
        look(servers.start(KServe(models={"m": model})))
    assert "encoding: in endpoints:" in str(refused.value)


def test_kserve_s_tensors_can_be_named(servers: Servers) -> None:
    outputs = (("POOLED", "FP32", (1, 32)), ("SCORES", "FP32", (32,)), ("EMBEDDING", "FP32", (32,)))
    fake = KServe(models={"m": KServeModel(outputs=outputs)})
    url = servers.start(fake)
    for encoding in ("TEXT[N,1] -> EMBEDDING, binary", "TEXT[N,1]->POOLED,json"):
        found = look(url, encoding=encoding)
        assert found.endpoint.encoding == encoding
        np.testing.assert_allclose(found.vectors, vectors_of(probing._PROBE_TEXTS, 32), rtol=1e-6)
    with pytest.raises(UserError, match="'TEXT > EMBEDDING' is not of the form"):
        look(url, encoding="TEXT > EMBEDDING")
    with pytest.raises(UserError, match="unexpected inference output 'NONE' for model 'm'"):
        look(url, encoding="TEXT[N,1] -> NONE, binary")


def test_kserve_s_inputs_that_may_be_left_out_are(servers: Servers) -> None:
    inputs = (("TEXT", "BYTES", (1,)), ("PROMPT", "BYTES", (1,)))
    found = look(servers.start(KServe(models={"m": KServeModel(inputs=inputs, optional=["PROMPT"])})))
    assert found.endpoint.encoding == "TEXT[N,1] -> EMBEDDING, binary"


def test_kserve_s_model_that_is_not_there_or_not_yet(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = KServe(models={"one": KServeModel(), "two": KServeModel(), "new": KServeModel(state="LOADING")})
    url = servers.start(fake)
    with pytest.raises(UserError, match=r"several models \(one, two\)"):
        look(url)
    with pytest.raises(UserError, match=r"no model 'three' .*Request for unknown model: 'three' is not found"):
        look(url, model="three")
    monkeypatch.setattr(probing, "_LOADING_S", 0.0)
    with pytest.raises(UserError, match=f"{Kind.STARTING}: status 503: .* is not at ready state"):
        look(url, model="new")


def test_cohere_s_shape_by_its_name(servers: Servers) -> None:
    fake = Cohere()
    url = servers.start(fake)
    found = look(url, dialect="cohere", model=COHERE_MODELS[0])
    np.testing.assert_allclose(found.vectors, vectors_of(probing._PROBE_TEXTS, 32), rtol=1e-6)
    assert found.endpoint.limits == Limits(texts_per_request=96)
    query = look(url, dialect="cohere", model="m", vectors={"prompt_name": "search_query"})
    assert query.endpoint.route == f"{url}/v2/embed"
    assert msgspec.json.decode(fake.asked.requests[-1][1])["input_type"] == "search_query"
    assert look(url, dialect="cohere", model="m", encoding="base64").vectors.shape == found.vectors.shape
    assert fake.asked.routes() == {"/v2/embed"}


def test_voyage_s_shape_by_its_name(servers: Servers) -> None:
    fake = Voyage()
    url = servers.start(fake)
    found = look(url, dialect="voyage", model="m")
    assert_own_vectors(found)
    assert found.endpoint.limits == Limits(texts_per_request=128, tokens_per_request=120_000)
    assert_own_vectors(look(url, dialect="voyage", model="m", encoding="float"))
