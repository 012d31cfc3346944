"""Server dialects. A new one is a file beside this and a line in `DIALECTS`.

Which one a server speaks is looked for in this order: what many imitate comes last.
"""

from __future__ import annotations

from actors.embedder.dialects.base import (
    Answer,
    Body,
    Decoding,
    Description,
    Dialect,
    Looking,
    Reply,
    Request,
    Way,
)
from actors.embedder.dialects.infinity import Infinity
from actors.embedder.dialects.openai import OpenAI
from actors.embedder.dialects.sglang import SGLang
from actors.embedder.dialects.tei import TEI
from actors.embedder.dialects.vllm import VLLM

DIALECTS: dict[str, Dialect] = {
    "vllm": VLLM(),
    "tei": TEI(),
    "infinity": Infinity(),
    "sglang": SGLang(),
    "openai": OpenAI(),
}

__all__ = ["DIALECTS", "Answer", "Body", "Decoding", "Description", "Dialect", "Looking", "Reply", "Request", "Way"]
