"""Texts that are longer than the model takes: cut so far as the server's own words say, or rejected."""

from __future__ import annotations

import numpy as np
import pytest

from actors.embedder.window import Window
from actors.errors import UserError
from tests.actors.embedder.scripted import DIM, Said, Say, deliver, lane_to, opened
from tests.servers.vectors import vectors_of

MOST = 64  # tokens that the server takes of a text; it counts four characters as one
LONG = "wordless " * 100
pytestmark = pytest.mark.usefixtures("quick")


def tokens(text: str) -> int:
    return -(-len(text) // 4)


def counts(texts: list[str]) -> Said:
    """SGLang: how many there were and may be."""
    longest = max(map(tokens, texts))
    if longest <= MOST:
        return 200
    return 400, f"The input ({longest} tokens) is longer than the model's context length ({MOST} tokens)."


def names_the_limit(texts: list[str]) -> Said:
    """vLLM: counts no further than it has to."""
    if max(map(tokens, texts)) <= MOST:
        return 200
    return 400, (
        f"This model's maximum context length is {MOST} tokens. However, your prompt contains at least {MOST + 1} "
        "input tokens. (parameter=input_tokens)"
    )


def says_nothing(texts: list[str]) -> Said:
    """Ollama."""
    if max(map(tokens, texts)) <= MOST:
        return 200
    return 400, "the input length exceeds the context length"


@pytest.mark.parametrize("say", [counts, names_the_limit, says_nothing])
async def test_a_text_that_is_too_long_is_cut_to_most_of_what_the_server_takes(say: Say) -> None:
    rows = ["short", LONG, "also short"]
    window, part = Window(), opened(rows)
    window.add(part)
    batch = window.take(len(rows), 1 << 20)
    assert batch is not None
    async with lane_to(say, window=window) as (lane, server):
        lane.start()
        await lane.deliver(batch)
        report = lane.report()
    [cut] = {text for asked in server.asked for text in asked if len(text) > 20 and tokens(text) <= MOST}
    assert LONG.startswith(cut)
    assert tokens(cut) >= 0.7 * MOST
    assert part.complete
    np.testing.assert_array_equal(part._vectors, vectors_of(["short", cut, "also short"], DIM))
    assert (report.rows, report.truncated) == (3, 1)
    assert len(server.asked) <= 12


async def test_it_is_rejected_where_that_is_wanted() -> None:
    async with lane_to(counts, truncate=False) as (lane, _):
        assert await deliver(lane, ["short", LONG]) == [(1, "input_too_long", 400)]
        assert lane.report().truncated == 0


async def test_many_that_are_too_long_stand_together_when_they_are_looked_for() -> None:
    rows = [f"{i} {LONG}" if i % 16 == 5 else f"text {i}" for i in range(128)]
    async with lane_to(counts, truncate=False) as (lane, server):
        rejects = await deliver(lane, rows)
    assert [row for row, _, _ in rejects] == [i for i in range(128) if i % 16 == 5]
    assert len(server.asked) <= 2 * 7 + 8 * 6  # far from eight times the whole way down


async def test_a_text_that_stays_too_long_however_short_is_rejected() -> None:
    def say(texts: list[str]) -> Said:
        return 200 if "model" in texts[0] else (400, "the input length exceeds the context length")

    async with lane_to(say) as (lane, _):
        assert await deliver(lane, ["word" * 8]) == [(0, "input_too_long", 400)]


async def test_a_server_to_which_everything_is_too_long_ends_the_job() -> None:
    async with lane_to(lambda _: (400, "the input length exceeds the context length")) as (lane, _):
        with pytest.raises(UserError, match="input_too_long"):
            await deliver(lane, ["word" * 8])
