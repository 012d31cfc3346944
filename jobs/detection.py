"""Which kind of server is there: the dialects say what to ask, this asks, each thing once."""

from __future__ import annotations

import asyncio

from actors.embedder.client import EmbeddingClient
from actors.embedder.dialects import DIALECTS, Description, Looking, Reply, Request
from actors.embedder.dialects.errors import fault
from actors.embedder.dialects.openai import v1
from actors.embedder.faults import Fault, Kind

_PAGE_S = 10.0  # for one page to come
_TELLING = (Kind.AUTH, Kind.STARTING, Kind.OVERLOADED)  # of a server that hides what it is


async def detect(client: EmbeddingClient, dialects: tuple[str, ...]) -> tuple[str, Description] | None:
    """The first of the `dialects` that this server speaks, and what was found; None when it speaks none of them.

    Raises Fault when no server is there or it still loads, when it tells nothing because it wants a key, and when
    it is known but cannot be used.
    """
    pages = _Pages(client)
    url, model = client.endpoint.url, client.endpoint.model
    await pages.knock(Request("GET", f"{v1(url)}/models"))
    looks = (_look(DIALECTS[name].describe(url, model), pages) for name in dialects)
    for name, found in zip(dialects, await asyncio.gather(*looks, return_exceptions=True), strict=True):
        if isinstance(found, BaseException):
            raise found
        if found is not None:
            return name, found
    for reply in pages.replies():
        refused = fault(reply)
        if reply.status != 200 and (refused.kind in _TELLING or (reply is pages.first and reply.status < 400)):
            raise refused
    return None


async def _look(looking: Looking, pages: _Pages) -> Description | None:
    try:
        request = next(looking)
        while True:
            request = looking.send(await pages.ask(request))
    except StopIteration as found:
        description: Description | None = found.value
        return description


class _Pages:
    """Those of one server. Two dialects that ask the same share the answer."""

    def __init__(self, client: EmbeddingClient) -> None:
        self._client = client
        self.first: Reply | None = None  # that most dialects ask for
        self._asked: dict[tuple[str, str, bytes], asyncio.Task[Reply | None]] = {}

    async def knock(self, request: Request) -> None:
        """Ask what most dialects ask, before them all. Raises Fault when no server is there, or it still loads."""
        try:
            reply = await self._client.ask(request, _PAGE_S)
        except Fault as error:
            if error.kind is Kind.STARTING:
                raise
            reply = None
        if reply and reply.status != 200 and (loading := fault(reply)).kind is Kind.STARTING:
            raise loading
        self.first = reply
        self._asked[_key(request)] = asyncio.create_task(_known(reply))

    async def ask(self, request: Request) -> Reply | None:
        key = _key(request)
        if key not in self._asked:
            self._asked[key] = asyncio.create_task(self._fetch(request))
        return await self._asked[key]

    def replies(self) -> list[Reply]:
        """All that have come."""
        return [reply for task in self._asked.values() if task.done() and (reply := task.result())]

    async def _fetch(self, request: Request) -> Reply | None:
        try:
            return await self._client.ask(request, _PAGE_S)
        except Fault:
            return None


def _key(request: Request) -> tuple[str, str, bytes]:
    return request.method, request.url, request.body


async def _known(reply: Reply | None) -> Reply | None:
    return reply
