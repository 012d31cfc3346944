"""vLLM `/v1/embeddings`, where vectors may come as nothing but their bytes, and `/v2/embed` for its prompts.

Source: vLLM 0.33, and live answers of 0.32; what 0.10 to 0.12 do otherwise is said where it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from actors.embedder.dialects.bare_list import BareList
from actors.embedder.dialects.base import Answer, Body, Decoding, Description, Looking, Reply, Request, Way
from actors.embedder.dialects.openai import OpenAI, root, v1
from actors.embedder.dialects.pages import models_of, tokens_per_text, told
from actors.embedder.faults import Fault, Kind
from actors.messages import Endpoint, Limits

_BYTES = "application/octet-stream"
_BY_TYPE = "/v2/embed"  # Cohere's shape
_LOOK_BYTES = 4096  # the vectors come before the texts are repeated
_encode = msgspec.json.Encoder().encode


class _Version(msgspec.Struct):
    version: str


class _ByType(msgspec.Struct):
    """Null where a type was not asked for."""

    base64: msgspec.Raw = msgspec.Raw()
    float: msgspec.Raw = msgspec.Raw()


class _Billed(msgspec.Struct):
    input_tokens: int | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None


class _Embedded(msgspec.Struct):
    embeddings: _ByType
    meta: _Meta | None = None


_version = msgspec.json.Decoder(_Version)
_decode_embedded = msgspec.json.Decoder(_Embedded).decode


class VLLM:
    def __init__(self) -> None:
        self._openai = OpenAI()
        self._list = BareList()

    def describe(self, url: str, model: str) -> Looking:
        models = models_of((yield Request("GET", f"{v1(url)}/models")), "vllm")
        longest = tokens_per_text(models, model)
        if not models or not any(each.max_model_len for each in models):
            return None
        version = told((yield Request("GET", f"{root(url)}/version")), _version)
        where = {"server": "/version" if version else "/v1/models", "models": "/v1/models"}
        if longest:
            where["tokens_per_text"] = "/v1/models"
        return Description(
            server=f"vLLM {version.version}" if version else "vLLM",
            route=f"{v1(url)}/embeddings",
            encodings=("bytes_only", "base64", "float"),  # the first since 0.13 or so; others answer it with 400
            counted="base64",  # bytes tell no tokens
            models=tuple(each.id for each in models),
            cuts_long_texts=False,
            batching="merges requests, up to a number of tokens: how many texts are in flight counts, "
            "not how they are packed",
            takes=frozenset({"dimensions", "raw", "truncate"}),
            others=(
                Way(
                    f"{root(url)}{_BY_TYPE}",
                    ("base64", "float"),
                    takes=frozenset({"dimensions", "prompt_name", "truncate"}),
                ),
            ),
            limits=Limits(tokens_per_text=longest),
            told=where,
            switches={"tokens_per_gpu_batch": "--max-num-batched-tokens and --max-num-seqs"},
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        """A prompt is asked for by its name in the one shape that has names, whatever the route."""
        wanted = endpoint.wanted
        if wanted.prompt_name or endpoint.route.endswith(_BY_TYPE):
            return _by_type(endpoint, texts)
        more: dict[str, Any] = {}
        if endpoint.encoding != "float":
            more |= {"embed_dtype": "float32", "endianness": "little"}  # whatever the server runs on
        if wanted.truncate:
            more["truncate_prompt_tokens"] = -1  # to what the model takes
        if wanted.raw:
            more["use_activation"] = False  # `normalize` was its name up to 0.12, and is refused now
        return self._openai.request(endpoint, texts, more)

    def answer(self, reply: Reply, texts: int) -> Decoding:
        body = reply.body
        if reply.headers.get("content-type", "").startswith(_BYTES):
            return _from_bytes(body, texts)
        if b'"embeddings"' in body[:_LOOK_BYTES]:
            return (yield from self._from_types(body, texts))
        return (yield from self._openai.answer(reply, texts))

    def _from_types(self, body: Body, texts: int) -> Decoding:
        try:
            value = _decode_embedded(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Fault(Kind.WRONG_ANSWER, f"the answer holds no embeddings by type ({error})") from None
        as_base64 = bytes(value.embeddings.base64)
        listed = as_base64 if as_base64.startswith(b"[") else bytes(value.embeddings.float)
        vectors = yield from self._list.read(listed, texts)
        billed = value.meta.billed_units if value.meta else None
        return Answer(vectors, billed.input_tokens or None if billed else None)


def _by_type(endpoint: Endpoint, texts: Sequence[str]) -> Request:
    wanted = endpoint.wanted
    body: dict[str, Any] = {
        "model": endpoint.model,
        "texts": texts,
        "embedding_types": ["float" if endpoint.encoding == "float" else "base64"],  # which is little-endian here
        "truncate": "END" if wanted.truncate else "NONE",
    }
    if wanted.prompt_name:
        body["input_type"] = wanted.prompt_name
    if wanted.dimensions:
        body["output_dimension"] = wanted.dimensions
    return Request("POST", endpoint.route or f"{root(endpoint.url)}{_BY_TYPE}", _encode(body))


def _from_bytes(body: Body, texts: int) -> Answer:
    """Copied, since the body's memory is used again. Nothing in there says how many they are: its length does."""
    if not body or len(body) % (4 * texts):
        raise Fault(Kind.WRONG_ANSWER, f"{len(body)} bytes are no float32 vectors of {texts} texts")
    return Answer(np.frombuffer(body, "<f4").reshape(texts, -1).copy(), None)
