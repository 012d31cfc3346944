"""`_asked.json`: where the input lay and what else was asked for when an output was last written.

It makes no two runs differ, as `_run.json` does: input may move. `verify --endpoint` finds the texts by it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from actors.corpus.storage import bare, scheme_of
from actors.output.store import Place, publish_text, read_bytes, store_of
from jobs.settings import Settings

ASKED_FILE = "_asked.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """`paths` are absolute, or URLs without what may be a signature. `dimensions` None: all that the model has."""

    paths: tuple[str, ...]
    text_files: str
    too_long: str
    dimensions: int | None


def note_asked(out: Place, settings: Settings) -> None:
    asked = Asked(
        paths=tuple(map(_lasting, settings.input.paths)),
        text_files=settings.input.text_files,
        too_long=settings.input.too_long,
        dimensions=settings.vectors.dimensions,
    )
    publish_text(store_of(out), ASKED_FILE, msgspec.json.format(msgspec.json.encode(asdict(asked))).decode() + "\n")


def read_asked(out: Place) -> Asked | None:
    """None when it is not there, or cannot be read."""
    try:
        return msgspec.json.decode(read_bytes(store_of(out), ASKED_FILE), type=Asked)
    except (OSError, msgspec.DecodeError):
        return None


def _lasting(path: str) -> str:
    return bare(path) if scheme_of(path) else str(Path(path).expanduser().absolute())
