"""Ollama: `/v1/embeddings` in base64 while it may cut texts, `/api/embed` when it must not.

The first always cuts what is too long, the second does as it is told but knows no base64. Both take the options of
the model that is loaded: to send any would load it anew. Source: its server's code, 0.33.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.embedder.dialects.base import Answer, Decoding, Description, Looking, Reply, Request, Way
from actors.embedder.dialects.openai import OpenAI, root
from actors.embedder.dialects.pages import told
from actors.embedder.dialects.rows import UNREADABLE, Rows, are_marks, first_list, matrix
from actors.messages import Endpoint, Limits

_FRONT_PAGE = b"Ollama is running"
_OPENAI_ROUTE, _OWN_ROUTE = "/v1/embeddings", "/api/embed"
_LOOK_BYTES = 4096  # where its vectors begin
_MOST_ASKED = 64  # models, each of which has its own page
_encode = msgspec.json.Encoder().encode


class _Version(msgspec.Struct):
    version: str


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


class _Show(msgspec.Struct):
    model_info: dict[str, Any] = msgspec.field(default_factory=dict)
    capabilities: list[str] | None = None


class _Rest(msgspec.Struct):
    embeddings: list[int]
    prompt_eval_count: int = 0


class _Reply(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int = 0


_decode_version = msgspec.json.Decoder(_Version)
_decode_tags = msgspec.json.Decoder(_Tags)
_decode_show = msgspec.json.Decoder(_Show)
_decode_rest = msgspec.json.Decoder(_Rest).decode
_decode_reply = msgspec.json.Decoder(_Reply).decode


class Ollama:
    def __init__(self) -> None:
        self._openai = OpenAI()
        self._rows = Rows()

    def describe(self, url: str, model: str) -> Looking:
        base = root(url)
        front = yield Request("GET", f"{base}/")
        version = told((yield Request("GET", f"{base}/api/version")), _decode_version)
        tags = told((yield Request("GET", f"{base}/api/tags")), _decode_tags)
        says_so = front is not None and front.status == 200 and bytes(front.body[:]).strip() == _FRONT_PAGE
        if not says_so and not (version and tags):  # llama.cpp has tags too
            return None
        names = [tag.name for tag in tags.models][:_MOST_ASKED] if tags else []
        shown: dict[str, _Show | None] = {}
        for name in [model] if model else names:
            asked = Request("POST", f"{base}/api/show", _encode({"model": name}))
            shown[name] = told((yield asked), _decode_show)
        models = _embedders(names, shown)
        only = model or (models[0] if len(models) == 1 else "")
        info = (shown.get(only) or _Show()).model_info
        dim, context = _number(info, "embedding_length"), _number(info, "context_length")
        where = {
            "models": "/api/tags" if tags else "",
            "server": "/api/version" if version else "/api/tags",
            "dim": "/api/show" if dim else "",
            "tokens_per_text": "/api/show" if context else "",
        }
        return Description(
            server=f"Ollama {version.version}" if version else "Ollama",
            route=base + _OPENAI_ROUTE,
            encodings=("base64", "float"),
            models=models,
            dim=dim,
            cuts_long_texts=True,
            batching="merges nothing: one text at a time, however many are sent",
            takes=frozenset({"dimensions"}),
            others=(Way(base + _OWN_ROUTE, ("float",), takes=frozenset({"dimensions", "truncate"})),),
            limits=Limits(tokens_per_text=context),  # at most: it may have been loaded with less
            told={what: page for what, page in where.items() if page},
        )

    def embed(self, endpoint: Endpoint, texts: Sequence[str]) -> Request:
        wanted = endpoint.wanted
        route = endpoint.route or root(endpoint.url) + _OPENAI_ROUTE
        if route.endswith(_OPENAI_ROUTE):
            if wanted.truncate and endpoint.encoding != "float":
                return self._openai.request(endpoint, texts, {})
            route = route.removesuffix(_OPENAI_ROUTE) + _OWN_ROUTE
        body = {
            "model": endpoint.model,
            "input": texts,
            "truncate": wanted.truncate,
            **({"dimensions": wanted.dimensions} if wanted.dimensions else {}),
        }
        return Request("POST", route, _encode(body))

    def answer(self, reply: Reply, texts: int) -> Decoding:
        """Of either route."""
        body = reply.body
        start = first_list(body, b"embeddings", _LOOK_BYTES)
        if start is None:
            return (yield from self._openai.answer(reply, texts))
        if came := (yield from self._rows.nested(body, start, texts)):
            vectors, rest = came
            try:
                left = _decode_rest(rest)
                if are_marks(left.embeddings, texts):
                    return Answer(vectors, left.prompt_eval_count or None)
            except UNREADABLE:
                pass
        try:
            whole = _decode_reply(body)
        except UNREADABLE:
            return (yield from self._openai.answer(reply, texts))  # which says what is wrong, if it is
        return Answer(matrix(whole.embeddings, texts), whole.prompt_eval_count or None)


def _embedders(names: Sequence[str], shown: dict[str, _Show | None]) -> tuple[str, ...]:
    """Those that say they embed; else those that do not say, as before there were capabilities; else all."""
    capabilities = {name: show.capabilities for name, show in shown.items() if show}
    embed = [name for name in names if "embedding" in (capabilities.get(name) or ())]
    unsaid = [name for name in names if capabilities.get(name) is None]
    return tuple(embed or unsaid or names)


def _number(info: dict[str, Any], name: str) -> int | None:
    """`bert.embedding_length` and the like: the part before the dot is the model's architecture."""
    value = info.get(f"{info.get('general.architecture')}.{name}")
    return value if type(value) is int and value > 0 else None
