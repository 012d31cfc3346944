"""A dialect's look at a server whose pages the test makes up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import msgspec

from actors.embedder.dialects import Description, Dialect, Reply, Request

URL = "http://host"


def described(
    dialect: Dialect, answer: Callable[[int, Request], Reply | None], url: str = URL, model: str = ""
) -> Description | None:
    """What it finds. `answer` is given each request, and how many came before it."""
    looking = dialect.describe(url, model)
    try:
        request = next(looking)
        for count in range(1000):
            request = looking.send(answer(count, request))
    except StopIteration as found:
        return found.value
    raise AssertionError("it looks for ever")


def described_by(
    dialect: Dialect, pages: Mapping[str, object], url: str = URL, model: str = ""
) -> Description | None:
    """What it finds at a server that has these pages below `url`, as JSON or bytes, and 404 for all others."""

    def answer(_: int, request: Request) -> Reply | None:
        page = pages.get(request.url.removeprefix(url))
        if page is None:
            return Reply(404, httpx.Headers(), b'{"detail":"Not Found"}')
        return Reply(200, httpx.Headers(), page if isinstance(page, bytes) else msgspec.json.encode(page))

    return described(dialect, answer, url, model)
