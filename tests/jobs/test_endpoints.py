"""What is asked of an endpoint before the job starts, when the first answer is not the best."""

from __future__ import annotations

import pytest

from actors.embedder.faults import Kind
from actors.errors import FAILED, UserError
from jobs import endpoints
from jobs.endpoints import find_endpoints
from jobs.settings import Endpoint
from tests.servers.fixture import EmbeddingServer


@pytest.mark.parametrize("wrong", ["short", "dim", "nan", "zero", "truncated", "html", "index"])
def test_one_wrong_answer_is_asked_again(server: EmbeddingServer, wrong: str) -> None:
    server.behave(wrong=wrong, wrong_for="next:1")
    assert find_endpoints([Endpoint(url=server.url)]).dim == 32


@pytest.mark.parametrize("status", [429, 500, 503])
def test_one_failure_is_asked_again(server: EmbeddingServer, status: int) -> None:
    server.behave(fail_next=1, fail_status=status)
    assert find_endpoints([Endpoint(url=server.url)]).dim == 32


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
    monkeypatch.setitem(endpoints._PATIENCE_S, kind, 0.0)
    server.behave(**behaviour)
    with pytest.raises(UserError, match=f"{server.url} cannot be used \\({kind}") as refused:
        find_endpoints([Endpoint(url=server.url)])
    assert refused.value.exit_code == FAILED
