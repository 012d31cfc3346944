"""llama.cpp's `llama-server`: OpenAI's `/v1/embeddings`, and pages that tell the dimension and the slots.

Its `/embeddings` without `/v1` is another API. Source: its server's code, as vendored in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.embedder.dialects.base import Decoding, Description, Looking, Reply, Request
from actors.embedder.dialects.openai import OpenAI, model_names, root
from actors.embedder.dialects.pages import told
from actors.messages import Endpoint, Limits

_AS_IT_IS = -1  # the value of `embd_normalize` that leaves a vector's length alone


class _Generation(msgspec.Struct):
    n_ctx: int = 0


class _Props(msgspec.Struct):
    total_slots: int
    build_info: str
    default_generation_settings: _Generation = msgspec.field(default_factory=_Generation)


class _Meta(msgspec.Struct):
    n_embd: int
    n_ctx_train: int
    n_ctx: int = 0


class _Model(msgspec.Struct):
    meta: _Meta


class _Models(msgspec.Struct):
    data: list[_Model]


_decode_props = msgspec.json.Decoder(_Props)
_decode_models = msgspec.json.Decoder(_Models)


class LlamaCpp:
    def __init__(self) -> None:
        self._openai = OpenAI()

    def describe(self, url: str, model: str) -> Looking:
        """Known by either page: a server that wants a key shows its models without one, and nothing else."""
        models = yield Request("GET", f"{root(url)}/v1/models")
        props = told((yield Request("GET", f"{root(url)}/props")), _decode_props)
        listed = told(models, _decode_models)
        meta = listed.data[0].meta if listed and listed.data else None
        if props is None and meta is None:
            return None
        names = model_names(models)
        context, page = (props.default_generation_settings.n_ctx, "/props") if props else (0, "")
        if context <= 0 and meta:
            context, page = meta.n_ctx, "/v1/models"
        where = {
            "models": "/v1/models" if names else "",
            "dim": "/v1/models" if meta and meta.n_embd > 0 else "",
            "tokens_per_text": page if context > 0 else "",
            "batching": "/props" if props else "",
            "server": "/props" if props else "/v1/models",
        }
        slots = f"up to {props.total_slots} slots" if props and props.total_slots > 0 else "its slots"
        return Description(
            server=f"llama.cpp {props.build_info}" if props else "llama.cpp",
            route=f"{root(url)}/v1/embeddings",
            encodings=("base64", "float"),
            models=names,
            dim=meta.n_embd if meta and meta.n_embd > 0 else None,
            cuts_long_texts=False,
            batching=f"merges texts in {slots}, into n_ubatch tokens (512 unless set); the others wait",
            takes=frozenset({"raw"}),
            # of most models n_ubatch is the limit: it is not told, so it is learnt from the first refusal
            limits=Limits(tokens_per_text=context if context > 0 else None),
            told={what: page for what, page in where.items() if page},
            switches={"tokens_per_gpu_batch": "-b and -ub, and --parallel"},
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        more = {"embd_normalize": _AS_IT_IS} if endpoint.wanted.raw else {}
        return self._openai.request(endpoint, texts, more)

    def answer(self, reply: Reply, texts: int) -> Decoding:
        return self._openai.answer(reply, texts)
