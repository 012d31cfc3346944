"""The model inside the wordllama wheel: 256 dimensions, 16 MB, English, no network and no GPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from actors.errors import UserError
from jobs.serve.backends.base import Ids, Vectors, unit_rows


@dataclass(frozen=True, slots=True)
class WordLlamaBackend:
    """A text's vector is the mean of its tokens' vectors, so it has no length limit, and padding never happens."""

    table: Vectors
    tokenizer: Any
    name: ClassVar[str] = "wordllama-l2-supercat-256"
    max_tokens: ClassVar[None] = None
    matryoshka: ClassVar[bool] = True
    batch_tokens: ClassVar[int] = 1 << 14  # a few milliseconds of work
    lanes: ClassVar[int] = 1

    @property
    def dim(self) -> int:
        return int(self.table.shape[1])

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """A text of nothing that the model knows has no tokens."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        """float32[n, 256] of unit length; a row without tokens gets the equal-elements vector of `unit_rows`."""
        sums = np.empty((len(rows), self.dim), np.float32)
        for place, ids in enumerate(rows):
            sums[place] = self._sum(ids)
        return unit_rows(sums)

    def _sum(self, ids: Ids) -> Vectors:
        # A book-long text would gather gigabytes; counting each token first needs no more than the table.
        if len(ids) > len(self.table):
            counts = np.bincount(ids, minlength=len(self.table)).astype(np.float32)
            return np.asarray(counts @ self.table)
        return np.asarray(np.einsum("ij->j", self.table.take(ids, axis=0)))


def load(model: str, device: str | None) -> WordLlamaBackend:
    """The bundled model. Raises UserError for a device other than the CPU, or for a wheel without its weights."""
    if device not in (None, "cpu"):
        raise UserError(f"--device {device}: {model} runs on the CPU only; leave --device out")
    with _root_logger_untouched():
        package = import_module("wordllama")
    folder = Path(str(package.__file__)).parent
    try:
        # Without cache_dir it looks for the tokenizer in a folder that the wheel does not have, then downloads.
        loaded = package.WordLlama.load(cache_dir=folder, disable_download=True)
    except FileNotFoundError as error:
        raise UserError(
            f"--model {model}: {error} Install it again: pip install --force-reinstall wordllama"
        ) from None
    loaded.tokenizer.no_padding()
    return WordLlamaBackend(loaded.embedding, loaded.tokenizer)


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """wordllama calls logging.basicConfig(INFO) when imported, which would make every other library talk."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
