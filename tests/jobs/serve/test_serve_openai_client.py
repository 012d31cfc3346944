"""Our server as OpenAI's own client meets it: what it sends unasked, what it reads, and which errors it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from jobs.serve.app import create_app
from jobs.serve.backends import Backend
from jobs.serve.backends.base import encode
from tests.servers.in_thread import serving

TEXTS = ["The cat sat on the mat.", "日本語のテキスト 🙂", "x"]
KEY = "sesame-42"


@pytest.fixture(scope="module")
def url(wordllama: Backend) -> Iterator[str]:
    with serving(create_app(wordllama, KEY)) as url:
        yield f"{url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with client_of(url) as client:
        yield client


def client_of(url: str, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0)


def expected(wordllama: Backend) -> np.ndarray:
    return encode(wordllama, TEXTS).vectors


def test_vectors_as_the_client_asks_for_them_unsaid(client: openai.OpenAI, wordllama: Backend) -> None:
    """That is in base64, which the client then decodes."""
    answer = client.embeddings.create(model=wordllama.name, input=TEXTS)
    assert (answer.object, answer.model) == ("list", wordllama.name)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert {item.object for item in answer.data} == {"embedding"}
    assert all(type(value) is float for value in answer.data[0].embedding)
    rows = np.array([item.embedding for item in answer.data], np.float32)
    np.testing.assert_array_equal(rows, expected(wordllama))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == encode(wordllama, TEXTS).tokens.sum()


def test_base64_is_what_went_over_the_wire(client: openai.OpenAI, wordllama: Backend) -> None:
    raw = client.embeddings.with_raw_response.create(model=wordllama.name, input=TEXTS)
    assert raw.http_request.read().find(b'"encoding_format":"base64"') > 0
    assert all(isinstance(item["embedding"], str) for item in raw.http_response.json()["data"])


def test_base64_that_is_asked_for_is_left_as_it_is(client: openai.OpenAI, wordllama: Backend) -> None:
    answer = client.embeddings.create(model=wordllama.name, input=TEXTS, encoding_format="base64")
    assert all(isinstance(item.embedding, str) for item in answer.data)


def test_numbers_when_asked_for(client: openai.OpenAI, wordllama: Backend) -> None:
    answer = client.embeddings.create(model=wordllama.name, input=TEXTS, encoding_format="float", user="somebody")
    rows = np.array([item.embedding for item in answer.data], np.float32)
    np.testing.assert_array_equal(rows, expected(wordllama))


def test_one_text_and_fewer_dimensions(client: openai.OpenAI, wordllama: Backend) -> None:
    answer = client.embeddings.create(model=wordllama.name, input=TEXTS[0], dimensions=64)
    cut = expected(wordllama)[0, :64]
    np.testing.assert_allclose(answer.data[0].embedding, cut / np.linalg.norm(cut), atol=1e-6)


def test_models(client: openai.OpenAI, wordllama: Backend) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == (wordllama.name, "model", "rayembed")
    assert model.created > 0
    assert client.models.retrieve(wordllama.name).id == wordllama.name
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("text-embedding-3-small")
    assert raised.value.code == "model_not_found"


def test_a_wrong_key(url: str, wordllama: Backend) -> None:
    with client_of(url, "sesame-43") as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.embeddings.create(model=wordllama.name, input=TEXTS)
        assert raised.value.code == "invalid_api_key"
        assert "sesame" not in str(raised.value)
        with pytest.raises(openai.AuthenticationError):
            list(client.models.list())


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert raised.value.type == "invalid_request_error"


@pytest.mark.parametrize("given", ["", [], ["a", ""], [1, 2], [[1], [2]], ["a"] * 2049])
def test_input_that_cannot_be_embedded(client: openai.OpenAI, wordllama: Backend, given: list[str]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model=wordllama.name, input=given)
    assert (raised.value.status_code, raised.value.param) == (400, "input")
    assert raised.value.type == "invalid_request_error"


def test_more_dimensions_than_there_are(client: openai.OpenAI, wordllama: Backend) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model=wordllama.name, input="a", dimensions=9999)
    assert raised.value.param == "dimensions"


def test_a_route_that_is_not_there(client: openai.OpenAI, wordllama: Backend) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
        client.chat.completions.create(model=wordllama.name, messages=[{"role": "user", "content": "hi"}])


async def test_many_requests_at_a_time(url: str, wordllama: Backend) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        answers = await asyncio.gather(
            *(client.embeddings.create(model=wordllama.name, input=[str(i)]) for i in range(50))
        )
    rows = np.array([answer.data[0].embedding for answer in answers], np.float32)
    np.testing.assert_allclose(rows, encode(wordllama, [str(i) for i in range(50)]).vectors, atol=1e-6)
