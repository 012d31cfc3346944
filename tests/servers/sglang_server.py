"""A stand-in for SGLang 0.5.23 with `--is-embedding`."""

from __future__ import annotations

from typing import Any

from tests.servers.hosted import HostedServer, Model, Said, openai_list, pause


class SGLangServer(HostedServer):
    def __init__(self, model: Model | None = None, *, most_queued: int | None = None) -> None:
        self.most_queued = most_queued
        self._inflight = 0
        super().__init__(model)

    def page(self, path: str) -> object | None:
        model = {
            "id": self.model.name,
            "object": "model",
            "created": 1,
            "owned_by": "sglang",
            "root": self.model.name,
            "parent": None,
            "max_model_len": self.model.most_tokens,
        }
        server = {
            "model_path": self.model.name,
            "is_embedding": True,
            "max_prefill_tokens": 16384,
            "chunked_prefill_size": 8192,
            "max_running_requests": None,
            "max_queued_requests": self.most_queued,
            "allow_auto_truncate": False,
            "version": "0.5.23",
        }
        return {
            "/v1/models": {"object": "list", "data": [model]},
            "/model_info": {"model_path": self.model.name, "is_generation": False},
            "/server_info": server,
            "/health": b"",
        }.get(path)

    async def said(self, path: str, body: dict[str, Any]) -> Said | None:
        if path != "/v1/embeddings":
            return None
        texts: list[str] = body["input"]
        if not texts:
            return _refusal(400, "Input cannot be empty")
        for index, text in enumerate(texts):
            if not text.strip():
                return _refusal(400, f"Input at index {index} cannot be empty or whitespace only")
        if self.most_queued is not None and self._inflight + len(texts) > self.most_queued:
            return _refusal(503, "The request queue is full.", "503")
        longest = max(map(self.model.tokens, texts))
        if longest >= self.model.most_tokens:
            message = f"The input ({longest} tokens) is longer than the model's context length "
            return _refusal(400, message + f"({self.model.most_tokens} tokens).")
        self._inflight += len(texts)
        try:
            await pause()
        finally:
            self._inflight -= len(texts)
        vectors = self.model.vectors(texts, body.get("dimensions"))
        tokens = sum(map(self.model.tokens, texts))
        return Said(openai_list(vectors, self.model.name, tokens, body.get("encoding_format")))


def _refusal(status: int, message: str, kind: str = "BadRequestError") -> Said:
    return Said({"object": "error", "message": message, "type": kind, "param": None, "code": status}, status)
