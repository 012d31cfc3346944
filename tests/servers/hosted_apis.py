"""Cohere's and Voyage's APIs as their clients know them; what they say when they refuse is not known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.servers.in_thread import Asked, embedding_list, in_json, tokens_of
from tests.servers.vectors import vectors_of

COHERE_MODELS = ["embed-v4.0", "embed-english-v3.0"]


@dataclass
class Cohere:
    dim: int = 32
    asked: Asked = field(default_factory=Asked)

    def application(self) -> Starlette:
        return Starlette(
            routes=[Route("/v2/embed", self._embed, methods=["POST"]), Route("/v1/models", self._models)]
        )

    async def _models(self, _: Request) -> Response:
        models = [{"name": name, "endpoints": ["embed"], "context_length": 512} for name in COHERE_MODELS]
        return in_json({"models": models})

    async def _embed(self, request: Request) -> Response:
        asked = await _read(request, self.asked)
        texts, kinds = asked["texts"], asked["embedding_types"]
        if len(texts) > 96:
            return in_json({"id": "1", "message": "invalid request: total number of texts must be at most 96"}, 400)
        assert asked["input_type"] in ("search_document", "search_query", "classification", "clustering")
        assert asked["truncate"] in ("NONE", "START", "END")
        rows = vectors_of(texts, self.dim)[:, : asked.get("output_dimension")]
        forms = {"float": rows.tolist(), "base64": [np.ascontiguousarray(row).tobytes() for row in rows]}
        self.asked.answered(texts)
        return in_json(
            {
                "id": "54910170-852f-4322-9767-63d36e55c3bf",
                "texts": texts,
                "embeddings": {kind: forms[kind] for kind in kinds},
                "meta": {
                    "api_version": {"version": "2"},
                    "billed_units": {"input_tokens": sum(map(tokens_of, texts))},
                },
                "response_type": "embeddings_by_type",
            }
        )


@dataclass
class Voyage:
    dim: int = 32
    asked: Asked = field(default_factory=Asked)

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/v1/embeddings", self._embed, methods=["POST"])])

    async def _embed(self, request: Request) -> Response:
        asked = await _read(request, self.asked)
        known = {
            "input",
            "model",
            "input_type",
            "truncation",
            "output_dimension",
            "output_dtype",
            "encoding_format",
        }
        assert asked.keys() <= known
        assert asked["input_type"] in (None, "query", "document")
        assert asked["encoding_format"] in (None, "base64")
        texts = asked["input"]
        answer = embedding_list(texts, self.dim, asked["encoding_format"] == "base64", asked["model"])
        answer["usage"] = {"total_tokens": sum(map(tokens_of, texts))}
        self.asked.answered(texts)
        return in_json(answer)


async def _read(request: Request, asked: Asked) -> dict[str, Any]:
    body = await request.body()
    asked.requests.append((request.url.path, body))
    read: dict[str, Any] = msgspec.json.decode(body)
    return read
