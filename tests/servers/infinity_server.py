"""A stand-in for Infinity 0.0.78 with a model whose vectors have length 1, which its debug engine's have not."""

from __future__ import annotations

from typing import Any

from tests.servers.hosted import HostedServer, Model, Said, openai_list


class InfinityServer(HostedServer):
    def __init__(self, model: Model | None = None, *, prefix: str = "") -> None:
        self.prefix = prefix
        super().__init__(model)

    def page(self, path: str) -> object | None:
        stats = {"queue_fraction": 0.0, "queue_absolute": 0, "results_pending": 0, "batch_size": 32}
        model = {
            "id": self.model.name,
            "stats": stats,
            "object": "model",
            "owned_by": "infinity",
            "created": 1,
            "backend": "torch",
            "capabilities": ["embed"],
        }
        pages = {f"{self.prefix}/models": {"data": [model], "object": "list"}, "/health": {"unix": 1.0}}
        return pages.get(path)

    async def said(self, path: str, body: dict[str, Any]) -> Said | None:
        if path != f"{self.prefix}/embeddings":
            return None
        if "dimensions" in body and body["dimensions"] is None:
            detail = {
                "type": "int_type",
                "loc": ["body", "text", "dimensions"],
                "msg": "Input should be a valid integer",
                "input": None,
            }
            return Said({"detail": [detail]}, 422)
        texts: list[str] = [text.strip() for text in body["input"]]
        vectors = self.model.vectors(texts)[:, : body.get("dimensions") or None]
        characters = sum(map(len, texts))
        return Said(openai_list(vectors, self.model.name, characters, body.get("encoding_format"), id="infinity-1"))
