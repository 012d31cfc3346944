"""Ask each endpoint what it is before the job starts: reachable, key accepted, which server, model, dimension."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from actors.embedder.client import fatal, route_hint
from actors.embedder.dialects import DIALECTS, Description, KnownByName
from actors.errors import UserError
from actors.messages import Endpoint, Limits, Wanted
from jobs.agreement import odd_one
from jobs.detection import detect
from jobs.probing import Pace, RefusedError, vectors_of_own_texts, with_client
from jobs.settings import Endpoint as EndpointSettings
from jobs.settings import Vectors

_NEAR_ONE = 0.01  # how far from 1 the lengths of vectors of length 1 may be, stored in 16 bits


@dataclass(frozen=True, slots=True)
class Server:
    """An endpoint that works, and what was found of it.

    `vectors` float32[n, dim] are those of a few texts of our own, in the order of the endpoints' settings, as they
    go into the output.
    """

    endpoint: Endpoint
    description: Description
    vectors: npt.NDArray[np.float32]
    pace: Pace


@dataclass(frozen=True, slots=True)
class Found:
    """The servers, which agree on the vectors."""

    servers: tuple[Server, ...]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(server.endpoint for server in self.servers)

    @property
    def dim(self) -> int:
        return int(self.servers[0].vectors.shape[1])


def find_endpoints(asked: Sequence[EndpointSettings], vectors: Vectors, *, truncate: bool) -> Found:
    """Raises UserError, naming the URL, when one of them cannot be used or they do not agree."""
    if not asked:
        raise UserError(
            "no endpoint: name an embedding server with --endpoint URL, or endpoints: in the config file"
        )
    servers = asyncio.run(_look_at_all(asked, vectors, truncate))
    _check_dimensions(servers)
    if not vectors.allow_mixed:
        _check_agreement(servers)
    return Found(servers)


async def _look_at_all(asked: Sequence[EndpointSettings], vectors: Vectors, truncate: bool) -> tuple[Server, ...]:
    return tuple(await asyncio.gather(*(_look(each, vectors, truncate) for each in asked)))


def _check_dimensions(servers: Sequence[Server]) -> None:
    first, *others = servers
    dim = first.vectors.shape[1]
    for other in others:
        if other.vectors.shape[1] != dim:
            raise UserError(
                f"{first.endpoint.url} gives {dim} dimensions but {other.endpoint.url} {other.vectors.shape[1]}: "
                "not the same model"
            )


def _check_agreement(servers: Sequence[Server]) -> None:
    if differ := odd_one([server.vectors for server in servers]):
        first, other, cosine = differ
        raise UserError(
            f"{servers[first].endpoint.url} and {servers[other].endpoint.url} give different vectors for the same "
            f"text (cosine {cosine:.4f}): not the same model; leave one out, or mix them with --allow-mixed"
        )


async def _look(asked: EndpointSettings, vectors: Vectors, truncate: bool) -> Server:
    endpoint = Endpoint(
        url=asked.url,
        model=asked.model or "",
        dialect="openai",
        api_key_env=asked.api_key_env,
        metrics_url=asked.metrics_url,
        requests_per_minute=asked.requests_per_minute,
        tokens_per_minute=asked.tokens_per_minute,
        wanted=Wanted(vectors.dimensions, vectors.prompt_name, vectors.normalize == "no", truncate),
    )
    dialects = tuple(DIALECTS) if asked.dialect in (None, "auto") else (asked.dialect,)
    found = await with_client(endpoint, lambda client: detect(client, dialects))
    dialect, description = found or (dialects[-1], _unknown(asked.url, dialects))
    description = overridden(_as_set(description, asked).suiting(endpoint.wanted), asked)
    if vectors.prompt_name and "prompt_name" not in description.takes:
        raise UserError(
            f"{asked.url} ({description.server}) has no prompts of its own for --prompt-name; "
            "give the text of the prompt with --prompt"
        )
    if not truncate and _cuts(description, truncate):
        print(
            f"{asked.url} ({description.server}) cuts long texts and cannot be told not to: "
            "--too-long reject finds none there",
            file=sys.stderr,
        )
    endpoint = replace(
        endpoint,
        dialect=dialect,
        model=endpoint.model or _only_model(asked.url, description),
        route=description.route,
        limits=description.limits,
        server=description.server,
        switches=description.switches,
        unit=vectors.normalize == "yes",
        cuts=_cuts(description, truncate),
    )
    return await _probed(endpoint, description, vectors)


def _as_set(description: Description, asked: EndpointSettings) -> Description:
    """With what the settings say of its way with long texts, which decides how it is asked."""
    if asked.cuts_long_texts is None:
        return description
    told = {**description.told, "cuts_long_texts": "set"}
    return replace(description, cuts_long_texts=asked.cuts_long_texts, told=told)


def _cuts(description: Description, truncate: bool) -> bool:
    """Whether the server itself cuts long texts, asked or not."""
    return truncate if "truncate" in description.takes else bool(description.cuts_long_texts)


def overridden(description: Description, asked: EndpointSettings) -> Description:
    """With what the settings say instead of what was found."""
    given = {key: value for key, value in asked.model_dump().items() if value is not None}
    limits = {each.name: given[each.name] for each in fields(Limits) if each.name in given}
    told = dict.fromkeys((*limits, *({"route"} & given.keys())), "set")
    if "encoding" in given:
        told["encodings"] = "set"
    return replace(
        description,
        route=given.get("route", description.route),
        encodings=(given["encoding"],) if "encoding" in given else description.encodings,
        counted="" if "encoding" in given else description.counted,
        limits=replace(description.limits, **limits),
        told={**description.told, **told},
    )


def _unknown(url: str, dialects: tuple[str, ...]) -> Description:
    """What is assumed of a server that says nothing of itself."""
    name = dialects[0] if len(dialects) == 1 else "OpenAI API"
    dialect = DIALECTS[dialects[-1]]
    if isinstance(dialect, KnownByName):
        return dialect.named(url)
    return Description(server=f"{name} (it does not say)", route="", encodings=("",))


def _only_model(url: str, description: Description) -> str:
    names = description.models
    if not names:
        raise UserError(f"{url} does not say which model it serves; name it with --model{route_hint(url)}")
    if len(names) > 1:
        raise UserError(f"{url} serves several models ({', '.join(names)}); choose one with --model")
    return names[0]


async def _probed(endpoint: Endpoint, description: Description, vectors: Vectors) -> Server:
    endpoint, came, pace = await _taken(endpoint, description)
    if vectors.dimensions and came.shape[1] != vectors.dimensions:
        raise UserError(
            f"{endpoint.url} gives {came.shape[1]} dimensions, not the {vectors.dimensions} of --dimensions: "
            "its model cannot be shortened; leave that out"
        )
    if vectors.normalize == "no" and _of_length_one(came):
        print(
            f"{endpoint.url} ({description.server}) gives vectors of length 1 with --normalize no, too: "
            "it cannot be asked for others, or its model gives no others",
            file=sys.stderr,
        )
    if vectors.dimensions and vectors.normalize == "auto" and not _of_length_one(came):
        full = replace(endpoint, wanted=replace(endpoint.wanted, dimensions=None))
        uncut, _ = await with_client(full, vectors_of_own_texts)
        if _of_length_one(uncut):  # it has cut them and left it at that
            endpoint = replace(endpoint, unit=True)
            came = came / np.linalg.norm(came, axis=1, keepdims=True)
    return Server(endpoint, description, came, pace)


async def _taken(endpoint: Endpoint, description: Description) -> tuple[Endpoint, npt.NDArray[np.float32], Pace]:
    """In the cheapest encoding that it takes; not asked to cut texts where it does not take that, as older vLLM."""
    try:
        return await _in_some_encoding(endpoint, description)
    except RefusedError as refused:
        if endpoint.wanted.truncate and "truncate" in description.takes:
            wanted = replace(endpoint.wanted, truncate=False)
            with suppress(RefusedError):
                return await _in_some_encoding(replace(endpoint, wanted=wanted, cuts=False), description)
        raise fatal(endpoint, refused.fault) from None


async def _in_some_encoding(
    endpoint: Endpoint, description: Description
) -> tuple[Endpoint, npt.NDArray[np.float32], Pace]:
    """The endpoint, its vectors of our texts, and how long they took. Raises RefusedError."""
    for encoding in description.encodings:
        counted = description.counted if encoding == description.encodings[0] else ""
        endpoint = replace(endpoint, encoding=encoding, counted=counted)
        try:
            return endpoint, *(await with_client(endpoint, vectors_of_own_texts))
        except RefusedError:
            if encoding == description.encodings[-1]:
                raise
    raise AssertionError("a server without an encoding")


def _of_length_one(vectors: npt.NDArray[np.float32]) -> bool:
    return bool((np.abs(np.linalg.norm(vectors, axis=1) - 1) < _NEAR_ONE).all())
