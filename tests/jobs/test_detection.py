"""Each kind of server is known for what it is and asked in the way that suits it; whole runs at two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.embedder.client import EmbeddingClient
from actors.embedder.dialects import DIALECTS
from actors.errors import UserError
from actors.messages import Endpoint, Limits
from jobs.detection import detect
from jobs.endpoints import Server, find_endpoints
from jobs.probing import _PROBE_TEXTS
from jobs.settings import Endpoint as EndpointSettings
from jobs.settings import Vectors
from tests.jobs.corpora import assert_right, matrix, read_out, texts, write_jsonl
from tests.servers.fixture import EmbeddingServer
from tests.servers.hosted import RAW, HostedServer, Model
from tests.servers.infinity_server import InfinityServer
from tests.servers.sglang_server import SGLangServer
from tests.servers.tei_server import TEIServer
from tests.servers.vectors import vectors_of
from tests.servers.vllm_server import VLLMServer

STAND_INS: dict[str, Callable[[], HostedServer]] = {
    "vllm": VLLMServer,
    "tei": TEIServer,
    "sglang": SGLangServer,
    "infinity": InfinityServer,
}
SHORT = Model(most_tokens=30)  # more than the longest text of our own has


def found(url: str, *, truncate: bool = True, model: str | None = None, **vectors: Any) -> Server:
    asked = [EndpointSettings(url=url, model=model)]
    (server,) = find_endpoints(asked, Vectors(**vectors), truncate=truncate).servers
    return server


def spoken(url: str) -> set[str]:
    """The dialects that know themselves there; OpenAI's, which many imitate, is left out."""

    async def those() -> set[str]:
        client = EmbeddingClient(Endpoint(url, "", "openai", None))
        try:
            return {name for name in DIALECTS if name != "openai" and await detect(client, (name,))}
        finally:
            await client.aclose()

    return asyncio.run(those())


def assert_vectors(server: Server, expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(server.vectors, expected, rtol=1e-6)


PLAIN = vectors_of(_PROBE_TEXTS, 32)


# --- which it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STAND_INS)
def test_a_server_is_of_one_kind_only(kind: str) -> None:
    with STAND_INS[kind]() as stand_in:
        assert spoken(stand_in.url) == {kind}


@pytest.mark.parametrize(
    ("kind", "name", "switches"),
    [
        ("vllm", "vLLM", {"tokens_per_gpu_batch": "--max-num-batched-tokens and --max-num-seqs"}),
        ("sglang", "SGLang", {"texts_in_flight": "--max-queued-requests"}),
        (
            "infinity",
            "Infinity",
            {"texts_in_flight": "INFINITY_QUEUE_SIZE", "tokens_per_gpu_batch": "--batch-size"},
        ),
        (
            "tei",
            "TEI",
            {"texts_in_flight": "--max-concurrent-requests", "tokens_per_gpu_batch": "--max-batch-tokens"},
        ),
    ],
)
def test_advice_can_name_the_server_and_its_own_options(kind: str, name: str, switches: dict[str, str]) -> None:
    with STAND_INS[kind]() as stand_in:
        endpoint = found(stand_in.url).endpoint
    assert endpoint.server.startswith(name)
    assert switches.items() <= dict(endpoint.switches).items()


def test_a_server_that_is_none_of_them_speaks_openai(server: EmbeddingServer) -> None:
    assert spoken(server.url) == set()
    assert found(server.url).endpoint.dialect == "openai"


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_vllm(suffix: str) -> None:
    with VLLMServer() as vllm:
        server = found(vllm.url + suffix)
        assert_vectors(server, PLAIN)
        assert server.description.server == "vLLM 0.32.0"
        assert server.description.told["server"] == "/version"
        endpoint = server.endpoint
        assert (endpoint.dialect, endpoint.model) == ("vllm", "test-embedder")
        assert endpoint.route == f"{vllm.url}/v1/embeddings"
        assert (endpoint.encoding, endpoint.counted) == ("bytes_only", "base64")
        assert endpoint.limits == Limits(tokens_per_text=512)
        assert {body["encoding_format"] for body in vllm.asked_at("/v1/embeddings")} == {"bytes_only", "base64"}
        assert all(body["truncate_prompt_tokens"] == -1 for _, body in vllm.asked)


def test_an_old_vllm_is_asked_for_base64() -> None:
    with VLLMServer(version="0.10.2") as vllm:
        server = found(vllm.url)
        assert_vectors(server, PLAIN)
        assert (server.endpoint.encoding, server.endpoint.counted) == ("base64", "")


def test_an_older_vllm_is_not_asked_to_cut_texts() -> None:
    with VLLMServer(version="0.8.5") as vllm:
        endpoint = found(vllm.url).endpoint
        assert (endpoint.encoding, endpoint.wanted.truncate, endpoint.cuts) == ("base64", False, False)
        with pytest.raises(UserError, match="does not exist"):
            found(vllm.url, model="another")


@pytest.mark.parametrize("suffix", ["", "/v1"])
def test_tei(suffix: str) -> None:
    with TEIServer() as tei:
        server = found(tei.url + suffix)
        assert_vectors(server, PLAIN)
        assert server.description.server == "TEI 1.9.3"
        assert server.description.told["server"] == "/info"
        endpoint = server.endpoint
        assert (endpoint.dialect, endpoint.model) == ("tei", "test-embedder")
        assert (endpoint.route, endpoint.encoding) == (f"{tei.url}/v1/embeddings", "base64")
        assert endpoint.limits == Limits(
            tokens_per_text=512,
            texts_per_request=32,
            bytes_per_request=2_000_000,
            texts_in_flight=512,
            tokens_per_gpu_batch=16384,
        )


def test_sglang() -> None:
    with SGLangServer(most_queued=400) as sglang:
        server = found(sglang.url)
        assert_vectors(server, PLAIN)
        assert server.description.server == "SGLang 0.5.23"
        assert (server.endpoint.dialect, server.endpoint.encoding) == ("sglang", "base64")
        limits = Limits(tokens_per_text=511, texts_in_flight=400, tokens_per_gpu_batch=16384)
        assert server.endpoint.limits == limits


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("", "/v1"), ("/v1", ""), ("/v1", "/v1")])
def test_infinity_below_its_prefix(prefix: str, suffix: str) -> None:
    with InfinityServer(prefix=prefix) as infinity:
        server = found(infinity.url + suffix)
        assert_vectors(server, PLAIN)
        assert server.endpoint.dialect == "infinity"
        assert server.endpoint.route == f"{infinity.url}{prefix}/embeddings"
        assert server.endpoint.limits == Limits(texts_per_request=2048, texts_in_flight=32_000, texts_merged=256)


