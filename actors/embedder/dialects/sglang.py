"""SGLang `/v1/embeddings`: OpenAI's shape. It refuses texts that are empty or nothing but white space.

Source: SGLang 0.5.23.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.embedder.dialects.base import Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.openai import OpenAI, root, v1
from actors.embedder.dialects.pages import Count, models_of, tokens_per_text, told
from actors.messages import Endpoint, Limits


class _ModelInfo(msgspec.Struct):
    model_path: str
    is_generation: bool


class _ServerInfo(msgspec.Struct):
    """Of all the arguments that it was started with."""

    max_prefill_tokens: Count | None = None
    max_queued_requests: Count | None = None  # counts texts; beyond them it answers 503
    allow_auto_truncate: bool = False
    version: str = ""


_model_info = msgspec.json.Decoder(_ModelInfo)
_server_info = msgspec.json.Decoder(_ServerInfo)


class SGLang:
    def __init__(self) -> None:
        self._openai = OpenAI()

    def describe(self, url: str, model: str) -> Looking:
        models = models_of((yield Request("GET", f"{v1(url)}/models")), "sglang")
        names = tuple(each.id for each in models)
        if not names:
            info = told((yield Request("GET", f"{root(url)}/model_info")), _model_info)
            if info is None:
                return None
            names = (info.model_path,)
        server = told((yield Request("GET", f"{root(url)}/server_info")), _server_info)
        arguments = server or _ServerInfo()
        context = tokens_per_text(models, model)
        limits = Limits(
            # a text of as many tokens as the context is long is too long already
            tokens_per_text=max(1, context - 1) if context else None,
            texts_in_flight=arguments.max_queued_requests,
            tokens_per_gpu_batch=arguments.max_prefill_tokens,
        )
        page = "/v1/models" if models else "/model_info"
        told_by = {
            "server": ("/server_info" if arguments.version else page, names),
            "models": (page, names),
            "tokens_per_text": ("/v1/models", limits.tokens_per_text),
            "texts_in_flight": ("/server_info", limits.texts_in_flight),
            "tokens_per_gpu_batch": ("/server_info", limits.tokens_per_gpu_batch),
            "cuts_long_texts": ("/server_info", server),
        }
        return Description(
            server=f"SGLang {arguments.version}".strip(),
            route=f"{v1(url)}/embeddings",
            encodings=("base64", "float"),
            models=names,
            cuts_long_texts=arguments.allow_auto_truncate,
            batching="merges requests, up to a number of tokens: how many texts are in flight counts, "
            "not how they are packed",
            takes=frozenset({"dimensions"}),
            limits=limits,
            told={name: page for name, (page, value) in told_by.items() if value},
            switches={
                "texts_in_flight": "--max-queued-requests",
                "tokens_per_gpu_batch": "--max-prefill-tokens",
            },
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        return self._openai.embed(endpoint, texts)

    def answer(self, reply: Reply, texts: int) -> Decoding:
        return (yield from self._openai.answer(reply, texts))
