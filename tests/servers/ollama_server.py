"""An Ollama as its code has it: two routes for embeddings of which one always cuts, and a page for each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.servers.in_thread import Asked, embedding_list, in_json, tokens_of
from tests.servers.vectors import vectors_of


@dataclass
class Model:
    dim: int = 32
    context: int = 512
    capabilities: Sequence[str] | None = ("embedding",)
    arch: str = "nomic-bert"


def _models() -> dict[str, Model]:
    return {
        "llama3.2:latest": Model(dim=2048, capabilities=("completion", "tools"), arch="llama"),
        "nomic-embed-text:latest": Model(),
    }


@dataclass
class Ollama:
    """`knows_base64`: as since October 2025; before, `encoding_format` is not looked at. `busy`: so many 503."""

    models: dict[str, Model] = field(default_factory=_models)
    knows_base64: bool = True
    busy: int = 0
    asked: Asked = field(default_factory=Asked)

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._front),
                Route("/api/version", self._version),
                Route("/api/tags", self._tags),
                Route("/api/show", self._show, methods=["POST"]),
                Route("/api/embed", self._embed, methods=["POST"]),
                Route("/v1/models", self._list),
                Route("/v1/embeddings", self._openai, methods=["POST"]),
            ],
            exception_handlers={404: _no_page},
        )

    async def _front(self, _: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    async def _version(self, _: Request) -> Response:
        return in_json({"version": "0.33.0"})

    async def _tags(self, _: Request) -> Response:
        tags = [{"name": name, "model": name, "size": 1, "details": {"family": "x"}} for name in self.models]
        return in_json({"models": tags})

    async def _list(self, _: Request) -> Response:
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "library"} for name in self.models]
        return in_json({"object": "list", "data": data})

    async def _show(self, request: Request) -> Response:
        name = msgspec.json.decode(await request.body())["model"]
        model = self._find(name)
        if model is None:
            return in_json({"error": f"model '{name}' not found"}, 404)
        info = {
            "general.architecture": model.arch,
            f"{model.arch}.embedding_length": model.dim,
            f"{model.arch}.context_length": model.context,
            f"{model.arch}.attention.head_count": 12,
        }
        told = {} if model.capabilities is None else {"capabilities": model.capabilities}
        return in_json({"details": {"family": model.arch}, "model_info": info, **told})

    async def _embed(self, request: Request) -> Response:
        asked = await self._read(request)
        texts = _texts(asked.get("input"))
        if isinstance(texts, str):
            return in_json({"error": texts}, 400)
        if self.busy > 0:
            self.busy -= 1
            return in_json({"error": "server busy, please try again.  maximum pending requests exceeded"}, 503)
        model = self._find(asked["model"])
        if model is None:
            return in_json({"error": f'model "{asked["model"]}" not found, try pulling it first'}, 404)
        kept = [_cut(text, model.context) for text in texts]
        if not asked.get("truncate", True) and kept != texts:
            return in_json({"error": "the input length exceeds the context length"}, 400)
        rows = _shortened(kept, model.dim, asked.get("dimensions"))
        self.asked.answered(texts)
        return in_json(
            {
                "model": asked["model"],
                "embeddings": rows.tolist(),
                "total_duration": 14143917,
                "load_duration": 1019500,
                "prompt_eval_count": sum(map(tokens_of, kept)),
            }
        )

    async def _openai(self, request: Request) -> Response:
        asked = await self._read(request)
        texts = _texts(asked.get("input"))
        if isinstance(texts, str) or not texts:
            return _openai_error(400, texts if isinstance(texts, str) else "invalid input", "invalid_request_error")
        if self.busy > 0:
            self.busy -= 1
            busy = "server busy, please try again.  maximum pending requests exceeded"
            return _openai_error(503, busy, "api_error")
        model = self._find(asked["model"])
        if model is None:
            return _openai_error(404, f"model '{asked['model']}' not found", "not_found_error")
        kept = [_cut(text, model.context) for text in texts]
        as_base64 = self.knows_base64 and asked.get("encoding_format") == "base64"
        answer = embedding_list(kept, model.dim, as_base64, asked["model"])
        self.asked.answered(texts)
        return in_json(answer)

    async def _read(self, request: Request) -> dict[str, Any]:
        body = await request.body()
        self.asked.requests.append((request.url.path, body))
        asked: dict[str, Any] = msgspec.json.decode(body)
        assert "options" not in asked, "the model is loaded again"
        return asked

    def _find(self, name: str) -> Model | None:
        return self.models.get(name if ":" in name else f"{name}:latest")


def _texts(given: object) -> list[str] | str:
    """Or what is wrong with them."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        return given
    return "invalid input type"


def _cut(text: str, tokens: int) -> str:
    return text if tokens_of(text) <= tokens else " ".join(text.split()[: tokens - 2])


def _shortened(texts: Sequence[str], dim: int, wanted: int | None) -> np.ndarray:
    rows = vectors_of(texts, dim)
    if not wanted or wanted >= dim:
        return rows
    cut = rows[:, :wanted]
    return cut / np.linalg.norm(cut, axis=1, keepdims=True)


def _openai_error(status: int, message: str, kind: str) -> Response:
    return in_json({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


async def _no_page(_: Request, __: Exception) -> Response:
    return PlainTextResponse("404 page not found", 404)
