"""Where output lies: a folder that every node sees, or a URL in an object store, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from actors.corpus.storage import scheme_of
from actors.errors import UserError
from actors.output.local_store import LocalStore

Place = str | Path  # of an output: a folder, or a URL

_NOT_WRITTEN_TO = ("http", "https", "hf")


class Store(Protocol):
    """Names are relative to `root`, with `/` between folders. What fails raises an OSError that is one line."""

    @property
    def root(self) -> str:
        """As a person names it, without a slash at its end."""

    @property
    def folder(self) -> Path | None:
        """Where processes can share files of their own; None in an object store."""

    def create(self) -> None:
        """Make the place, where it has to be made."""

    def names(self, folder: str = "") -> Iterator[str]:
        """Of what is right in a folder, in no order; none where there is no such folder below the root."""

    def open(self, name: str) -> pa.NativeFile:
        """For reading anywhere in it. Raises FileNotFoundError."""

    def publish(self, name: str, write: Callable[[BinaryIO], object], writer: str = "job") -> None:
        """Make a file appear whole or not at all; `write` fills it. Folders on the way to it are made.

        What `write` is given keeps memoryviews as they are until this returns. `writer` keeps two processes that
        publish the same name apart; the last one wins, with the same content.
        """

    def remove(self, name: str) -> None:
        """It may be gone already."""

    def clear(self) -> None:
        """Remove all of it; it may be gone already."""

    def sweep(self, folder: str, everything: bool) -> None:
        """Remove what killed writers left in a folder: what is old, or all of it when no writer can be alive."""


def as_place(given: str) -> str:
    """What a user named, so that it means the same in every process. Raises UserError for what cannot be output."""
    scheme = scheme_of(given)
    if scheme is None:
        return str(Path(given).expanduser().absolute())
    if scheme in _NOT_WRITTEN_TO:
        raise UserError(f"{given}: {scheme}:// is only read from; write to a folder, or to s3://, gs:// or az://")
    if not given.rstrip("/").partition("://")[2]:
        raise UserError(f"{given}: has no bucket; name the output as {scheme}://BUCKET/PREFIX")
    return given.rstrip("/")


def join(place: Place, name: str) -> str:
    """The path or URL of something in a place."""
    return f"{str(place).rstrip('/')}/{name}"


def store_of(place: Place) -> Store:
    """Raises UserError naming the package that has to be installed for a URL."""
    return _store(str(place))


@cache
def _store(place: str) -> Store:
    scheme = scheme_of(place)
    if scheme is None:
        return LocalStore(Path(place))
    from actors.output.object_store import open_object_store

    return open_object_store(place)


def publish_text(store: Store, name: str, text: str) -> None:
    """Publish a small UTF-8 file."""
    store.publish(name, lambda file: file.write(text.encode()))


def read_bytes(store: Store, name: str) -> bytes:
    """The whole of a small file. Raises FileNotFoundError."""
    with store.open(name) as file:
        content: bytes = file.read()
        return content
