"""A stand-in for Hugging Face TEI 1.9.3, or for one up to 1.8.3, which says 413 where later ones say 422."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from tests.servers.hosted import HostedServer, Model, Said, openai_list, pause

PROMPTS = {"query": "query: ", "document": "passage: "}
MOST_BYTES = 2_000_000  # of a body, unless told otherwise


class TEIServer(HostedServer):
    def __init__(
        self,
        model: Model | None = None,
        *,
        auto_truncate: bool = True,
        client_batch: int = 32,
        permits: int = 512,
        most_bytes: int = MOST_BYTES,
        version: str = "1.9.3",
        api_key: str = "",
    ) -> None:
        self.auto_truncate = auto_truncate
        self.client_batch = client_batch
        self.permits = permits
        self.most_bytes = most_bytes
        self.version = version
        self.api_key = api_key
        super().__init__(model)

    def refused(self, request: Request, size: int) -> Said | None:
        is_open = not self.api_key or request.url.path in ("/health", "/", "/ping", "/metrics")
        if not is_open and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return Said(b"", 401)
        if size > self.most_bytes:
            message = b"Failed to buffer the request body: length limit exceeded"
            return Said(message, 413, content_type="text/plain; charset=utf-8")
        return None

    def page(self, path: str) -> object | None:
        info = {
            "model_id": self.model.name,
            "model_sha": None,
            "model_dtype": "float16",
            "served_model_name": self.model.name,
            "model_type": {"embedding": {"pooling": "cls"}},
            "max_concurrent_requests": 512,
            "max_input_length": self.model.most_tokens,
            "max_batch_tokens": 16384,
            "max_batch_requests": None,
            "max_client_batch_size": self.client_batch,
            "auto_truncate": self.auto_truncate,
            "tokenization_workers": 8,
            "version": self.version,
            "sha": "0ec2ba5",
            "docker_label": None,
        }
        return {"/info": info, "/health": b"", "/": b""}.get(path)

    async def said(self, path: str, body: dict[str, Any]) -> Said | None:
        own = path in ("/embed", "/", "/invocations")
        if not own and path not in ("/v1/embeddings", "/embeddings"):
            return Said(b"", 404)
        texts = body.get("inputs" if own else "input")
        if texts is None:
            message = b"Failed to deserialize the JSON body into the target type: missing field"
            return Said(message, 422, content_type="text/plain; charset=utf-8")
        if len(texts) > self.permits:
            return _refusal(own, 429, "Model is overloaded", "Overloaded")
        self.permits -= len(texts)
        try:
            await pause()
            return self._embedded(own, texts, body)
        finally:
            self.permits += len(texts)

    def _embedded(self, own: bool, texts: list[str], body: dict[str, Any]) -> Said:
        def invalid(message: str) -> Said:
            return _refusal(own, status, f"Input validation error: {message}", "Validation")

        status = 413 if self.version < "1.9" else 422

        if len(texts) > self.client_batch:
            message = f"batch size {len(texts)} > maximum allowed batch size {self.client_batch}"
            return _refusal(own, status, message, "Validation")
        if not texts or "" in texts:
            return _refusal(own, 400, "Input validation error: `inputs` cannot be empty", "Empty")
        name = body.get("prompt_name") if own else None
        if name is not None and name not in PROMPTS:
            return invalid(f"`default-prompt-name` is set to `{name}` but it was not found in the prompts")
        texts = [PROMPTS.get(name or "", "") + text for text in texts]
        truncate = body.get("truncate") if own else None
        longest, most = max(map(self.model.tokens, texts)), self.model.most_tokens
        if longest > most and not (self.auto_truncate if truncate is None else truncate):
            return invalid(f"`inputs` must have less than {most} tokens. Given: {longest}")
        dimensions = body.get("dimensions")
        if dimensions and dimensions > self.model.dim:
            return invalid("`dimensions` should be smaller than the maximum embedding dimension.")
        vectors = self.model.vectors(texts, dimensions, raw=own and body.get("normalize") is False)
        tokens = sum(min(self.model.tokens(text), most) for text in texts)
        headers = {
            "x-compute-type": "gpu+optimized",
            "x-compute-time": "5",
            "x-compute-characters": str(sum(map(len, texts))),
            "x-compute-tokens": str(tokens),
            "x-queue-time": "1",
            "x-inference-time": "3",
        }
        if own:
            return Said(vectors.tolist(), headers=headers)
        encoding = body.get("encoding_format")
        return Said(openai_list(vectors, self.model.name, tokens, encoding), headers=headers)


def _refusal(own: bool, status: int, message: str, kind: str) -> Said:
    if own:
        return Said({"error": message, "error_type": kind}, status)
    return Said({"message": message, "code": status, "type": kind}, status)
