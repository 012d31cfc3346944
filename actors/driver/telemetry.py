"""`_telemetry/….jsonl`: a line a tick and endpoint, named by when the driver began (UTC).

In a folder that is one file a life of the driver, and each line is there at once. In an object store, where nothing
can be added to, it is pieces: the last one is put there anew every few seconds, until it is so large that the next
begins. A kill costs the lines since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from actors.driver.tuning import Setting
from actors.output.folder import TELEMETRY
from actors.output.store import Store, store_of

_TAIL_BYTES = 1 << 16  # holds the last ticks of some hundred endpoints
_SAVE_S = 5.0
_PIECE_BYTES = 1 << 20


class Telemetry(Protocol):
    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Add lines; does not wait for the network. Call it on the event loop."""

    async def save(self) -> None:
        """Return when all lines are where they last."""


def open_telemetry(out: str) -> Telemetry:
    """For a new life of the driver."""
    store = store_of(out)
    return _File(store.folder) if store.folder else _Pieces(store)


class _File:
    """Appends; each line reaches the file whole and at once."""

    def __init__(self, out: Path) -> None:
        folder = out / TELEMETRY
        folder.mkdir(exist_ok=True)
        self._file = (folder / f"{stamp()}.jsonl").open("ab", buffering=0)

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        if lines:
            self._file.write(_encoded(lines))

    async def save(self) -> None:
        return  # they are


class _Pieces:
    """A piece that cannot be put there now is tried again with the lines that follow: the job goes on without."""

    def __init__(self, store: Store) -> None:
        self._store, self._life, self._number = store, stamp(), 0
        self._piece = b""
        self._tried = time.monotonic()
        self._saved_bytes = 0
        self._saving: asyncio.Task[None] | None = None

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        self._piece += _encoded(lines)
        if time.monotonic() - self._tried >= _SAVE_S and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._save())

    async def save(self) -> None:
        if self._saving:
            await self._saving
        await self._save()

    async def _save(self) -> None:
        self._tried = time.monotonic()
        piece, name = self._piece, f"{TELEMETRY}/{self._life}-{self._number:05d}.jsonl"
        if len(piece) == self._saved_bytes:
            return
        try:
            await asyncio.to_thread(self._store.publish, name, lambda file: file.write(piece))
        except OSError:
            if len(piece) < 2 * _PIECE_BYTES:
                return
        self._saved_bytes = len(piece)
        if len(piece) >= _PIECE_BYTES:
            self._piece, self._number, self._saved_bytes = self._piece[len(piece) :], self._number + 1, 0


def stamp() -> str:
    """Now, as files are named: later is greater."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def life_of(name: str) -> str:
    """The stamp in the name of a file, or of a piece."""
    return name.removesuffix(".jsonl").partition("-")[0]


def last_settings(out: str, since: str) -> dict[str, Setting]:
    """Each endpoint's setting when the driver last wrote, if it did after the stamp `since`."""
    store = store_of(out)
    settings: dict[str, Setting] = {}
    names = (name for name in store.names(TELEMETRY) if name.endswith(".jsonl"))
    for name in sorted(name for name in names if life_of(name) > since):
        with store.open(f"{TELEMETRY}/{name}") as lines:
            lines.seek(max(0, lines.size() - _TAIL_BYTES))
            for line in lines.read().splitlines():
                settings |= _setting(line)
    return settings


def _encoded(lines: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _setting(line: bytes) -> dict[str, Setting]:
    try:
        said = msgspec.json.decode(line)
        return {said["endpoint"]: Setting(said["limit"], said["batch_rows"], said["batch_tokens"])}
    except (msgspec.DecodeError, KeyError, TypeError):  # torn by a kill, or by the cut at the tail's start
        return {}
