"""Hugging Face TEI: `/v1/embeddings` in base64, and `/embed` for what that cannot be asked.

Source: text-embeddings-inference 1.9.3. `/v1/embeddings` cuts or refuses long texts as the server was started to,
and always takes its default prompt and vectors of length 1; `/embed` can be asked for all of that, but answers with
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from actors.embedder.dialects.bare_list import BareList
from actors.embedder.dialects.base import Answer, Decoding, Description, Looking, Reply, Request, Way
from actors.embedder.dialects.openai import OpenAI, root
from actors.embedder.dialects.pages import Count, told
from actors.messages import Endpoint, Limits

_MOST_BYTES = 2_000_000  # its payload_limit, which no page tells
_LOOK_BYTES = 16
_WAITED, _WORKED = "x-queue-time", "x-inference-time"  # milliseconds, means over the texts of a request
_encode = msgspec.json.Encoder().encode


class _Info(msgspec.Struct):
    model_id: str
    max_client_batch_size: Count
    max_concurrent_requests: Count  # counts texts: each takes a permit
    max_input_length: Count
    max_batch_tokens: Count
    auto_truncate: bool | None = None
    served_model_name: str | None = None  # since 1.9
    version: str = ""


_info = msgspec.json.Decoder(_Info)


class TEI:
    def __init__(self) -> None:
        self._openai = OpenAI()
        self._list = BareList()

    def describe(self, url: str, model: str) -> Looking:
        info = told((yield Request("GET", f"{root(url)}/info")), _info)
        if info is None:
            return None
        said = [
            "server",
            "models",
            "batching",
            "tokens_per_text",
            "texts_per_request",
            "texts_in_flight",
            "tokens_per_gpu_batch",
        ]
        if info.auto_truncate is not None:
            said.append("cuts_long_texts")
        return Description(
            server=f"TEI {info.version}".strip(),
            route=f"{root(url)}/v1/embeddings",
            encodings=("base64", "float"),
            models=(info.served_model_name or info.model_id,),
            cuts_long_texts=info.auto_truncate,
            batching=f"merges requests, up to {info.max_batch_tokens} tokens: how many tokens are in flight counts",
            takes=frozenset({"dimensions"}),
            waits=_WAITED,
            others=(
                Way(
                    f"{root(url)}/embed",
                    ("float",),
                    takes=frozenset({"dimensions", "prompt_name", "raw", "truncate"}),
                ),
            ),
            limits=Limits(
                tokens_per_text=info.max_input_length,
                texts_per_request=info.max_client_batch_size,
                bytes_per_request=_MOST_BYTES,
                texts_in_flight=info.max_concurrent_requests,
                tokens_per_gpu_batch=info.max_batch_tokens,
            ),
            told=dict.fromkeys(said, "/info"),
            switches={"texts_in_flight": "--max-concurrent-requests", "tokens_per_gpu_batch": "--max-batch-tokens"},
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        """What only `/embed` takes is asked for as that wants it, whatever the route."""
        wanted = endpoint.wanted
        if endpoint.route.endswith("/embeddings") and not (wanted.prompt_name or wanted.raw):
            return self._openai.request(endpoint, texts, {})
        body: dict[str, Any] = {"inputs": texts, "truncate": wanted.truncate, "normalize": not wanted.raw}
        if wanted.prompt_name:
            body["prompt_name"] = wanted.prompt_name
        if wanted.dimensions:
            body["dimensions"] = wanted.dimensions
        return Request("POST", endpoint.route or f"{root(endpoint.url)}/embed", _encode(body))

    def answer(self, reply: Reply, texts: int) -> Decoding:
        if reply.body[:_LOOK_BYTES].lstrip().startswith(b"["):
            vectors = yield from self._list.read(reply.body, texts)
            answer = Answer(vectors, _number(reply, "x-compute-tokens") or None)
        else:
            answer = yield from self._openai.answer(reply, texts)
        waited, worked = (_number(reply, name) for name in (_WAITED, _WORKED))
        if waited is None or worked is None:
            return answer
        return replace(answer, queued_s=waited / 1000, worked_s=worked / 1000)


def _number(reply: Reply, header: str) -> int | None:
    """None: it is not there, or no number."""
    with suppress(ValueError):
        return max(0, int(reply.headers.get(header, "")))
    return None
