"""What servers tell of themselves, read with suspicion: a page that is not as it should be tells nothing."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from actors.embedder.dialects.base import Reply

T = TypeVar("T")

Count = Annotated[int, msgspec.Meta(gt=0)]


class ServedModel(msgspec.Struct):
    """Of an OpenAI list of models, with what vLLM and SGLang add."""

    id: str
    owned_by: str | None = None
    max_model_len: Count | None = None


class ServedModels(msgspec.Struct):
    data: list[ServedModel]


_models = msgspec.json.Decoder(ServedModels)


def told(page: Reply | None, decoder: msgspec.json.Decoder[T]) -> T | None:
    """What the page holds; None when it did not come or is not of this shape."""
    if page is None or page.status != 200:
        return None
    try:
        return decoder.decode(page.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def models_of(page: Reply | None, owner: str) -> tuple[ServedModel, ...]:
    """Those that the page lists, if all of them are `owner`'s; else none."""
    found = told(page, _models)
    if found is None or any(model.owned_by != owner for model in found.data):
        return ()
    return tuple(found.data)


def tokens_per_text(models: tuple[ServedModel, ...], model: str) -> int | None:
    """Of the one called `model`, or of the first."""
    return next((each.max_model_len for each in models if each.id == model or not model), None)