# --- what is wanted of the vectors ------------------------------------------------------------------------------


def test_an_own_prompt_is_asked_for_where_it_can_be() -> None:
    expected = vectors_of(["query: " + text for text in _PROBE_TEXTS], 32)
    with VLLMServer() as vllm, TEIServer() as tei:
        for stand_in, route in ((vllm, "/v2/embed"), (tei, "/embed")):
            server = found(stand_in.url, prompt_name="query")
            assert_vectors(server, expected)
            assert server.endpoint.route == stand_in.url + route


@pytest.mark.parametrize("kind", ["vllm", "tei"])
def test_a_prompt_that_the_server_does_not_have_is_told(kind: str) -> None:
    with STAND_INS[kind]() as stand_in, pytest.raises(UserError, match="nonsense"):
        found(stand_in.url, prompt_name="nonsense")


@pytest.mark.parametrize("kind", ["sglang", "infinity"])
def test_a_server_without_prompts_is_not_asked_for_one(kind: str) -> None:
    with STAND_INS[kind]() as stand_in, pytest.raises(UserError, match="no prompts of its own"):
        found(stand_in.url, prompt_name="query")


def test_vectors_are_as_the_model_gives_them_where_that_is_wanted() -> None:
    with VLLMServer() as vllm, TEIServer() as tei:
        for stand_in in (vllm, tei):
            assert_vectors(found(stand_in.url, normalize="no"), PLAIN * RAW)
            assert not any("normalize" in body for body in vllm.asked_at("/v1/embeddings"))


@pytest.mark.parametrize("kind", STAND_INS)
def test_shortened_vectors_have_length_one_whoever_makes_it_so(kind: str) -> None:
    with STAND_INS[kind]() as stand_in:
        server = found(stand_in.url, dimensions=8)
    short = PLAIN[:, :8]
    assert_vectors(server, short / np.linalg.norm(short, axis=1, keepdims=True))
    assert server.endpoint.unit == (kind == "infinity")


@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize("truncate", [True, False])
def test_tei_is_asked_to_cut_long_texts_only_where_it_would_not_do_as_is_wanted(cuts: bool, truncate: bool) -> None:
    with TEIServer(auto_truncate=cuts) as tei:
        endpoint = found(tei.url, truncate=truncate).endpoint
        assert endpoint.route == tei.url + ("/v1/embeddings" if cuts == truncate else "/embed")
        assert endpoint.encoding == ("base64" if cuts == truncate else "float")


