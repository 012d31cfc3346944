"""Any sentence-transformers model from a local folder, on the CPU or a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from actors.errors import UserError
from jobs.serve.backends.base import Encoded, unit_rows

_BATCH = 64


@dataclass(frozen=True, slots=True)
class SentenceTransformersBackend:
    """`model` is a `sentence_transformers.SentenceTransformer`; texts past its limit are cut at `max_tokens`."""

    model: Any
    name: str
    dim: int
    max_tokens: int | None
    # A model folder does not say whether the model was trained for shorter vectors.
    matryoshka: ClassVar[bool] = False

    def encode(self, texts: list[str]) -> Encoded:
        """float32[n, dim] of unit length; `tokens` counts what the model read, its special tokens included."""
        # encode() sorts by length itself, so a batch is padded to little more than its texts need.
        vectors = self.model.encode(texts, batch_size=_BATCH, show_progress_bar=False, convert_to_numpy=True)
        ids = self.model.tokenizer(
            texts,
            truncation=self.max_tokens is not None,
            max_length=self.max_tokens,
            return_attention_mask=False,
        )["input_ids"]
        tokens = np.fromiter((len(row) for row in ids), np.int64, count=len(texts))
        return Encoded(unit_rows(np.asarray(vectors, np.float32)), tokens)


def load(model: str, device: str | None) -> SentenceTransformersBackend:
    """The model in folder `model`, named after the folder; `device` None is a GPU if there is one.

    Raises UserError when the package is missing, the folder holds no such model, or the device is not there.
    """
    try:
        library, torch = import_module("sentence_transformers"), import_module("torch")
    except ImportError as error:
        raise UserError(
            f"--model {model} needs sentence-transformers ({error}): pip install 'rayembed[sentence-transformers]'"
        ) from None
    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: PyTorch {torch.__version__} finds no CUDA GPU here; use --device cpu")
    folder = Path(model).expanduser().resolve()
    try:
        loaded = library.SentenceTransformer(str(folder), device=device, local_files_only=True)
        # Asks the model itself for its size, and shows a device that fails before a client meets it.
        dim = loaded.encode(["warm up"], show_progress_bar=False).shape[1]
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(
            f"--model {model}: sentence-transformers cannot load it: {type(error).__name__}: {first_line}"
        ) from error
    return SentenceTransformersBackend(loaded, folder.name, int(dim), _limit(loaded.max_seq_length))


def _limit(max_seq_length: int | None) -> int | None:
    # A tokenizer that knows no limit says 1e30.
    return max_seq_length if max_seq_length is not None and max_seq_length < 1 << 31 else None
