"""The faults of the simulated GPU server: over real HTTP, and as the product's own client takes them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from actors.embedder import faults as product
from actors.embedder.client import EmbeddingClient
from actors.embedder.faults import Kind
from actors.messages import Endpoint
from tests.servers.gpu.answers import vector_of
from tests.servers.gpu.faults import Faults
from tests.servers.gpu.fixture import GpuServer
from tests.servers.gpu.profiles import Fault, Profile

HTTP = httpx.Client(trust_env=False, timeout=60)
TEXTS = [f"text {i}" for i in range(20)]
WRONG = (
    Fault.ERROR_200,
    Fault.TRUNCATED,
    Fault.HTML,
    Fault.COUNT,
    Fault.DIM,
    Fault.NAN,
    Fault.ZERO,
    Fault.DUPLICATE,
)
KINDS = dict.fromkeys(WRONG, Kind.WRONG_ANSWER) | {
    Fault.BUSY: Kind.OVERLOADED,
    Fault.QUOTA: Kind.OVERLOADED,
    Fault.STARTING: Kind.STARTING,
    Fault.BACKEND: Kind.BACKEND,
    Fault.DROPPED: Kind.TRANSPORT,
    Fault.CUT: Kind.TRANSPORT,
}


@pytest.fixture(scope="module")
def running() -> Iterator[GpuServer]:
    with GpuServer() as server:
        yield server


@pytest.fixture
def server(running: GpuServer) -> GpuServer:
    running.become("one", hang_s=0.3)
    return running


def ask(server: GpuServer, texts: list[str] = TEXTS) -> httpx.Response:
    body = {"input": texts, "model": "gpu-embedder", "encoding_format": "base64"}
    return HTTP.post(f"{server.url}/v1/embeddings", json=body)


def embed(server: GpuServer, texts: list[str] = TEXTS, times: int = 1) -> list[np.ndarray | product.Fault]:
    """What the product's client makes of each answer."""

    async def once(client: EmbeddingClient) -> np.ndarray | product.Fault:
        try:
            return (await client.embed(texts, 32)).vectors
        except product.Fault as fault:
            return fault

    async def all_times() -> list[np.ndarray | product.Fault]:
        client = EmbeddingClient(Endpoint(server.url, "gpu-embedder", "openai", None))
        try:
            return [await once(client) for _ in range(times)]
        finally:
            await client.aclose()

    return asyncio.run(all_times())


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]])
@pytest.mark.parametrize("fault", KINDS)
def test_a_client_notices(server: GpuServer, fault: Fault, texts: list[str], floats: bool) -> None:
    server.change(faults=1, fault=fault, floats=floats)
    for came in embed(server, texts, times=6):  # of the several ways to say it
        assert isinstance(came, product.Fault)
        assert came.kind is KINDS[fault], came
    stats = server.stats()
    assert (stats["faults"], stats["texts"], stats["in_flight"]) == ({str(fault): 6}, 0, 0)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("fault", [Fault.SHUFFLED, Fault.HANG])
def test_what_is_only_late_or_in_another_order_is_right(server: GpuServer, fault: Fault, floats: bool) -> None:
    server.change(faults=1, fault=fault, floats=floats)
    np.testing.assert_array_equal(embed(server)[0], [vector_of(text, 32) for text in TEXTS])
    stats = server.stats()
    assert (stats["texts"], stats["statuses"]) == (len(TEXTS), {"200": 1})
    assert stats["p50_s"] >= (0.3 if fault is Fault.HANG else 0)


def test_who_is_shuffled_keeps_his_index(server: GpuServer) -> None:
    server.change(faults=1, fault=Fault.SHUFFLED)
    indexes = [item["index"] for item in ask(server).json()["data"]]
    assert indexes != sorted(indexes) == list(range(len(TEXTS)))


def test_only_a_quota_says_when_to_come_again(server: GpuServer) -> None:
    for fault, said in ((Fault.QUOTA, "0.2"), (Fault.BUSY, None), (Fault.STARTING, None)):
        server.change(faults=1, fault=fault, retry_after_s=0.2)
        assert ask(server).headers.get("retry-after") == said


def test_half_of_what_was_announced_comes_before_a_cut(server: GpuServer) -> None:
    server.change(faults=1, fault=Fault.CUT)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        ask(server)
    server.change(faults=1, fault=Fault.DROPPED)
    with pytest.raises(httpx.TransportError):
        ask(server)
    server.change(faults=0)
    assert ask(server).status_code == 200


def test_a_client_that_does_not_wait_for_a_late_answer_is_gone(server: GpuServer) -> None:
    server.change(faults=1, fault=Fault.HANG)
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(f"{server.url}/v1/embeddings", json={"input": "x", "model": "gpu-embedder"}, timeout=0.1)
    while server.stats()["in_flight"]:
        pass
    assert server.stats()["statuses"] == {"499": 1}


def test_a_share_of_the_requests_meets_each_kind_as_often(server: GpuServer) -> None:
    faults, profile = Faults(3), Profile(faults=0.2)
    drawn = Counter(faults.draw(profile) for _ in range(32_000))
    assert 0.79 < drawn.pop(None) / 32_000 < 0.81
    assert drawn.keys() == set(Fault)
    assert max(drawn.values()) < 1.5 * min(drawn.values())
    again = Faults(3)
    assert drawn == Counter(fault for _ in range(32_000) if (fault := again.draw(profile)))
    assert Faults(4).draw(Profile()) is None


def test_a_seed_makes_the_same_answers_again() -> None:
    def answers() -> list[tuple[int, bytes] | None]:
        with GpuServer(seed=7, faults=0.7, hang_s=0, retry_after_s=0) as server:
            came: list[tuple[int, bytes] | None] = []
            for _ in range(60):
                try:
                    answer = ask(server)
                    came.append((answer.status_code, answer.content))
                except httpx.TransportError:
                    came.append(None)
            return came

    first = answers()
    assert first == answers()
    assert len(set(first)) > 15


def test_a_poisonous_text_is_refused_with_all_that_go_with_it(server: GpuServer) -> None:
    server.change(poison="<poison>")
    refused = ask(server, [*TEXTS, "a <poison> b"])
    assert refused.status_code == 400
    assert json.loads(refused.content)["error"]["type"] == "invalid_request_error"
    assert ask(server).status_code == 200
    (came,) = embed(server, ["<poison>"])
    assert isinstance(came, product.Fault)
    assert came.kind is Kind.BAD_REQUEST
    assert server.stats()["texts"] == len(TEXTS)
