"""Any sentence-transformers model for text from a local folder, on the CPU or a GPU.

The library's own `encode` waits for the GPU after each batch and tokenizes while it idles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import local
from typing import Any, ClassVar

import numpy as np

from actors.errors import UserError
from jobs.serve.backends.base import Ids, Vectors, counts, unit_rows

_GPU_TOKENS, _CPU_TOKENS = 32_768, 2048
_ALIKE = 0.99  # cosine of the library's vectors and ours: half precision is far above, another text far below
_LOOK = ["warm up", "a second text, longer than the first"]  # so that there is padding

_Read = Callable[[list[str]], Sequence[Sequence[int]]]


@dataclass(frozen=True, slots=True)
class SentenceTransformersBackend:
    """`model` is a `sentence_transformers.SentenceTransformer`; texts past its limit are cut at `max_tokens`."""

    model: Any
    torch: Any
    read: _Read
    prompt: str
    prompt_tokens: int
    name: str
    dim: int
    max_tokens: int | None
    # A model folder does not say whether the model was trained for shorter vectors.
    matryoshka: ClassVar[bool] = False
    of_thread: local = field(default_factory=local)

    @property
    def batch_tokens(self) -> int:
        return _GPU_TOKENS if self._on_gpu else _CPU_TOKENS

    @property
    def lanes(self) -> int:
        """On a GPU two: the model looks at its mask, which waits for the GPU, so one alone could not run ahead."""
        return 2 if self._on_gpu else 1

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """With the model's own prompt, if it has one that always goes before a text."""
        return [np.array(ids, np.int32) for ids in self.read([self.prompt + text for text in texts])]

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        """Padded to the longest row. Each thread has a stream of its own on the GPU."""
        with self.torch.inference_mode(), self._stream():
            ids, mask = (self._there(each) for each in self._padded(rows))
            features = {"input_ids": ids, "attention_mask": mask}
            if self.prompt_tokens:
                features["prompt_length"] = self.prompt_tokens
            vectors = self._here(self.model(features)["sentence_embedding"].float())
        return unit_rows(vectors.numpy())

    @property
    def _on_gpu(self) -> bool:
        return bool(self.model.device.type == "cuda")

    def _padded(self, rows: Sequence[Ids]) -> tuple[Any, Any]:
        """int64[n, longest] of ids, and of what is one: 1."""
        tokenizer, lengths = self.model.tokenizer, counts(rows)
        places = np.arange(lengths.max())
        if tokenizer.padding_side == "left":
            mask = places >= lengths.max() - lengths[:, None]
        else:
            mask = places < lengths[:, None]
        ids = np.full(mask.shape, tokenizer.pad_token_id or 0, np.int64)
        ids[mask] = np.concatenate(rows)
        return self.torch.from_numpy(ids), self.torch.from_numpy(mask.astype(np.int64))

    def _there(self, tensor: Any) -> Any:
        return tensor.pin_memory().to(self.model.device, non_blocking=True) if self._on_gpu else tensor

    def _here(self, tensor: Any) -> Any:
        """Waits until it is computed."""
        if not self._on_gpu:
            return tensor
        here = self.torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        here.copy_(tensor, non_blocking=True)
        done = self.torch.cuda.Event(blocking=True)  # sleeps: to spin would take a core from the tokenizer
        done.record()
        done.synchronize()
        return here

    def _stream(self) -> AbstractContextManager[Any]:
        if not self._on_gpu:
            return nullcontext()
        if not hasattr(self.of_thread, "stream"):
            self.of_thread.stream = self.torch.cuda.Stream(self.model.device)
        stream: AbstractContextManager[Any] = self.torch.cuda.stream(self.of_thread.stream)
        return stream


def load(model: str, device: str | None) -> SentenceTransformersBackend:
    """The model in folder `model`, named after the folder; `device` None is a GPU if there is one.

    On a GPU it computes in half precision (fp16). Raises UserError when the package is missing, the folder holds no
    such model, or the device is not there.
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
        loaded = library.SentenceTransformer(str(folder), device=device, local_files_only=True).eval()
        loaded = loaded.half() if loaded.device.type == "cuda" else loaded.float()
        # Asks the model itself for its size, and shows a device that fails before a client meets it.
        expected = loaded.encode(_LOOK, show_progress_bar=False, convert_to_numpy=True)
        backend = _backend(loaded, torch, folder.name, int(expected.shape[1]))
        vectors = backend.embed(backend.tokenize(_LOOK))
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(
            f"--model {model}: sentence-transformers cannot load it: {type(error).__name__}: {first_line}"
        ) from error
    if (np.einsum("ij,ij->i", vectors, unit_rows(np.asarray(expected, np.float32))) < _ALIKE).any():
        raise UserError(
            f"--model {model}: it takes more than the tokens of a text, which this server cannot give it; "
            "serve it with another server"
        )
    return backend


def _backend(model: Any, torch: Any, name: str, dim: int) -> SentenceTransformersBackend:
    limit = _limit(model.max_seq_length)
    prompt = model.prompts.get(model.default_prompt_name) or ""
    excluded = prompt and any(getattr(module, "include_prompt", True) is False for module in model)
    return SentenceTransformersBackend(
        model=model,
        torch=torch,
        read=_reader(model.tokenizer, limit),
        prompt=prompt,
        prompt_tokens=_prompt_tokens(model.tokenizer, prompt) if excluded else 0,
        name=name,
        dim=dim,
        max_tokens=limit,
    )


def _reader(tokenizer: Any, limit: int | None) -> _Read:
    if not tokenizer.is_fast:
        return lambda texts: tokenizer(
            texts, truncation=limit is not None, max_length=limit, return_attention_mask=False
        )["input_ids"]
    # A copy: the library changes the settings of its own at each call.
    fast = tokenizer.backend_tokenizer
    fast = type(fast).from_str(fast.to_str())
    fast.no_padding()
    if limit is None:
        fast.no_truncation()
    else:
        fast.enable_truncation(limit, direction=tokenizer.truncation_side)
    return lambda texts: [encoding.ids for encoding in fast.encode_batch_fast(texts)]


def _prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """Before a text: the special token that ends a text alone is not one of them."""
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)


def _limit(max_seq_length: int | None) -> int | None:
    # A tokenizer that knows no limit says 1e30.
    return max_seq_length if max_seq_length is not None and max_seq_length < 1 << 31 else None
