"""Output in a folder of this machine, or one that all nodes share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

_ABANDONED_AFTER_S = 600.0  # a worker of a killed job may live on for seconds, a slow disk for minutes


class LocalStore:
    """See `Store`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = str(folder)

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def names(self, folder: str = "") -> Iterator[str]:
        try:
            entries = os.scandir(self.folder / folder)
        except FileNotFoundError:
            if folder:
                return
            raise
        with entries:
            for entry in entries:
                yield entry.name

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(str(self.folder / name))

    def publish(self, name: str, write: Callable[[BinaryIO], object], writer: str = "job") -> None:
        path = self.folder / name
        if "/" in name:
            path.parent.mkdir(exist_ok=True)

        def fill(hidden: Path) -> None:
            with hidden.open("wb") as file:
                write(file)

        publish(path, fill, writer)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self, folder: str, everything: bool) -> None:
        for path in (self.folder / folder).glob(".*.tmp"):
            with suppress(FileNotFoundError):  # its writer is alive and has just renamed it
                if everything or time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                    path.unlink()


def publish(path: Path, write: Callable[[Path], None], writer: str = "job") -> None:
    """Make `path` appear whole or not at all: `write` fills a hidden file beside it, which is synced and renamed.

    `writer` keeps two processes that publish the same name apart; the last one wins, with the same content.
    """
    hidden = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        write(hidden)
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def publish_file(path: Path, text: str) -> None:
    """Publish a small UTF-8 file of this machine."""

    def write(hidden: Path) -> None:
        hidden.write_text(text, encoding="utf-8")

    publish(path, write)


def sync_file(path: Path) -> None:
    """Make a file that another writer has closed last, and its name."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened and synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
