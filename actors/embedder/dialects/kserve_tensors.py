"""Which tensors of a KServe model texts go into and vectors come out of, and how that is written in one line.

    TEXT[N,1] -> EMBEDDING, binary

N texts go into the BYTES tensor TEXT as a column, or with `[N]` as a row; vectors are read from the tensor
EMBEDDING, as bytes (`binary`) or as numbers in JSON (`json`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import msgspec

EXAMPLE = "TEXT[N,1] -> EMBEDDING, binary"
FLOATS = ("FP32", "FP16", "BF16", "FP64")
_WORDS = re.compile(r"(\S+)\[N(, ?1)?\] ?-> ?([^\s,]+), ?(binary|json)")


class Tensor(msgspec.Struct):
    """As the model's page has it; the first number of `shape` is of the texts, -1 is any number."""

    name: str
    datatype: str
    shape: list[int]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype}{self.shape}".replace(" [", "[")


class Metadata(msgspec.Struct):
    """The page of a model."""

    inputs: list[Tensor]
    outputs: list[Tensor]

    def __str__(self) -> str:
        return f"takes {_listed(self.inputs)} and gives {_listed(self.outputs)}"


class ConfigInput(msgspec.Struct):
    name: str = ""
    optional: bool = False


class Config(msgspec.Struct):
    """What Triton tells of a model beyond that. `max_batch_size` 0: the model sees to it itself."""

    max_batch_size: int = 0
    dynamic_batching: dict[str, object] | None = None
    inputs: list[ConfigInput] = msgspec.field(name="input", default_factory=list)


@dataclass(frozen=True, slots=True)
class Tensors:
    """How texts go in and vectors come out. `column`: their shape is [N,1], not [N]."""

    source: str
    column: bool
    target: str
    binary: bool

    def __str__(self) -> str:
        return f"{self.source}[N{',1' * self.column}] -> {self.target}, {'binary' if self.binary else 'json'}"

    def in_json(self) -> Tensors:
        return replace(self, binary=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """The only tensors that a model's texts and vectors can be. `one_by_one`: it takes no more than one text."""

    tensors: Tensors
    dim: int | None
    one_by_one: bool


@lru_cache(maxsize=64)
def parse(words: str) -> Tensors | None:
    """None where they are not of the form above."""
    found = _WORDS.fullmatch(words.strip())
    return Tensors(found[1], bool(found[2]), found[3], found[4] == "binary") if found else None


def choose(model: Metadata, config: Config, binary: bool) -> Choice | None:
    """None where there is no such tensor, or several, or another input that must be given."""
    optional = {each.name for each in config.inputs if each.optional}
    required = [each for each in model.inputs if each.name not in optional]
    texts = [each for each in required or model.inputs if each.datatype == "BYTES" and _takes_texts(each.shape)]
    vectors = [each for each in model.outputs if each.datatype in FLOATS and _gives_vectors(each.shape)]
    if len(required) > 1 or len(texts) != 1 or len(vectors) != 1:
        return None
    source, target = texts[0], vectors[0]
    tensors = Tensors(source.name, len(source.shape) == 2, target.name, binary)
    if parse(str(tensors)) != tensors:  # a name that the form cannot hold
        return None
    dim = target.shape[-1]
    return Choice(tensors, dim if dim > 0 else None, source.shape[0] == 1)


def _takes_texts(shape: Sequence[int]) -> bool:
    return len(shape) in (1, 2) and all(size in (-1, 1) for size in shape)


def _gives_vectors(shape: Sequence[int]) -> bool:
    """One a text: not one a token, and no score."""
    if not 2 <= len(shape) <= 3 or shape[0] not in (-1, 1):
        return False
    return shape[-1] != 1 and shape[-1] >= -1 and shape[-1] != 0 and all(size == 1 for size in shape[1:-1])


def _listed(tensors: Iterable[Tensor]) -> str:
    return ", ".join(map(str, tensors)) or "nothing"
