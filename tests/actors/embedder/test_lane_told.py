"""What a server says of itself is kept from the first request on; what it cannot mean is not believed."""

from __future__ import annotations

import pytest

from actors.messages import Limits
from tests.actors.embedder.scripted import deliver, lane_to

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (Limits(texts_per_request=7), 7),
        (Limits(bytes_per_request=1000), 8),  # at 100 bytes a text, in equal pieces
        (Limits(tokens_per_request=250), 8),  # at 4 bytes a token
        (Limits(texts_per_request=7, tokens_per_request=100), 2),
        (Limits(tokens_per_request=5), 1),  # a text that is too large goes alone
    ],
)
async def test_no_request_passes_a_limit_that_is_known(limits: Limits, most: int) -> None:
    async with lane_to(lambda _: 200, limits=limits) as (lane, server):
        assert await deliver(lane, [f"{i:0100d}" for i in range(40)]) == []
    assert max(map(len, server.asked)) == most


async def test_texts_that_the_server_has_cut_are_counted_where_it_cuts() -> None:
    texts = ["short"] * 5 + ["x" * 500] * 3
    limits = Limits(tokens_per_text=100)
    for cuts, truncated in ((True, 3), (False, 0)):
        async with lane_to(lambda _: 200, limits=limits, cuts=cuts) as (lane, _):
            await deliver(lane, texts)
            assert lane.report().truncated == truncated


@pytest.mark.parametrize(
    ("usage", "tokens"), [(60, 60), (10**12, 200), (20_000, 200), (-5, 200), (0, 200), (9, 200)]
)
async def test_a_count_of_tokens_that_cannot_be_is_no_count(usage: int, tokens: int) -> None:
    async with lane_to(lambda _: 200) as (lane, server):
        server.usage = usage
        await deliver(lane, [f"{i:080d}" for i in range(10)])
        assert lane.report().tokens == tokens


async def test_texts_that_the_server_has_cut_tell_nothing_of_a_token_s_length() -> None:
    async with lane_to(lambda _: 200, limits=Limits(tokens_per_text=100), cuts=True) as (lane, server):
        server.usage = 1000
        await deliver(lane, [f"{i:04d}" * 500 for i in range(10)])
        assert lane._window.bytes_per_token == 4
        assert lane.report().tokens == 1000
        server.usage = 30
        await deliver(lane, [f"{i:040d}" for i in range(10)])
        assert lane._window.bytes_per_token > 4
