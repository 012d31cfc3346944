"""A stand-in for vLLM 0.32, or for 0.10.2, which knows neither `bytes_only` nor `/v2/embed`.

One that calls itself 0.8 takes no -1 for `truncate_prompt_tokens`, as old ones did not.
"""

from __future__ import annotations

from typing import Any

from tests.servers.hosted import HostedServer, Model, Said, openai_list, pause

PROMPTS = {"query": "query: ", "document": "passage: "}
_NORMALIZE = "Parameter `normalize` was removed; use `use_activation` instead. (parameter=normalize)"
_BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)


class VLLMServer(HostedServer):
    def __init__(
        self, model: Model | None = None, *, version: str = "0.32.0", most_queued: int | None = None
    ) -> None:
        """`most_queued` texts wait or are worked on (`--max-num-queued-reqs`); None: any number."""
        self.version = version
        self.oldest = version.startswith("0.8.")
        self.old = self.oldest or version.startswith("0.10.")
        self.most_queued = most_queued
        self._inflight = 0
        super().__init__(model)

    def page(self, path: str) -> object | None:
        if path == "/v1/models":
            model = {
                "id": self.model.name,
                "object": "model",
                "created": 1,
                "owned_by": "vllm",
                "root": self.model.name,
                "parent": None,
                "max_model_len": self.model.most_tokens,
                "permission": [],
            }
            return {"object": "list", "data": [model]}
        return {"/version": {"version": self.version}, "/health": b""}.get(path)

    async def said(self, path: str, body: dict[str, Any]) -> Said | None:
        texts = body.get("input") or body.get("texts") or []
        if path not in ("/v1/embeddings", "/v2/embed") or (self.old and path == "/v2/embed"):
            return None
        if self.most_queued is not None and self._inflight + len(texts) > self.most_queued:
            return _refusal(503, _BUSY, "Service Unavailable")
        self._inflight += len(texts)
        try:
            await pause()
            return self._embedded(texts, body) if path == "/v1/embeddings" else self._embedded_by_type(texts, body)
        finally:
            self._inflight -= len(texts)

    def _embedded(self, texts: list[str], body: dict[str, Any]) -> Said:
        encoding = body.get("encoding_format", "float")
        if encoding not in (("float", "base64") if self.old else ("float", "base64", "bytes", "bytes_only")):
            message = f"1 validation error: 'encoding_format' is {encoding!r}"
            return _refusal(400, message, "Bad Request", "body.encoding_format")
        if self.oldest and body.get("truncate_prompt_tokens", 1) < 1:
            message = "1 validation error: input should be greater than or equal to 1"
            return _refusal(400, message, "BadRequestError", "truncate_prompt_tokens")
        if "normalize" in body and not self.old:
            return _refusal(400, _NORMALIZE, "Bad Request", "normalize")
        if refusal := self._refusal(texts, body, cut=body.get("truncate_prompt_tokens") == -1):
            return refusal
        raw = body.get("use_activation") is False and not self.old
        vectors = self.model.vectors(texts, body.get("dimensions"), raw)
        if encoding == "bytes_only":
            return Said(vectors.astype("<f4").tobytes(), content_type="application/octet-stream")
        tokens = self._tokens(texts)
        return Said(openai_list(vectors, self.model.name, tokens, encoding, id="embd-1", created=1))

    def _embedded_by_type(self, texts: list[str], body: dict[str, Any]) -> Said:
        prompt = ""
        if (name := body.get("input_type")) is not None:
            if name not in PROMPTS:
                return _refusal(400, f"Unsupported input_type '{name}'. Supported values: {', '.join(PROMPTS)}.")
            prompt = PROMPTS[name]
        texts = [prompt + text for text in texts]
        if refusal := self._refusal(texts, body, cut=body.get("truncate", "END") != "NONE"):
            return refusal
        vectors = self.model.vectors(texts, body.get("output_dimension"))
        (kind,) = body["embedding_types"]
        rows = [row.tobytes() if kind == "base64" else row.tolist() for row in vectors]
        embeddings = dict.fromkeys(("float", "binary", "ubinary", "base64")) | {kind: rows}
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": self._tokens(texts)}}
        return Said({"id": "embd-1", "embeddings": embeddings, "texts": body["texts"], "meta": meta})

    def _refusal(self, texts: list[str], body: dict[str, Any], cut: bool) -> Said | None:
        if body.get("model") not in (None, "", self.model.name):
            return _refusal(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if not texts:
            return _refusal(400, "You must pass at least one prompt")
        longest = max(map(self.model.tokens, texts))
        if longest > self.model.most_tokens and not cut:
            most = self.model.most_tokens
            message = (
                f"This model's maximum context length is {most} tokens. However, your prompt contains at least "
                f"{most + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce "
                f"the length of the input prompt. (parameter=input_tokens, value={most + 1})"
            )
            return _refusal(400, message, "BadRequestError", "input_tokens")
        return None

    def _tokens(self, texts: list[str]) -> int:
        return sum(min(self.model.tokens(text), self.model.most_tokens) for text in texts)


def _refusal(status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> Said:
    return Said({"error": {"message": message, "type": kind, "param": param, "code": status}}, status)
