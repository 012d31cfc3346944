"""What each kind of page says of GPUs and queues; pages as the servers write them."""

from __future__ import annotations

import re

import pytest

from actors.embedder.gauges import MEASURES, PAGE_GAUGES
from actors.embedder.gauges.base import Depth, Share
from actors.embedder.gauges.page import Page
from actors.embedder.gauges.places import sees_key
from actors.messages import Endpoint

DCGM = """# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA H200"} 80
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",modelName="NVIDIA H200"} 60
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-3",modelName="NVIDIA H200"} 0
DCGM_FI_DEV_FB_USED{gpu="0"} 1234
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-1"} 0.81
"""
SM = 'DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-1"} 0.5\n'
VLLM = """# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a/b"} 12.0
vllm:num_requests_waiting{engine="1",model_name="a/b"} 3.0
vllm:num_requests_waiting{engine="0",model_name="other"} 100.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a/b",reason="capacity"} 15.0
vllm:num_requests_running{engine="0",model_name="a/b"} 256.0
vllm:num_requests_running{engine="1",model_name="a/b"} 44.0
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="a/b"} 7.0
"""
INFINITY = (
    '{"object":"list","data":[{"id":"a/b","stats":{"queue_fraction":0.01,"queue_absolute":320,'
    '"results_pending":0,"batch_size":32},"object":"model","owned_by":"infinity"},'
    '{"id":"c/d","stats":{"queue_fraction":0.0,"queue_absolute":1,"results_pending":0,"batch_size":32}}]}'
)


def gpu(page: str) -> Share | None:
    return next((share for kind in PAGE_GAUGES if (share := kind.gpu(Page(page)))), None)


def queue(page: str, model: str = "a/b") -> tuple[str, Depth] | None:
    return next(((kind.source, depth) for kind in PAGE_GAUGES if (depth := kind.queue(Page(page), model))), None)


@pytest.mark.parametrize(
    ("page", "source", "share"),
    [
        (DCGM, "dcgm", 0.7),
        (DCGM + SM, "dcgm-sm", 0.5),
        (re.sub(r" (80|60|0\.81)$", " 0", DCGM, flags=re.MULTILINE), "dcgm", 0.0),
        # PROF fields that read 0 for good
        (DCGM + SM.replace("0.5", "0"), "dcgm", 0.7),
        (SM.replace("0.5", "0.0"), "dcgm-sm", 0.0),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO 50\n", "dcgm", 0.5),
        # what a GPU cannot tell
        ('DCGM_FI_DEV_GPU_UTIL{gpu="0"} 9223372036854775794\n' + SM.replace("SM", "GR_ENGINE"), "dcgm-engine", 0.5),
        ('DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",GPU_I_ID="1"} 0.25\n', "dcgm-engine", 0.25),
        ('nv_gpu_utilization{gpu_uuid="GPU-1"} 0.9 1700000000\n', "triton", 0.9),
        ('nv_gpu_utilization{gpu_uuid="}\\"{"} 0.9\r\nnv_gpu_utilization{gpu_uuid="b"} 0\r\n', "triton", 0.9),
        ("nv_gpu_utilization 1.0", "triton", 1.0),
    ],
)
def test_what_a_page_says_of_its_gpus(page: str, source: str, share: float) -> None:
    told = gpu(page)
    assert told is not None
    assert (told.value, told.source) == (pytest.approx(share), source)
    assert MEASURES[source]


@pytest.mark.parametrize(
    "page",
    [
        "nv_gpu_utilization NaN\n",
        "nv_gpu_utilization -1\n",
        "nv_gpu_utilization +Inf\n",
        "nv_gpu_utilization\n",
        "nv_gpu_utilization{ 0.5\n",
        "nv_gpu_utilization_total 0.5\n",
        "# nv_gpu_utilization 0.5\n",
        "te_queue_size 3\n",
        VLLM,
        INFINITY,
        "<html>",
        "\ud800",
        "[" * 100_000,
        '{"data": null}',
        "",
    ],
)
def test_a_page_without_gpus(page: str) -> None:
    assert gpu(page) is None


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (VLLM, ("vllm", Depth(15, 300))),
        ("te_queue_size 3\nte_request_count 7\n", ("tei", Depth(3))),
        (
            'sglang:num_queue_reqs{model_name="a/b",tp_rank="0"} 5.0\n'
            'sglang:num_running_reqs{model_name="a/b",tp_rank="0"} 9.0\n',
            ("sglang", Depth(5, 9)),
        ),
        ("llamacpp:requests_processing 4\nllamacpp:requests_deferred 60\n", ("llama.cpp", Depth(60, 4))),
        (
            'nv_inference_pending_request_count{model="a/b",version="1"} 8\n'
            'nv_inference_pending_request_count{model="x",version="1"} 9\n',
            ("triton", Depth(8)),
        ),
        (INFINITY, ("infinity", Depth(320))),
    ],
)
def test_what_a_page_says_of_its_queue(page: str, told: tuple[str, Depth]) -> None:
    assert queue(page) == told


