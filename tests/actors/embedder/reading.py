"""Answers read by a dialect, for the tests of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import pytest

from actors.embedder.dialects import Answer, Dialect, Reply, Request
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Wanted
from tests.actors.embedder.answers import finished


def read(dialect: Dialect, body: object, texts: int, headers: Mapping[str, str] | None = None) -> Answer:
    """`body` as bytes, or as what is to be JSON."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return finished(dialect.answer(Reply(200, httpx.Headers(dict(headers or {})), content), texts))


def wrong(dialect: Dialect, body: object, texts: int, headers: Mapping[str, str] | None = None) -> str:
    """What the fault says that it must be, in one line."""
    with pytest.raises(Fault) as raised:
        read(dialect, body, texts, headers)
    assert raised.value.kind is Kind.WRONG_ANSWER
    assert len(raised.value.detail.splitlines()) == 1
    assert len(raised.value.detail) < 400
    return raised.value.detail


def at(url: str, dialect: str, encoding: str = "", route: str = "", model: str = "m", **wanted: Any) -> Endpoint:
    return Endpoint(url, model, dialect, None, route=route, encoding=encoding, wanted=Wanted(**wanted))


def fields(request: Request) -> dict[str, Any]:
    """Of the request's JSON."""
    read: dict[str, Any] = msgspec.json.decode(request.body)
    return read
