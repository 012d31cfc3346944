"""What is asked of an endpoint before the job starts, when the first answer is not the best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from actors.embedder.faults import Kind
from actors.errors import FAILED, UserError
from actors.messages import Limits
from jobs import probing
from jobs.endpoints import Found, find_endpoints
from jobs.probe import facts
from jobs.settings import Endpoint, Vectors
from tests.servers.behaviour import Behaviour
from tests.servers.embedding_server import application
from tests.servers.fixture import EmbeddingServer
from tests.servers.in_thread import Servers, servers

__all__ = ["servers"]


@dataclass
class Below:
    """A gateway that has a server below a path of its own."""

    path: str
    server: Starlette

    def application(self) -> Starlette:
        return Starlette(routes=[Mount(self.path, self.server)])


class Elsewhere:
    """A gateway that sends everybody to another address."""

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._moved, methods=["GET", "POST"])])

    async def _moved(self, request: Request) -> Response:
        return RedirectResponse(f"https://b.example{request.url.path}", 308)


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


@pytest.fixture
def another() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as other:
        yield other


def test_endpoints_of_one_model_agree(server: EmbeddingServer, another: EmbeddingServer) -> None:
    another.behave(length=3.0)
    assert [each.url for each in found(server.url, another.url).endpoints] == [server.url, another.url]


def test_endpoints_that_give_other_vectors_are_refused_by_name(
    server: EmbeddingServer, another: EmbeddingServer
) -> None:
    another.behave(salt="another model")
    with pytest.raises(UserError, match="different vectors for the same text") as refused:
        found(server.url, another.url)
    assert server.url in refused.value.message
    assert another.url in refused.value.message
    assert found(server.url, another.url, allow_mixed=True).dim == 32


def test_another_dimension_is_refused_whatever_is_allowed(
    server: EmbeddingServer, another: EmbeddingServer
) -> None:
    another.behave(dim=16)
    with pytest.raises(UserError, match=f"{server.url} gives 32 dimensions but {another.url} 16"):
        found(server.url, another.url, allow_mixed=True)


@pytest.mark.parametrize(("shortens", "unit"), [("cut", True), ("unit", False)])
def test_shortened_vectors_are_made_of_length_one_where_the_server_does_not(
    server: EmbeddingServer, shortens: str, unit: bool
) -> None:
    server.behave(shortens=shortens)
    (one,) = found(server.url, dimensions=8).servers
    assert one.endpoint.unit is unit
    assert one.endpoint.wanted.dimensions == 8
    np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-5)


def test_vectors_that_never_had_length_one_are_left_as_they_are(server: EmbeddingServer) -> None:
    server.behave(shortens="cut", length=5.0)
    (one,) = found(server.url, dimensions=8).servers
    assert not one.endpoint.unit


def test_a_model_that_cannot_be_shortened_is_named(server: EmbeddingServer) -> None:
    with pytest.raises(UserError, match="does not support specifying dimensions"):
        found(server.url, dimensions=8)


def test_a_prompt_by_name_needs_a_server_that_has_some(server: EmbeddingServer) -> None:
    with pytest.raises(UserError, match=r"has no prompts of its own .*--prompt"):
        found(server.url, prompt_name="query")


def test_what_is_set_holds_instead_of_what_is_found(server: EmbeddingServer) -> None:
    asked = Endpoint(url=server.url, texts_per_request=3, encoding="float", tokens_per_text=99)
    (one,) = find_endpoints([asked], Vectors(), truncate=True).servers
    assert one.endpoint.limits == Limits(texts_per_request=3, tokens_per_text=99)
    assert one.endpoint.encoding == "float"
    assert one.description.told["texts_per_request"] == "set"


def test_whether_a_server_cuts_long_texts_can_be_set(server: EmbeddingServer) -> None:
    (unknown,) = found(server.url).servers
    assert (unknown.endpoint.cuts, [line.what for line in facts(unknown)].count("long texts")) == (False, 0)
    for cuts, words in ((True, "cut by the server"), (False, "refused by the server")):
        asked = Endpoint(url=server.url, cuts_long_texts=cuts)
        (one,) = find_endpoints([asked], Vectors(), truncate=True).servers
        assert one.endpoint.cuts is cuts
        assert [(line.value, line.how) for line in facts(one) if line.what == "long texts"] == [(words, "set")]


@pytest.mark.parametrize("route", ["/v1/embeddings", "/embeddings", "/embed", "/api/embed", "/v2/models/m/infer"])
def test_the_address_of_a_route_is_told_from_a_base_url(server: EmbeddingServer, route: str) -> None:
    for model in (None, "test-embedder"):
        with pytest.raises(UserError, match=f"or give the base URL, {server.url}$"):
            find_endpoints([Endpoint(url=server.url + route, model=model)], Vectors(), truncate=True)


def test_a_base_url_may_end_like_a_route(servers: Servers) -> None:
    url = servers.start(Below("/team/embed", application(Behaviour())))
    assert found(f"{url}/team/embed").endpoints[0].route == f"{url}/team/embed/v1/embeddings"


@pytest.mark.parametrize("model", [None, "m"])
def test_an_address_that_leads_elsewhere_says_where(servers: Servers, model: str | None) -> None:
    url = servers.start(Elsewhere())
    with pytest.raises(UserError, match=r"status 308: it leads to https://b\.example/v1/") as refused:
        find_endpoints([Endpoint(url=url, model=model)], Vectors(), truncate=True)
    assert url in str(refused.value)


def test_vectors_that_stay_of_length_one_are_told_of(
    server: EmbeddingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(server.url, normalize="no").dim == 32
    assert f"{server.url} (OpenAI API) gives vectors of length 1 with --normalize no" in capsys.readouterr().err
    server.behave(length=3.0)
    assert found(server.url, normalize="no").dim == 32
    assert capsys.readouterr().err == ""


def test_a_server_that_takes_few_texts_is_asked_one_by_one(server: EmbeddingServer) -> None:
    server.behave(max_inputs=2)
    assert found(server.url).dim == 32
