"""A llama-server as its code has it: the pages that tell of it, and three ways to say that a text is too long."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.servers.in_thread import Asked, embedding_list, in_json, tokens_of


@dataclass
class LlamaCpp:
    """`loading`: so many requests, of any page, are answered with `Loading model`."""

    dim: int = 32
    model: str = "bge-small-en-v1.5-q8_0.gguf"
    slots: int = 4
    n_ctx: int = 2048
    n_ubatch: int = 512
    embeddings: bool = True
    api_key: str = ""
    loading: int = 0
    metrics: str = ""
    asked: Asked = field(default_factory=Asked)

    def application(self) -> Starlette:
        routes = [
            Route("/health", self._page(lambda: {"status": "ok"}, is_open=True)),
            Route("/v1/health", self._page(lambda: {"status": "ok"}, is_open=True)),
            *(
                Route(path, self._page(self._models, is_open=True))
                for path in ("/models", "/v1/models", "/api/tags")
            ),
            Route("/props", self._page(self._props)),
            Route("/metrics", self._metrics),
            Route("/v1/embeddings", self._embed, methods=["POST"]),
            Route("/embeddings", self._own, methods=["POST"]),
            Route("/embedding", self._own, methods=["POST"]),
            Route("/{rest:path}", self._nothing, methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes)

    def _page(self, content, is_open: bool = False):  # type: ignore[no-untyped-def]
        async def page(request: Request) -> Response:
            return self._refused(request, is_open) or in_json(content())

        return page

    async def _metrics(self, _: Request) -> Response:
        if self.metrics:
            return Response(self.metrics, media_type="text/plain")
        return _error(
            501, "This server does not support metrics endpoint. Start it with `--metrics`", "not_supported_error"
        )

    def _models(self) -> object:
        meta = {"n_ctx": self.n_ctx, "n_ctx_train": 512, "n_embd": self.dim, "n_vocab": 30522, "size": 1}
        return {
            "models": [{"name": self.model, "model": self.model, "capabilities": ["completion"]}],
            "object": "list",
            "data": [{"id": self.model, "object": "model", "owned_by": "llamacpp", "meta": meta}],
        }

    def _props(self) -> object:
        return {
            "default_generation_settings": {"id": 0, "n_ctx": self.n_ctx, "params": {}},
            "total_slots": self.slots,
            "model_path": f"/models/{self.model}",
            "build_info": "b7000-1a2b3c4d",
        }

    async def _embed(self, request: Request) -> Response:
        body = await request.body()
        self.asked.requests.append((request.url.path, body))
        if refused := self._refused(request):
            return refused
        if not self.embeddings:
            message = "This server does not support embeddings. Start it with `--embeddings`"
            return _error(501, message, "not_supported_error")
        asked = msgspec.json.decode(body)
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        if not texts:
            return _error(400, '"input" must not be empty', "invalid_request_error")
        for text in texts:
            if refusal := self._too_long(tokens_of(text)):
                return refusal
        self.asked.answered(texts)
        as_base64 = asked.get("encoding_format") == "base64"
        answer = embedding_list(texts, self.dim, as_base64, asked.get("model"))
        if asked.get("embd_normalize", 2) == -1:
            answer["data"] = _twice_as_long(texts, self.dim)
        elif as_base64:
            answer["data"] = [{**item, "encoding_format": "base64"} for item in answer["data"]]  # type: ignore[attr-defined]
        return in_json(answer)

    def _too_long(self, tokens: int) -> Response | None:
        if tokens > self.n_ctx:
            message = f"input ({tokens} tokens) is larger than the max context size ({self.n_ctx} tokens). skipping"
            more = {"n_prompt_tokens": tokens, "n_ctx": self.n_ctx}
            return _error(400, message, "exceed_context_size_error", **more)
        if tokens > self.n_ubatch:
            message = (
                f"input ({tokens} tokens) is too large to process. increase the physical batch size "
                f"(current batch size: {self.n_ubatch})"
            )
            return _error(500, message, "server_error")
        return None

    async def _own(self, request: Request) -> Response:
        """Not OpenAI's: a list of one vector a token, in the end of one that stands for all."""
        return self._refused(request) or in_json([{"index": 0, "embedding": [[0.5] * self.dim]}])

    async def _nothing(self, request: Request) -> Response:
        return self._refused(request) or _error(404, "File Not Found", "not_found_error")

    def _refused(self, request: Request, is_open: bool = False) -> Response | None:
        if self.loading > 0:
            self.loading -= 1
            return _error(503, "Loading model", "unavailable_error")
        if self.api_key and not is_open and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _error(401, "Invalid API Key", "authentication_error")
        return None


def _twice_as_long(texts: list[str], dim: int) -> list[dict[str, object]]:
    from tests.servers.vectors import vectors_of

    return [{"index": i, "embedding": (2 * row).tolist()} for i, row in enumerate(vectors_of(texts, dim))]


def _error(status: int, message: str, kind: str, **more: object) -> Response:
    return in_json({"error": {"code": status, "message": message, "type": kind, **more}}, status)
