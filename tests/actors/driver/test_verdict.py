"""What holds a job back: every branch, as what was seen and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.driver.tuning import Bounds
from actors.driver.verdict import Known, judge, judge_recent
from actors.messages import Endpoint, EndpointLoad, Limits, Load

ONE, OTHER, HERE = "http://one:8000", "http://two:8000", "http://127.0.0.1:8080"
TEI = {"texts_in_flight": "--max-concurrent-requests", "tokens_per_gpu_batch": "--max-batch-tokens"}
TEI_LIMITS = Limits(texts_per_request=32, texts_in_flight=512, tokens_per_gpu_batch=16384)


def endpoint(url: str = ONE, **changes: Any) -> EndpointLoad:
    quiet = EndpointLoad(
        url, limit=8, batch_rows=32, paced=0.0, requests=100, errors={}, gpu=0.97, gpu_source="nvml", moves=0
    )
    return replace(quiet, **changes)


def load(*endpoints: EndpointLoad, **changes: Any) -> Load:
    """A minute in which nothing but the server held the job back."""
    quiet = Load(60.0, 0.0, 0.0, 0.1, 4.0, endpoints or (endpoint(),))
    return replace(quiet, **changes)


def known(bounds: Bounds | None = None, **of_endpoint: Any) -> dict[str, Known]:
    return {
        url: Known(replace(Endpoint(url, "m", "tei", None), **of_endpoint), bounds or Bounds())
        for url in (ONE, OTHER)
    }


TEI_KNOWN: dict[str, Any] = {"server": "TEI 1.9.3", "switches": TEI, "limits": TEI_LIMITS}
WAITS = endpoint(gpu=0.41)
UNSEEN = endpoint(gpu=None, gpu_source=None)

CASES: dict[str, tuple[Load, dict[str, Known], str, str]] = {
    "too short": (load(seconds=4.9), known(), "server", "it was over too soon to tell what held it back"),
    "full GPU": (
        load(),
        known(),
        "server",
        "GPU 97% busy: the server is the limit; add a GPU and an --endpoint",
    ),
    "full GPU, whatever the client's core does": (load(busy=0.99), known(), "server", "GPU 97% busy: "),
    "TEI plateaus": (
        load(WAITS),
        known(**TEI_KNOWN),
        "server",
        "TEI 1.9.3 plateaus at 41% GPU: its own CPU or settings; raise --max-batch-tokens (now 16384)",
    ),
    "vLLM plateaus and tells no limit": (
        load(WAITS),
        known(server="vLLM 0.33", switches={"tokens_per_gpu_batch": "--max-num-batched-tokens"}),
        "server",
        "vLLM 0.33 plateaus at 41% GPU: its own CPU or settings; raise --max-num-batched-tokens",
    ),
    "a server of which nothing is known plateaus": (
        load(WAITS),
        known(),
        "server",
        "the server plateaus at 41% GPU: its own CPU or settings; give it more CPU, or run a second one",
    ),
    "one of two plateaus": (
        load(endpoint(), endpoint(OTHER, gpu=0.3)),
        known(),
        "server",
        f"{OTHER} plateaus at 30% GPU",
    ),
    "TEI admits no more": (
        load(endpoint(gpu=0.6, limit=16)),
        known(**TEI_KNOWN),
        "server",
        "TEI 1.9.3 admits 512 texts in flight, GPU 60% busy: start it with --max-concurrent-requests 2048",
    ),
    "TEI admits no more, no GPU seen": (
        load(replace(UNSEEN, limit=15)),
        known(**TEI_KNOWN),
        "server",
        "TEI 1.9.3 admits 512 texts in flight: start it with --max-concurrent-requests 2048",
    ),
    "TEI admits more than is asked": (load(replace(WAITS, limit=4)), known(**TEI_KNOWN), "server", "plateaus"),
    "a full GPU needs no more texts": (
        load(endpoint(limit=16)),
        known(**TEI_KNOWN),
        "server",
        "GPU 97% busy: the server is the limit",
    ),
    "no GPU seen": (
        load(UNSEEN),
        known(),
        "server",
        "the server is the limit: the client needs 10% of a core each; no GPU utilisation could be read",
    ),
    "server beside the client": (
        load(endpoint(HERE, gpu=0.75), idle_cores=0.1),
        {HERE: Known(Endpoint(HERE, "m", "openai", None), Bounds())},
        "server",
        "no core of this machine, which the server runs on, is idle, GPU 75% busy: give it a machine of its own",
    ),
    "what it admits is known for certain, whatever else runs there": (
        load(endpoint(HERE, gpu=0.63, limit=16), idle_cores=0.1),
        {HERE: replace(known(**TEI_KNOWN)[ONE], endpoint=replace(known(**TEI_KNOWN)[ONE].endpoint, url=HERE))},
        "server",
        "TEI 1.9.3 admits 512 texts in flight, GPU 63% busy: start it with --max-concurrent-requests 2048",
    ),
    "server beside the client, no GPU seen": (
        load(replace(UNSEEN, endpoint=HERE), idle_cores=0.1),
        {HERE: Known(Endpoint(HERE, "m", "openai", None), Bounds())},
        "server",
        "no core of this machine, which the server runs on, is idle: give it a machine of its own",
    ),
    "client beside something else": (
        load(WAITS, busy=0.3, idle_cores=0.1),
        known(),
        "client",
        "no core of the client's machine is idle, the embedders use 30% of one each: add a client machine",
    ),
    "whatever else runs beside the client, the GPU is full": (load(idle_cores=0.1), known(), "server", "GPU 97%"),
    "client": (
        load(WAITS, busy=0.97, idle_cores=0.2),
        known(),
        "client",
        "client CPU 97% of a core each, and no core of the machine is idle: add a client machine",
    ),
    "client with cores to spare": (
        load(WAITS, busy=0.97),
        known(),
        "client",
        "client CPU 97% of a core each, while 4.0 cores are idle: more --actors, or a client machine more",
    ),
    "client that also cannot read as fast": (load(WAITS, busy=0.97, starved=0.5), known(), "client", "client CPU"),
    "input": (
        load(starved=0.21),
        known(),
        "input",
        "requests waited 21% of the time for texts to be read: read from faster storage",
    ),
    "input is enough": (load(starved=0.19), known(), "server", "GPU"),
    "output": (
        load(writing=0.35, starved=0.5),
        known(),
        "output",
        "reading waited 35% of the time for finished parts to be written: write to faster storage",
    ),
    "rate limit that the API has": (
        load(endpoint(paced=0.6), endpoint(OTHER)),
        known(),
        "rate-limit",
        f"requests waited 60% of the time for the rate limit of {ONE}: have it raised",
    ),
    "rate limit that the user set": (
        load(endpoint(paced=0.6)),
        known(requests_per_minute=600.0),
        "rate-limit",
        "requests waited 60% of the time for the rate limit of the server: raise requests_per_minute",
    ),
    "refusals": (
        load(endpoint(errors={"overloaded": 21})),
        known(),
        "rate-limit",
        "21 of 100 requests were refused by the server: raise what it admits, or the key's limits",
    ),
    "refusals of TEI": (
        load(endpoint(errors={"overloaded": 21})),
        known(**TEI_KNOWN),
        "rate-limit",
        "21 of 100 requests were refused by TEI 1.9.3: start it with --max-concurrent-requests 2048",
    ),
    "some refusals": (load(endpoint(errors={"overloaded": 19})), known(), "server", "GPU"),
    "failures": (
        load(endpoint(errors={"backend": 20, "transport": 5, "overloaded": 30})),
        known(),
        "server",
        f"25 of 100 requests failed at {ONE} (backend): look into its log",
    ),
    "one at a time": (
        load(endpoint(gpu=0.13, limit=1)),
        known(Bounds(limit=1, batch_rows=50)),
        "client",
        "one request at a time, GPU 13% busy: run it with --async and --concurrency auto",
    ),
    "one at a time, no GPU seen": (
        load(UNSEEN),
        known(Bounds(limit=1)),
        "client",
        "one request at a time: run it with --async",
    ),
    "pinned": (
        load(WAITS),
        known(Bounds(limit=4)),
        "client",
        "requests in flight are pinned to 4, GPU 41% busy: leave --concurrency and --async-preset out",
    ),
    "pinned, and enough": (load(), known(Bounds(limit=4)), "server", "GPU 97%"),
    "pinned, no GPU seen": (load(UNSEEN), known(Bounds(limit=4)), "server", "no GPU utilisation"),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    seen, servers, bound_by, advice = CASES[case]
    verdict = judge(seen, servers)
    assert verdict.bound_by == bound_by
    assert advice in verdict.advice


@pytest.mark.parametrize(
    ("busy", "source", "full"),
    [
        (0.95, "nvml", True),
        (0.85, "nvml", False),
        (0.85, "gpm", True),
        (0.85, "dcgm-sm", True),
        (0.85, "dcgm-engine", False),
        (0.75, "gpm", False),
        (0.85, "gpm+nvml", False),
        (0.95, None, True),
    ],
)
def test_a_full_gpu_is_told_by_what_was_measured(busy: float, source: str | None, full: bool) -> None:
    verdict = judge(load(endpoint(gpu=busy, gpu_source=source)), known())
    assert verdict.bound_by == "server"
    assert ("add a GPU" in verdict.advice) == full
    assert f"{busy:.0%}" in verdict.advice


def test_a_running_job_is_not_judged_by_settings_that_still_move() -> None:
    moving = replace(WAITS, moves=5)
    assert judge_recent(load(moving), known()) is None
    assert judge_recent(None, known()) is None
    for others in (load(replace(moving, gpu=0.97)), load(moving, starved=0.5), load(replace(moving, moves=2))):
        assert judge_recent(others, known())
