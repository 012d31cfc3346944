"""Server dialects. A new one is a file beside this and a line in `DIALECTS`."""

from __future__ import annotations

from actors.embedder.dialects.base import Answer, Body, Dialect, Request
from actors.embedder.dialects.openai import OpenAI

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAI(),
}

__all__ = ["DIALECTS", "Answer", "Body", "Dialect", "Request"]
