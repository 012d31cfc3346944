"""Answers read by a dialect, for the tests of each."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from actors.embedder.dialects import Answer, Dialect, Reply, Request
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Wanted
from tests.actors.embedder.answers import finished


def read(dialect: Dialect, body: object, texts: int, headers: Mapping[str, str] | None = None) -> Answer:
    """`body` as bytes, or as what is to be JSON. It is read from memory that is overwritten afterwards, too."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    given = httpx.Headers(dict(headers or {}))
    answer = finished(dialect.answer(Reply(200, given, content), texts))
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    again = finished(dialect.answer(Reply(200, given, memory), texts))
    memory[:] = bytes(len(content))
    np.testing.assert_array_equal(again.vectors, answer.vectors)
    assert again.tokens == answer.tokens
    return answer


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
