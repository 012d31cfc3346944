"""What a dialect is: texts -> request, response bytes -> vectors, error -> fault. It does no I/O."""

from __future__ import annotations

import mmap
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from actors.embedder.faults import Fault

Body = bytes | bytearray | mmap.mmap  # what can be searched without a copy


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as plain data."""

    method: str
    url: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors in the order of the texts, float32[n, dim]; `tokens` as the server counted them, if it did."""

    vectors: npt.NDArray[np.float32]
    tokens: int | None


class Dialect(Protocol):
    """How one kind of server speaks. `url` is the endpoint as the user gave it."""

    def embed(self, url: str, model: str, texts: Sequence[str]) -> Request: ...

    def answer(self, body: Body, texts: int) -> Generator[None, None, Answer]:
        """Returns the answer, having yielded after every few milliseconds of work.

        Raises Fault(WRONG_ANSWER) when `body` does not hold one vector for each of the `texts`. `body` may be
        overwritten afterwards.
        """
        ...

    def models(self, url: str) -> Request:
        """Ask which models the server has."""
        ...

    def model_names(self, body: Body) -> list[str]:
        """The names in the answer to `models`; empty when there are none to be read."""
        ...

    def fault(self, status: int, headers: Mapping[str, str], body: Body) -> Fault:
        """The Fault that an answer with an error status means."""
        ...