def test_a_route_that_is_set_is_asked_as_it_wants_to_be() -> None:
    with TEIServer() as tei, VLLMServer() as vllm:
        for stand_in, path in ((tei, "/embed"), (vllm, "/v2/embed")):
            asked = [EndpointSettings(url=stand_in.url, route=stand_in.url + path)]
            (server,) = find_endpoints(asked, Vectors(), truncate=True).servers
            assert_vectors(server, PLAIN)
            assert {at for at, _ in stand_in.asked} == {path}


def test_a_prompt_is_never_lost_on_a_route_that_has_none() -> None:
    with TEIServer() as tei:
        asked = [EndpointSettings(url=tei.url, route=f"{tei.url}/v1/embeddings")]
        with pytest.raises(UserError, match="cannot be used"):
            find_endpoints(asked, Vectors(prompt_name="query"), truncate=True)


def test_a_key_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEI_KEY", "secret")
    with TEIServer(api_key="secret") as tei:
        with pytest.raises(UserError, match="refused a request without a key"):
            found(tei.url)
        asked = [EndpointSettings(url=tei.url, api_key_env="TEI_KEY")]
        (server,) = find_endpoints(asked, Vectors(), truncate=True).servers
        assert server.endpoint.dialect == "tei"


# --- whole runs -------------------------------------------------------------------------------------------------


def some_too_long(count: int = 2000) -> list[str]:
    """Distinct texts, every other one too long for a model that takes no more than `SHORT` does."""
    rows = [" ".join(f"{i}w{word}" for word in range(1 + i % 56)) for i in range(count)]
    assert any(SHORT.tokens(row) > SHORT.most_tokens for row in rows)
    return rows


def test_a_run_at_vllm_brings_every_row_as_bytes(rayembed: Any, tmp_path: Path) -> None:
    rows = some_too_long()
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    with VLLMServer(SHORT) as vllm:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", vllm.url, "--json")
        assert run.wait() == 0, run.err
        encodings = [body["encoding_format"] for body in vllm.asked_at("/v1/embeddings")]
    assert_right(tmp_path / "out", [SHORT.cut(row) for row in rows])
    assert 0 < encodings.count("base64") < encodings.count("bytes_only")


@pytest.mark.parametrize("auto_truncate", [True, False], ids=["/v1/embeddings", "/embed"])
def test_a_run_at_tei_brings_every_row(rayembed: Any, tmp_path: Path, auto_truncate: bool) -> None:
    rows = some_too_long()
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    with TEIServer(SHORT, auto_truncate=auto_truncate, permits=96) as tei:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", tei.url, "--json")
        assert run.wait() == 0, run.err
        ways = {path for path, _ in tei.asked}
    assert_right(tmp_path / "out", [SHORT.cut(row) for row in rows])
    assert ways == {"/v1/embeddings" if auto_truncate else "/embed"}


def test_texts_that_vllm_is_not_to_cut_are_rejected(rayembed: Any, tmp_path: Path) -> None:
    rows = some_too_long(400)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    (tmp_path / "c.yaml").write_text("input: {too_long: reject}\n")
    with VLLMServer(SHORT) as vllm:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", vllm.url, "--json", "--config", "c.yaml")
        assert run.wait() == 3, run.err
    kept = [i for i, row in enumerate(rows) if SHORT.tokens(row) <= SHORT.most_tokens]
    table = read_out(tmp_path / "out")
    assert table.column("id").to_pylist() == kept
    np.testing.assert_array_equal(matrix(table), vectors_of([rows[i] for i in kept], 32))


def test_texts_of_white_space_are_the_only_ones_that_sglang_refuses(rayembed: Any, tmp_path: Path) -> None:
    rows = texts(1500)
    blank = (3, 700, 1499)
    for i in blank:
        rows[i] = " " * (i + 1)
    corpus = write_jsonl(tmp_path / "c.jsonl", rows)
    with SGLangServer(most_queued=256) as sglang:
        run = rayembed("run", corpus, "-o", "out", "--endpoint", sglang.url, "--json")
        assert run.wait() == 3, run.err
    table = read_out(tmp_path / "out")
    kept = [i for i in range(len(rows)) if i not in blank]
    assert table.column("id").to_pylist() == kept
    np.testing.assert_array_equal(matrix(table), vectors_of([rows[i] for i in kept], 32))
