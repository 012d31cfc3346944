"""A server's pages as typed data."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from actors.embedder.dialects.base import Reply

T = TypeVar("T")


def read(decoder: msgspec.json.Decoder[T], page: Reply | None) -> T | None:
    """What a page with status 200 tells; None when there is none, or it cannot be read so."""
    if page is None or page.status != 200:
        return None
    try:
        return decoder.decode(page.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
