"""The simulated GPU server over real HTTP."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.servers.gpu.answers import vector_of, vectors_of
from tests.servers.gpu.fixture import _ROOT, GpuServer

HTTP = httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=200))
TEXTS = ["alpha", "beta", "gämmä", "delta" * 40]
EXACT = {"noise": 0.0, "jitter": 0.0}


@pytest.fixture(scope="module")
def running() -> Iterator[GpuServer]:
    with GpuServer() as server:
        yield server


@pytest.fixture
def server(running: GpuServer) -> GpuServer:
    running.become("one", **EXACT)
    return running


def ask(server: GpuServer, texts: str | list[str], **fields: Any) -> httpx.Response:
    body = {"input": texts, "model": "gpu-embedder", "encoding_format": "base64"} | fields
    return HTTP.post(f"{server.url}/v1/embeddings", json=body)


def ask_together(server: GpuServer, requests: int, texts: list[str]) -> list[httpx.Response]:
    with ThreadPoolExecutor(requests) as threads:
        return list(threads.map(lambda _: ask(server, texts), range(requests)))


def statuses(responses: list[httpx.Response]) -> Counter[int]:
    return Counter(response.status_code for response in responses)


def vectors(response: httpx.Response) -> list[NDArray[np.float32]]:
    assert response.status_code == 200, response.text
    found = [item["embedding"] for item in response.json()["data"]]
    return [
        np.frombuffer(base64.b64decode(each), "<f4") if isinstance(each, str) else np.asarray(each, np.float32)
        for each in found
    ]


def gauge(server: GpuServer, name: str) -> list[int]:
    return [int(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\d+)$", server.metrics(), re.MULTILINE)]


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_each_text_has_its_own_vector(server: GpuServer, encoding: str) -> None:
    texts = [f"{text} {i}" for i in range(100) for text in TEXTS]
    response = ask(server, texts, encoding_format=encoding)
    for text, vector in zip(texts, vectors(response), strict=True):
        assert np.array_equal(vector, vector_of(text, 32))
    assert np.array_equal(vectors(response), vectors_of(texts, 32))
    assert [item["index"] for item in response.json()["data"]] == list(range(400))
    assert len({vector.tobytes() for vector in vectors(response)}) > 350


def test_usage_is_a_quarter_of_the_bytes_rounded_up(server: GpuServer) -> None:
    usage = ask(server, TEXTS).json()["usage"]
    assert usage == {"prompt_tokens": 2 + 1 + 2 + 50, "total_tokens": 55}
    assert server.stats()["tokens"] == 55
    assert len(vectors(ask(server, "alone"))) == 1


def test_the_size_of_a_vector_is_the_profiles(server: GpuServer) -> None:
    server.change(dim=768)
    assert np.array_equal(vectors(ask(server, TEXTS))[2], vector_of(TEXTS[2], 768))


def test_what_is_wrong_with_a_request_is_said_at_once(server: GpuServer) -> None:
    assert ask(server, TEXTS, model="other").json()["error"]["code"] == "model_not_found"
    assert ask(server, []).status_code == ask(server, [""]).status_code == 400
    assert ask(server, ["x"] * 2049).status_code == 400
    assert HTTP.post(f"{server.url}/v1/embeddings", content=b"{").status_code == 400
    assert HTTP.get(f"{server.url}/nothing").status_code == 404
    assert HTTP.post(f"{server.url}/_profile", json={"colour": 1}).status_code == 400
    assert HTTP.post(f"{server.url}/_profile", json={"speed": 0}).status_code == 400
    assert HTTP.post(f"{server.url}/_capacity", json={}).status_code == 400
    assert server.stats()["batches"] == 0


def test_describes_itself_as_its_kind_does(server: GpuServer) -> None:
    def get(path: str) -> httpx.Response:
        return HTTP.get(server.url + path)

    assert get("/health").status_code == 200
    assert get("/v1/models").json()["data"][0]["id"] == "gpu-embedder"
    assert get("/info").status_code == 404
    server.become("tei")
    info = get("/info").json()
    assert (info["max_concurrent_requests"], info["max_client_batch_size"]) == (512, 32)
    assert info["max_batch_tokens"] == 16384
    server.become("infinity")
    assert get("/models").json()["data"][0]["stats"]["batch_size"] == 32


# profiles


def test_one_request_is_one_batch(server: GpuServer) -> None:
    assert statuses(ask_together(server, 8, TEXTS)) == {200: 8}
    stats = server.stats()
    assert (stats["batches"], stats["texts"]) == (8, 32)
    assert stats["work"] == 8 * 4 * 50
    assert stats["busy_s"] == pytest.approx(8 * (0.004 + 2e-6 * 4096))


def test_tei_merges_requests_and_counts_texts(server: GpuServer) -> None:
    server.become("tei", fixed_s=0.3)
    assert statuses(ask_together(server, 16, ["x" * 40] * 32)) == {200: 16}
    assert server.stats()["batches"] < 8
    server.become("tei", fixed_s=0.5)
    answers = ask_together(server, 20, ["x" * 40] * 32)
    assert statuses(answers) == {200: 16, 429: 4}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json() == {"message": "Model is overloaded", "code": 429, "type": "Overloaded"}
    assert "retry-after" not in refused.headers
    assert server.stats()["refused"] == 4


def test_tei_refuses_more_than_32_texts_and_fails_without_memory(server: GpuServer) -> None:
    server.become("tei")
    refused = ask(server, ["x"] * 33)
    assert refused.status_code == 422
    assert refused.json()["message"] == "batch size 33 > maximum allowed batch size 32"
    server.become("tei_oom")
    failed = ask(server, ["x" * 2000] * 66)
    assert failed.status_code == 424
    assert failed.json()["message"].startswith("Backend error: ")
    assert "CUDA_ERROR_OUT_OF_MEMORY" in failed.json()["message"]
    assert ask(server, ["x" * 2000] * 65).status_code == 200


def test_infinity_merges_by_count(server: GpuServer) -> None:
    server.become("infinity", fixed_s=0.2)
    assert statuses(ask_together(server, 16, TEXTS * 2)) == {200: 16}
    assert server.stats()["batches"] < 8


def test_out_of_memory_is_a_500_above_a_padded_size(server: GpuServer) -> None:
    server.become("oom", oom_s=0.01, **EXACT)
    assert ask(server, ["x" * 1536] * 128).status_code == 200
    before = gauge(server, "DCGM_FI_DEV_FB_USED")
    failed = ask(server, ["y"] * 128 + ["x" * 1536])
    assert failed.status_code == 500
    assert "out of memory" in failed.json()["error"]["message"]
    assert server.stats()["ooms"] == 1
    assert before == gauge(server, "DCGM_FI_DEV_FB_USED") == [81920]
    assert gauge(server, "DCGM_FI_DEV_FB_FREE") == [0]


def test_a_cap_on_requests_says_429(server: GpuServer) -> None:
    server.become("request_cap", request_cap=3, replicas=1, fixed_s=0.5)
    assert statuses(ask_together(server, 8, TEXTS)) == {200: 3, 429: 5}


def test_a_cap_on_texts_says_429(server: GpuServer) -> None:
    server.become("text_cap", text_cap=16, fixed_s=0.4)
    assert statuses(ask_together(server, 8, TEXTS)) == {200: 4, 429: 4}


def test_a_quota_says_when_to_come_again(server: GpuServer) -> None:
    server.become("quota", requests_per_s=1, burst_s=2)
    answers = [ask(server, TEXTS) for _ in range(4)]
    assert answers[0].status_code == 200
    assert answers[3].status_code == 429
    assert answers[3].headers["retry-after"] == "1"
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"


def test_distance_is_on_the_way(server: GpuServer) -> None:
    server.become("distant")
    for _ in range(5):
        ask(server, TEXTS)
    stats = server.stats()
    assert stats["p50_s"] >= 0.06
    assert stats["p99_s"] >= stats["p50_s"]
    assert stats["busy"] < 0.3


def test_capacity_changes_on_command(server: GpuServer) -> None:
    def batch_s() -> float:
        server.reset()
        ask(server, TEXTS)
        return float(server.stats()["busy_s"])

    before = batch_s()
    server.capacity(0.25)
    assert batch_s() == pytest.approx(4 * before)
    server.capacity(1.0)
    assert batch_s() == pytest.approx(before)


@pytest.mark.parametrize("name", ["one", "tei", "infinity"])
def test_a_saturating_load_keeps_the_gpu_busy(server: GpuServer, name: str) -> None:
    server.become(name)
    texts = ["x" * 400] * 32

    def load(until: float) -> None:
        while time.monotonic() < until:
            assert ask(server, texts).status_code == 200

    with ThreadPoolExecutor(9) as threads:
        until = time.monotonic() + 1.6
        for _ in range(8):
            threads.submit(load, until)
        time.sleep(0.3)
        server.reset()
        time.sleep(1.1)
        stats = server.stats()
        utilisation = gauge(server, "DCGM_FI_DEV_GPU_UTIL")
    assert 0.95 <= stats["busy"] <= 1.0 + 1e-9
    assert utilisation[0] >= 95


def test_the_gauges(server: GpuServer) -> None:
    server.become("replicas", replicas=3)
    page = server.metrics()
    assert gauge(server, "DCGM_FI_DEV_GPU_UTIL") == [0, 0, 0]
    assert re.search(r'^DCGM_FI_DEV_GPU_UTIL\{gpu="2",UUID="GPU-[-0-9]{36}",.*\} 0$', page, re.MULTILINE)
    assert gauge(server, "te_queue_size") == [0]
    server.become("no_gauge")
    assert gauge(server, "DCGM_FI_DEV_GPU_UTIL") == gauge(server, "te_queue_size") == []
    assert HTTP.get(server.url + "/metrics").headers["content-type"].startswith("text/plain")


def test_an_old_gauge_stays_where_it_was(server: GpuServer) -> None:
    server.become("old_gauge", fixed_s=0.3)
    names = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    first = [gauge(server, name) for name in names]
    ask(server, TEXTS)
    assert [gauge(server, name) for name in names] == first
    server.change(gauge_period_s=0)
    assert all(gauge(server, name) > before for name, before in zip(names, first, strict=True))


def test_the_queue_is_counted_in_texts(server: GpuServer) -> None:
    server.become("one", fixed_s=1.0)
    with ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            threads.submit(ask, server, TEXTS)
        depths = set()
        while server.stats()["texts"] == 0:
            depths.update(gauge(server, "te_queue_size"))
        server.change(fixed_s=0.0)
    assert max(depths) == 8
    assert server.stats()["max_in_flight"] == 3


# connections


def raw(server: GpuServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10)


def embedding_request(texts: str) -> bytes:
    body = f'{{"model":"gpu-embedder","input":["{texts}"]}}'.encode()
    return b"POST /v1/embeddings HTTP/1.1\r\nHOST: x\r\nCONTENT-LENGTH: %d\r\n\r\n" % len(body) + body


def read_until_closed(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_requests_in_pieces_and_in_a_row_are_answered_in_order(server: GpuServer) -> None:
    stream = embedding_request("alpha") + embedding_request("beta")
    stream += b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n"
    with raw(server) as connection:
        for start in range(0, len(stream), 7):
            connection.sendall(stream[start : start + 7])
        answer = read_until_closed(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.endswith(b'{"status":"ok"}')
    assert server.stats()["requests"] == 2


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, b"431"),
    ],
)
def test_what_is_not_understood_ends_the_connection(server: GpuServer, head: bytes, status: bytes) -> None:
    with raw(server) as connection:
        connection.sendall(head)
        assert read_until_closed(connection).split()[1] == status


def test_a_client_that_leaves_frees_its_place(server: GpuServer) -> None:
    server.become("request_cap", request_cap=1, replicas=1, fixed_s=30.0)
    with raw(server) as connection:
        connection.sendall(embedding_request("alpha"))
        while server.stats()["in_flight"] == 0:
            pass
        assert ask(server, TEXTS).status_code == 429
    while server.stats()["in_flight"] > 0:
        pass
    assert server.stats()["statuses"] == {"429": 1, "499": 1}


def test_a_new_server_cuts_off_what_the_old_one_was_asked(server: GpuServer) -> None:
    server.become("one", fixed_s=30.0)
    with raw(server) as connection:
        connection.sendall(embedding_request("alpha"))
        while server.stats()["in_flight"] == 0:
            pass
        server.become("one")
        assert read_until_closed(connection) == b""
    assert ask(server, TEXTS).status_code == 200
    assert server.stats()["statuses"] == {"200": 1}


def test_what_a_reset_leaves_under_way_counts_when_it_ends(server: GpuServer) -> None:
    server.become("one", fixed_s=0.5)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(ask, server, TEXTS)
        while server.stats()["in_flight"] == 0:
            pass
        server.reset()
        before = server.stats()
        assert answer.result().status_code == 200
    after = server.stats()
    assert (before["in_flight"], before["max_in_flight"], before["texts"], before["p50_s"]) == (1, 1, 0, None)
    assert (after["in_flight"], after["requests"], after["texts"], after["statuses"]) == (0, 0, 4, {"200": 1})
    assert after["busy_s"] > 0


def test_another_comes_to_the_port_of_a_killed_one() -> None:
    with GpuServer() as first:
        assert ask(first, TEXTS).status_code == 200
        first.kill()
        with GpuServer("tei", port=first.port) as second:
            assert second.url == first.url
            assert ask(second, TEXTS).status_code == 200
            assert second.stats()["requests"] == 1


def test_a_wrong_flag_is_a_line_and_not_a_traceback() -> None:
    command = [sys.executable, "-m", "tests.servers.gpu.server", "--replicas", "none"]
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "replicas" in ended.stderr.splitlines()[-1]


def test_flags_and_fields_are_the_same() -> None:
    with GpuServer("tei", text_cap=64, gauge=False, speed=0.5) as server:
        assert HTTP.get(server.url + "/info").json()["max_concurrent_requests"] == 64
        assert gauge(server, "DCGM_FI_DEV_GPU_UTIL") == []
        server.stop()
