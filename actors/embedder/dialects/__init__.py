"""Server dialects. A new one is a file beside this and a line in `DIALECTS`.

Which one a server speaks is looked for in this order: what many imitate comes last.
"""

from __future__ import annotations

from actors.embedder.dialects.base import Answer, Body, Decoding, Description, Dialect, Looking, Reply, Request
from actors.embedder.dialects.openai import OpenAI

DIALECTS: dict[str, Dialect] = {
    "openai": OpenAI(),
}

__all__ = ["DIALECTS", "Answer", "Body", "Decoding", "Description", "Dialect", "Looking", "Reply", "Request"]
