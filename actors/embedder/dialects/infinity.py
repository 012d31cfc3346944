"""Infinity `/embeddings`, below whatever prefix it was given: OpenAI's shape, less some of its fields.

Source: infinity-emb 0.0.78, live. It always cuts a text that is too long without a word, and cuts vectors to
`dimensions` without making them of length 1 again (see `jobs.endpoints`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from actors.embedder.dialects.base import Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.openai import OpenAI, root, v1
from actors.embedder.dialects.pages import Count, told
from actors.messages import Endpoint, Limits

_MOST_TEXTS = 2048  # INFINITY_MAX_CLIENT_BATCH_SIZE
_MOST_QUEUED = 32_000  # INFINITY_QUEUE_SIZE
_SORTED = 8  # batches


class _Stats(msgspec.Struct):
    queue_fraction: float
    batch_size: Count


class _Model(msgspec.Struct):
    id: str
    stats: _Stats


class _Models(msgspec.Struct):
    data: list[_Model]


_models = msgspec.json.Decoder(_Models)


class Infinity:
    def __init__(self) -> None:
        self._openai = OpenAI()

    def describe(self, url: str, model: str) -> Looking:
        for base in (v1(url), root(url)):
            if (found := told((yield Request("GET", f"{base}/models")), _models)) and found.data:
                return _described(base, found.data, model)
        return None

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        """Where the user gives no more than the URL, the route is the one that it has by default."""
        route = endpoint.route or f"{endpoint.url}/embeddings"
        return self._openai.request(replace(endpoint, route=route), texts, {})

    def answer(self, reply: Reply, texts: int) -> Decoding:
        """Without tokens: what it counts as such are characters, unless it was started to count tokens."""
        answer = yield from self._openai.answer(reply, texts)
        return replace(answer, tokens=None)


def _described(base: str, models: list[_Model], model: str) -> Description:
    batch = next((each for each in models if each.id == model), models[0]).stats.batch_size
    page = f"{'/v1' if base.endswith('/v1') else ''}/models"
    return Description(
        server="Infinity",
        route=f"{base}/embeddings",
        encodings=("base64", "float"),
        models=tuple(each.id for each in models),
        cuts_long_texts=True,
        batching=f"merges requests into batches of {batch} texts, sorted by length within {_SORTED} of them: "
        f"wants {_SORTED * batch} texts in flight",
        takes=frozenset({"dimensions"}),
        limits=Limits(texts_per_request=_MOST_TEXTS, texts_in_flight=_MOST_QUEUED, texts_merged=_SORTED * batch),
        told={"server": page, "models": page, "batching": page, "texts_merged": page},
        switches={"texts_in_flight": "INFINITY_QUEUE_SIZE", "tokens_per_gpu_batch": "--batch-size"},
    )