def test_a_model_that_is_not_named_so_there_has_all_that_waits() -> None:
    assert queue(VLLM, "served-as") == ("vllm", Depth(115, 300))
    assert queue(INFINITY, "served-as") == ("infinity", Depth(321))


@pytest.mark.parametrize(
    "page",
    [
        "",
        DCGM,
        "te_queue_size NaN\n",
        "xte_queue_size 3\n",
        'vllm:num_requests_running{model_name="a/b"} 1\n',
        '{"data":[{"id":"a/b","object":"model"}]}',
        '{"data":[]}',
        "[" * 100_000,
        "\ud800",
    ],
)
def test_a_page_without_a_queue(page: str) -> None:
    assert queue(page) is None


def endpoint(url: str, dialect: str = "openai", route: str = "") -> Endpoint:
    return Endpoint(url, "m", dialect, "KEY", route=route)


def places(of: Endpoint) -> set[str]:
    return {place for kind in PAGE_GAUGES for place in kind.places(of)}


def test_where_pages_are_looked_for() -> None:
    own = {"http://h:8000/metrics", "http://h:8000/v1/models", "http://h:8000/models"}
    assert places(endpoint("http://h:8000/v1")) == places(endpoint("http://h:8000")) == own
    routed = endpoint("http://h:8000", route="http://h:8000/deep/embeddings")
    assert places(routed) == {"http://h:8000/metrics", "http://h:8000/deep/models"}


def test_only_where_it_may_be_infinitys_the_list_of_models_is_asked_for() -> None:
    for dialect in ("vllm", "tei", "sglang", "ollama", "one that is yet to come"):
        assert places(endpoint("http://h:8000", dialect)) == {"http://h:8000/metrics"}
    assert "http://h:8000/models" in places(endpoint("http://h:8000", "infinity"))


def test_only_where_its_protocol_is_spoken_tritons_other_port_is_knocked_at() -> None:
    assert places(endpoint("http://h:8000", "kserve")) == {"http://h:8000/metrics", "http://h:8002/metrics"}
    assert "https://[::1]:8002/metrics" in places(endpoint("https://[::1]/v2", "kserve"))
    assert places(endpoint("http://h:x", "kserve")) == {"http://h:x/metrics"}


@pytest.mark.parametrize(
    ("url", "page", "seen"),
    [
        ("http://h:8000/v1", "http://h:8000/metrics", True),
        ("http://H:80", "http://h/metrics", True),
        ("https://h/v1", "https://h:443/metrics", True),
        ("https://h/v1", "http://h/metrics", False),
        ("https://h/v1", "https://h.evil/metrics", False),
        ("https://h/v1", "https://evil/https://h/v1", False),
        ("https://h/v1", "https://h@evil/metrics", False),
        ("http://h:8000", "http://h:8002/metrics", False),
        ("http://h:8000", "http://other:8000/metrics", False),
        ("nonsense", "nonsense", False),
        ("http://[::1", "http://[::1", False),
    ],
)
def test_a_key_is_for_its_own_server_only(url: str, page: str, seen: bool) -> None:
    assert sees_key(page, endpoint(url)) == seen


def test_a_page_of_many_histograms_is_searched_to_its_end() -> None:
    noise = "".join(f'vllm:request_latency_bucket{{le="{i}",model_name="a/b"}} {i}\n' for i in range(20_000))
    assert queue(noise + VLLM) == ("vllm", Depth(15, 300))
    assert gpu(noise + 'nv_gpu_utilization{a="' * 2000 + "\n" + DCGM) == Share(pytest.approx(0.7), "dcgm")
