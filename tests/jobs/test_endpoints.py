"""What is asked of an endpoint before the job starts, when the first answer is not the best."""

from __future__ import annotations

import pytest

from actors.embedder.faults import Kind
from actors.errors import FAILED, UserError
from jobs import probing
from jobs.endpoints import Found, find_endpoints
from jobs.settings import Endpoint, Vectors
from tests.servers.fixture import EmbeddingServer


def found(*urls: str, **vectors: object) -> Found:
    return find_endpoints([Endpoint(url=url) for url in urls], Vectors(**vectors), truncate=True)


@pytest.mark.parametrize("wrong", ["short", "dim", "nan", "zero", "truncated", "html", "index"])
def test_one_wrong_answer_is_asked_again(server: EmbeddingServer, wrong: str) -> None:
    server.behave(wrong=wrong, wrong_for="next:1")
    assert found(server.url).dim == 32


@pytest.mark.parametrize("status", [429, 500, 503])
def test_one_failure_is_asked_again(server: EmbeddingServer, status: int) -> None:
    server.behave(fail_next=1, fail_status=status)
    assert found(server.url).dim == 32


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ({"wrong": "html"}, Kind.WRONG_ANSWER),
        ({"wrong": "dim", "wrong_for": "Another"}, Kind.WRONG_ANSWER),
        ({"fail_next": 1000, "fail_status": 500}, Kind.BACKEND),
    ],
)
def test_what_lasts_is_told(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch, behaviour: dict[str, object], kind: Kind
) -> None:
    monkeypatch.setitem(probing._PATIENCE_S, kind, 0.0)
    server.behave(**behaviour)
    with pytest.raises(UserError, match=f"{server.url} cannot be used \\({kind}") as refused:
        found(server.url)
    assert refused.value.exit_code == FAILED
