"""Whatever a server refuses and however it fails: each good row gets its vector, each other one is one reject."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.corpus import Rows
from actors.embedder.client import EmbeddingClient
from actors.embedder.dialects import Answer
from actors.embedder.faults import Fault, Kind, Then
from actors.embedder.lane import Lane
from actors.embedder.line import _OWN_TEXT
from actors.embedder.open_part import OpenPart
from actors.embedder.window import Window
from actors.messages import Endpoint, Order, Part
from tests.actors.embedder.instant import at_once
from tests.examples import examples

PATIENCE_S = 1e6
WIDE = Order(4, 1 << 20, 1 << 30)
PASSING = 2  # faults that pass: after three in a row a server may be given up, after four a text


@dataclass
class Server:
    """Stands for the client of a server that takes no text in `poison`, no more than `most_texts` at a time
    (`says` is what it says about that), no more than `most_bytes` of texts padded to the longest, and of a text no
    more than `most_characters` (`tells` what it says about that).

    Besides, the requests whose numbers are in `passing` fail, and with those in `orders` comes another order. From
    request number `away[0]` on, all fail in the same way for `away[1]` seconds.
    """

    poison: dict[int, Kind] = field(default_factory=dict)
    most_texts: int = 1 << 30
    says: int | None = None
    most_bytes: int = 1 << 30
    most_characters: int = 1 << 30
    tells: str = "nothing"
    truncate: bool = True  # what the job wants of such texts
    passing: dict[int, Kind] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    away: tuple[int, float, Kind] | None = None
    back_at: float | None = None
    requests: int = 0
    lane: Lane = field(init=False)
    endpoint = Endpoint("http://host", "m", "openai", None)

    allowance = None

    async def embed(self, texts: Sequence[str], dim: int, read_s: float) -> Answer:
        self.requests += 1
        assert self.requests < 10_000
        if self.requests in self.orders:
            self.lane.obey(self.orders[self.requests])
        passing = self.passing.get(self.requests) or self.outage()
        await asyncio.sleep(0.01)
        if passing:
            raise Fault(passing, "for once", 500, retry_after_s=2.0 if passing is Kind.OVERLOADED else None)
        if len(texts) > self.most_texts:
            raise Fault(Kind.TOO_MANY_INPUTS, "too many", 413, most_rows=self.says)
        if len(texts) * max(map(len, texts)) > self.most_bytes:
            raise Fault(Kind.BACKEND, "out of memory", 500)
        if (longest := max(map(len, texts))) > self.most_characters:
            fits = self.most_characters / longest if self.tells == "what fits" else None
            most = self.most_characters if self.tells == "the limit" else None  # it takes a character for a token
            raise Fault(Kind.TOO_LONG, "too long", 400, fits=fits, most_tokens=most)
        for text in texts:
            if kind := self.poison.get(number(text)):
                raise Fault(kind, "not this one", 400)
        return Answer(np.array([vector(text) for text in texts], np.float32), sum(map(len, texts)))

    def outage(self) -> Kind | None:
        if self.away is None or self.requests < self.away[0]:
            return None
        now = asyncio.get_running_loop().time()
        if self.back_at is None:
            self.back_at = now + self.away[1]
        return self.away[2] if now < self.back_at else None


def number(text: str) -> int:
    return -1 if text == _OWN_TEXT else int(text.split()[0])


def vector(text: str) -> list[float]:
    return [number(text) + 1, len(text)]


def deliver(server: Server, texts: list[str], order: Order = WIDE, other: Server | None = None) -> dict[int, str]:
    """Reasons of the rejects; every other row has its vector. `other` takes what `server` does not."""
    part = OpenPart(Part(0, "part", 0, 0, len(texts)), Rows(list(texts), None, ()), 2, "float32")
    servers = [server, other] if other else [server]

    async def feed(lane: Lane, window: Window, group: asyncio.TaskGroup) -> None:
        while not part.complete:
            await lane.room()
            batch = lane.take()
            if batch:
                lane.start()
                group.create_task(lane.deliver(batch))
            elif not part.complete:
                await asyncio.sleep(1.0)

    async def all_of_it() -> None:
        window = Window()
        window.add(part)
        for each in servers:
            client = cast(EmbeddingClient, each)
            others_work = partial(any_works, [one for one in servers if one is not each])
            each.lane = Lane(client, 2, PATIENCE_S, order, window, truncate=server.truncate, elsewhere=others_work)
        async with asyncio.TaskGroup() as group:
            for each in servers:
                group.create_task(feed(each.lane, window, group))
        assert [each.lane.report().inflight for each in servers] == [0] * len(servers)
        assert sum(each.lane.rows for each in servers) == len(texts) - len(part._rejects)

    at_once(all_of_it())
    assert part.complete, "so many vectors and rejects came as there are rows"
    for row, text in enumerate(texts):
        whole, (own, length) = vector(text), part._vectors[row].tolist()
        cut = len(text) > server.most_characters and 0 < length <= server.most_characters
        assert row in part._rejects or (own == whole[0] and (cut or length == whole[1]))
    return {row: each.reason for row, each in part._rejects.items()}


def any_works(servers: list[Server]) -> bool:
    return any(each.lane.works for each in servers)


lengths = st.integers(0, 60)
texts_of_any_length = (st.lists(lengths, min_size=1, max_size=2) | st.lists(lengths, min_size=1, max_size=50)).map(
    lambda some: [f"{i} {'x' * length}" for i, length in enumerate(some)]
)
requests = st.integers(1, 6) | st.integers(1, 40)
orders = st.builds(
    Order,
    limit=st.integers(1, 5),
    batch_rows=st.integers(1, 60),
    batch_tokens=st.integers(1, 400),
    version=st.integers(1, 99),
    canary=st.integers(0, 3),
    canary_tokens=st.none() | st.integers(1, 900),
)


def poison_in(count: int) -> st.SearchStrategy[dict[int, Kind]]:
    kinds = st.sampled_from([kind for kind in Kind if Fault(kind, "").policy.then is Then.SPLIT])
    return st.dictionaries(st.integers(0, count - 1), kinds, max_size=6)


@examples(250)
@given(texts_of_any_length, st.data(), orders)
def test_each_row_gets_its_vector_or_is_the_one_reject_it_deserves(
    texts: list[str], data: st.DataObject, order: Order
) -> None:
    server = Server(
        poison=data.draw(poison_in(len(texts))),
        most_texts=data.draw(st.integers(1, 60)),
        says=data.draw(st.none() | st.integers(0, 100)),
        most_bytes=data.draw(st.sampled_from([1 << 30, 4000, 1000, 200, len(_OWN_TEXT)])),
        orders=data.draw(st.dictionaries(requests, orders, max_size=3)),
    )
    too_long = {row: Kind.BACKEND for row, text in enumerate(texts) if len(text) > server.most_bytes}
    assert deliver(server, texts, order) == {row: str(kind) for row, kind in (server.poison | too_long).items()}


@examples(200)
@given(texts_of_any_length, st.data(), orders)
def test_faults_that_pass_cost_no_row(texts: list[str], data: st.DataObject, order: Order) -> None:
    kinds = data.draw(
        st.lists(st.sampled_from([Kind.BACKEND, Kind.TRANSPORT, Kind.WRONG_ANSWER]), min_size=1, max_size=2)
    )
    fails = data.draw(st.lists(st.sampled_from([None, *kinds]), max_size=data.draw(st.sampled_from([4, 40]))))
    passing = [(request, kind) for request, kind in enumerate(fails, 1) if kind][:PASSING]
    server = Server(
        poison=data.draw(poison_in(len(texts))),
        most_texts=data.draw(st.integers(1, 60)),
        most_bytes=data.draw(st.sampled_from([1 << 30, 1000])),
        passing=data.draw(st.dictionaries(requests, st.just(Kind.OVERLOADED), max_size=20)) | dict(passing),
        orders=data.draw(st.dictionaries(requests, orders, max_size=3)),
    )
    assert deliver(server, texts, order).keys() == server.poison.keys()


outages = st.tuples(
    requests,
    st.floats(0.1, 100.0),
    st.sampled_from([Kind.TRANSPORT, Kind.BACKEND, Kind.OVERLOADED, Kind.STARTING, Kind.TIMEOUT]),
)


@examples(150)
@given(texts_of_any_length, st.data(), orders, outages)
def test_an_outage_costs_no_row(
    texts: list[str], data: st.DataObject, order: Order, away: tuple[int, float, Kind]
) -> None:
    server = Server(poison=data.draw(poison_in(len(texts))), away=away)
    assert deliver(server, texts, order).keys() == server.poison.keys()


@examples(100)
@given(texts_of_any_length, st.data(), orders, outages, st.none() | outages)
def test_what_one_server_cannot_take_goes_to_another(
    texts: list[str],
    data: st.DataObject,
    order: Order,
    away: tuple[int, float, Kind],
    other_away: tuple[int, float, Kind] | None,
) -> None:
    poison = data.draw(poison_in(len(texts)))
    other = Server(poison, away=other_away)
    assert deliver(Server(poison, away=away), texts, order, other).keys() == poison.keys()


@examples(150)
@given(texts_of_any_length, st.data(), orders, st.integers(len(_OWN_TEXT), 60), st.booleans())
def test_texts_that_are_too_long_are_cut_or_rejected(
    texts: list[str], data: st.DataObject, order: Order, most: int, truncate: bool
) -> None:
    tells = data.draw(st.sampled_from(["nothing", "what fits", "the limit"]))
    server = Server(poison=data.draw(poison_in(len(texts))), most_characters=most, tells=tells, truncate=truncate)
    too_long = {row for row, text in enumerate(texts) if len(text) > most and not truncate}
    assert deliver(server, texts, order).keys() == server.poison.keys() | too_long


@examples(60)
@given(st.integers(1, 300), st.data())
def test_what_finding_poisoned_texts_costs(count: int, data: st.DataObject) -> None:
    texts = [f"{i} {'x' * (i * 7 % 5)}" for i in range(count)]
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3))
    server = Server(poison=dict.fromkeys(bad, Kind.BAD_REQUEST))
    assert deliver(server, texts).keys() == bad
    assert server.requests - 1 <= len(bad) * (2 * math.ceil(math.log2(count)) + 2)


def test_a_limit_on_texts_that_is_none_is_no_limit() -> None:
    """A server that repeats its input in its message, where a text speaks of such a limit."""
    texts = [f"{i} x" for i in range(1000)]
    server = Server(most_texts=50, says=4096)
    assert deliver(server, texts) == {}
    assert server.requests == 1 + 2 + 4 + 8 + 16 + 32
    assert server.lane.batch_rows == WIDE.batch_rows
