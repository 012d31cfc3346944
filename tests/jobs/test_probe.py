"""The table of `rayembed probe` for each kind of server: what it says, and how each line of it is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from jobs.probe import in_words, probe
from jobs.serve.app import create_app
from jobs.serve.backends import load_backend
from jobs.settings import Endpoint, Settings
from tests.servers.fixture import EmbeddingServer
from tests.servers.hosted import HostedServer
from tests.servers.hosted_apis import Cohere, Voyage
from tests.servers.in_thread import Servers, servers, serving
from tests.servers.infinity_server import InfinityServer
from tests.servers.kserve_server import KServe
from tests.servers.llamacpp_server import LlamaCpp
from tests.servers.ollama_server import Ollama
from tests.servers.sglang_server import SGLangServer
from tests.servers.tei_server import TEIServer
from tests.servers.vllm_server import VLLMServer

__all__ = ["servers"]

OF_SUCH, ASKED, NOT_HERE = "known of such servers", "asked", "cannot be read from here"
MERGES = "merges requests, up to a number of tokens: how many texts are in flight counts, not how they are packed"
Table = dict[str, tuple[str, str]]

SAME = {"dimensions": ("32", ASKED), "vector length": ("1 to 1", ASKED)}
HOSTED: list[tuple[str, type[HostedServer], dict[str, object], bytes, Table]] = [
    (
        "/v1/embeddings",
        VLLMServer,
        {},
        b'vllm:num_requests_running{engine="0",model_name="test-embedder"} 3.0\n'
        b'vllm:num_requests_waiting{engine="0",model_name="test-embedder"} 7.0\n',
        {
            "server": ("vLLM 0.32.0", "/version"),
            "dialect": ("vllm", "/version"),
            "model": ("test-embedder", "/v1/models"),
            "encoding": ("bytes_only", ASKED),
            "tokens per text": ("512", "/v1/models"),
            "long texts": ("cut by the server", OF_SUCH),
            "batching": (MERGES, OF_SUCH),
            "queue": ("7 (vllm)", "/metrics"),
        },
    ),
    (
        "/v1/embeddings",
        TEIServer,
        {},
        b"te_queue_size 5\n",
        {
            "server": ("TEI 1.9.3", "/info"),
            "dialect": ("tei", "/info"),
            "model": ("test-embedder", "/info"),
            "encoding": ("base64", ASKED),
            "tokens per text": ("512", "/info"),
            "texts per request": ("32", "/info"),
            "bytes per request": ("2,000,000", OF_SUCH),
            "texts in flight": ("512", "/info"),
            "tokens per GPU batch": ("16,384", "/info"),
            "long texts": ("cut by the server", "/info"),
            "batching": (
                "merges requests, up to 16384 tokens: how many tokens are in flight counts",
                "/info",
            ),
            "queue": ("5 (tei)", "/metrics"),
        },
    ),
    (
        "/embed",
        TEIServer,
        {"auto_truncate": False},
        b"",
        {
            "encoding": ("float", ASKED),
            "queue": ("by how long its texts wait", "x-queue-time of its answers"),
        },
    ),
    (
        "/v1/embeddings",
        SGLangServer,
        {"most_queued": 400},
        b'sglang:num_queue_reqs{model_name="test-embedder"} 9\n',
        {
            "server": ("SGLang 0.5.23", "/server_info"),
            "tokens per text": ("511", "/v1/models"),
            "texts in flight": ("400", "/server_info"),
            "tokens per GPU batch": ("16,384", "/server_info"),
            "long texts": ("refused by the server", "/server_info"),
            "batching": (MERGES, OF_SUCH),
            "queue": ("9 (sglang)", "/metrics"),
        },
    ),
    (
        "/v1/embeddings",
        InfinityServer,
        {"prefix": "/v1"},
        b"",
        {
            "server": ("Infinity", "/v1/models"),
            "texts per request": ("2,048", OF_SUCH),
            "texts in flight": ("32,000", OF_SUCH),
            "texts merged": ("256", "/v1/models"),
            "long texts": ("cut by the server", OF_SUCH),
            "batching": (
                "merges requests into batches of 32 texts, sorted by length within 8 of them: wants 256 texts in "
                "flight",
                "/v1/models",
            ),
            "queue": ("0 (infinity)", "/v1/models"),
        },
    ),
]
OTHERS: list[tuple[str, LlamaCpp | Ollama | KServe | Cohere | Voyage, dict[str, str], Table]] = [
    (
        "/v1/embeddings",
        LlamaCpp(metrics="llamacpp:requests_processing 4\nllamacpp:requests_deferred 60\n"),
        {},
        {
            "server": ("llama.cpp b7000-1a2b3c4d", "/props"),
            "tokens per text": ("2,048", "/props"),
            "long texts": ("refused by the server", OF_SUCH),
            "batching": (
                "merges texts in up to 4 slots, into n_ubatch tokens (512 unless set); the others wait",
                "/props",
            ),
            "queue": ("60 (llama.cpp)", "/metrics"),
        },
    ),
    (
        "/v1/embeddings",
        Ollama(),
        {},
        {
            "server": ("Ollama 0.33.0", "/api/version"),
            "model": ("nomic-embed-text:latest", "/api/tags"),
            "tokens per text": ("512", "/api/show"),
            "long texts": ("cut by the server", OF_SUCH),
            "batching": ("merges nothing: one text at a time, however many are sent", OF_SUCH),
        },
    ),
    (
        "/v2/models/embedder/infer",
        KServe(
            metrics='nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5\n'
            'nv_inference_pending_request_count{model="embedder",version="1"} 8\n'
        ),
        {},
        {
            "server": ("triton 2.73.0 (KServe v2)", "/v2"),
            "model": ("embedder", "/v2/repository/index"),
            "encoding": ("TEXT[N,1] -> EMBEDDING, binary", "/v2/models/embedder"),
            "texts per request": ("8", "/v2/models/embedder/config"),
            "bytes per request": ("67,108,864", OF_SUCH),
            "batching": ("merges requests, up to 8 texts (dynamic_batching)", "/v2/models/embedder/config"),
            "GPU utilisation": ("0.5 (triton)", "/metrics"),
            "queue": ("8 (triton)", "/metrics"),
        },
    ),
    (
        "/v2/embed",
        Cohere(),
        {"dialect": "cohere", "model": "embed-v4.0"},
        {
            "server": ("Cohere API", OF_SUCH),
            "model": ("embed-v4.0", "set"),
            "encoding": ("float", ASKED),
            "texts per request": ("96", OF_SUCH),
            "queue": (NOT_HERE, "name a page with metrics_url"),
        },
    ),
    (
        "/v1/embeddings",
        Voyage(),
        {"dialect": "voyage", "model": "voyage-3"},
        {
            "texts per request": ("128", OF_SUCH),
            "tokens per request": ("120,000", OF_SUCH),
        },
    ),
]


@pytest.fixture(autouse=True)
def no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.embedder.gauges.CARD_GAUGES", ())


def table(url: str, **endpoint: object) -> Table:
    """Without what the server's address is."""
    found = probe(Settings(endpoints=(Endpoint(url=url, **endpoint),)))  # type: ignore[arg-type]
    return {line.what: (line.value.removeprefix(url), line.how.removeprefix(url)) for line in found[url]}


