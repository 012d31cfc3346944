"""Voyage's API: OpenAI's shape with words of its own.

Source: its client, 0.5. Its limits are those of its clients, where the API itself is said to take more: 128 texts,
and the least that an old one sends to any model, 120,000 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.embedder.dialects.base import Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.openai import OpenAI, is_at, v1
from actors.messages import Endpoint, Limits

_LIMITS = Limits(texts_per_request=128, tokens_per_request=120_000)


class Voyage:
    def __init__(self) -> None:
        self._openai = OpenAI()

    def describe(self, url: str, model: str) -> Looking:
        """Known by its name alone, so nothing is asked."""
        yield from ()
        return self.named(url) if is_at(url, "api.voyageai.com") else None

    def named(self, url: str) -> Description:
        return Description(
            server="Voyage API",
            route=f"{v1(url)}/embeddings",
            encodings=("base64", "float"),
            cuts_long_texts=True,
            batching="not told: what may be asked in a minute is the limit",
            takes=frozenset({"dimensions", "prompt_name", "truncate"}),
            limits=_LIMITS,
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        wanted = endpoint.wanted
        more: dict[str, Any] = {
            "encoding_format": None if endpoint.encoding == "float" else "base64",  # null are numbers
            "input_type": wanted.prompt_name,
            "truncation": wanted.truncate,
            **({"output_dimension": wanted.dimensions} if wanted.dimensions else {}),
        }
        own = replace(endpoint, wanted=replace(wanted, dimensions=None))  # it has another name for them
        return self._openai.request(own, texts, more)

    def answer(self, reply: Reply, texts: int) -> Decoding:
        return self._openai.answer(reply, texts)
