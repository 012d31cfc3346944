"""The models that `rayembed serve` can serve: one line a backend."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from actors.errors import UserError
from jobs.serve.backends.base import Backend, Encoded

__all__ = ["DEFAULT_MODEL", "Backend", "Encoded", "load_backend"]

DEFAULT_MODEL = "wordllama"

# Modules, not functions: a backend's package is imported only when it is the one that serves.
_BY_NAME = {DEFAULT_MODEL: "jobs.serve.backends.wordllama"}
_BY_FOLDER = "jobs.serve.backends.sentence_transformers"


def load_backend(model: str, device: str | None = None) -> Backend:
    """The loaded model: `model` is a name of the registry, or the folder of a sentence-transformers model.

    `device` is `cpu`, `cuda`, `cuda:1`, ...; None leaves the choice to the backend. Raises UserError when there is
    no such model, or when it cannot run here.
    """
    if model not in _BY_NAME and not Path(model).expanduser().is_dir():
        raise UserError(
            f"--model {model}: neither {DEFAULT_MODEL!r} nor a folder that holds a sentence-transformers model"
        )
    backend: Backend = import_module(_BY_NAME.get(model, _BY_FOLDER)).load(model, device)
    return backend