def assert_told(told: Table, route: str, expected: Mapping[str, tuple[str, str]]) -> None:
    wanted = {**SAME, "route": (route, OF_SUCH), **expected}
    assert {what: told.get(what) for what in wanted} == wanted
    assert told.keys() >= {"one text took", "GPU utilisation", "queue"}


@pytest.mark.parametrize(("route", "kind", "options", "metrics", "expected"), HOSTED)
def test_of_servers_of_openai_s_kind(
    route: str, kind: type[HostedServer], options: dict[str, object], metrics: bytes, expected: Table
) -> None:
    with kind(**options) as stand_in:  # type: ignore[arg-type]
        stand_in.metrics = metrics
        assert_told(table(stand_in.url), route, expected)


@pytest.mark.parametrize(("route", "fake", "options", "expected"), OTHERS)
def test_of_others(
    servers: Servers,
    route: str,
    fake: LlamaCpp | Ollama | KServe | Cohere | Voyage,
    options: dict[str, str],
    expected: Table,
) -> None:
    assert_told(table(servers.start(fake), **options), route, expected)


def test_of_our_own_server() -> None:
    with serving(create_app(load_backend("wordllama"), None)) as url:
        told = table(url)
    assert told["dialect"][0] == "openai"
    assert told["encoding"] == ("base64", ASKED)
    assert told["queue"] == ("0 (rayembed)", "/metrics")


SET: dict[str, object] = {
    "dialect": "openai",
    "model": "test-embedder",
    "encoding": "float",
    "cuts_long_texts": True,
    "tokens_per_text": 7,
    "texts_per_request": 6,
    "tokens_per_request": 5,
    "bytes_per_request": 4,
    "texts_in_flight": 3,
    "requests_in_flight": 2,
    "tokens_per_gpu_batch": 1,
}


def test_what_is_set_is_said_to_be(server: EmbeddingServer) -> None:
    told = table(server.url, route=f"{server.url}/v1/embeddings", **SET)
    names = {
        "encoding": "float",
        "route": "/v1/embeddings",
        "long texts": "cut by the server",
        "tokens per text": "7",
        "texts per request": "6",
        "tokens per request": "5",
        "bytes per request": "4",
        "texts in flight": "3",
        "requests in flight": "2",
        "tokens per GPU batch": "1",
    }
    assert {what: told[what] for what in names} == {what: (value, "set") for what, value in names.items()}


@pytest.fixture
def two() -> Iterator[list[EmbeddingServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(EmbeddingServer()) for _ in range(2)]


def test_each_endpoint_has_its_table(two: list[EmbeddingServer]) -> None:
    found = probe(Settings(endpoints=tuple(Endpoint(url=each.url) for each in two)))
    assert list(found) == [each.url for each in two]
    lines = in_words(found, as_json=False).split("\n")
    assert [line for line in lines if not line.startswith("  ")] == [two[0].url, "", two[1].url]
    as_json = json.loads(in_words(found, as_json=True))
    assert as_json[two[1].url]["dimensions"] == {"value": "32", "how": ASKED}
