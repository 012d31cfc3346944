"""Where input lies: a local path or a URL, listed, opened and watched for changes in the same words.

A path is local unless it begins with `scheme://`; `remote.py` knows the schemes.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_LOCAL_BUFFER, _REMOTE_BUFFER = 1 << 20, 8 << 20  # a round trip costs as much as a few MB


@dataclass(frozen=True, slots=True)
class Entry:
    """A file found: its path, and its size in bytes (0 where the server does not say)."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a name given by a user means. `below` are files in a folder, wanted only if they look like input."""

    named: tuple[Entry, ...]
    below: tuple[Entry, ...]


def scheme_of(path: str) -> str | None:
    """`s3` of `s3://bucket/key`; None for a local path."""
    match = _URL.match(path)
    return match[1].lower() if match else None


def bare(path: str) -> str:
    """`path` without the query of a web address: for names and messages, since it may be a signature."""
    if scheme_of(path) in ("http", "https"):
        parts = urlsplit(path)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return path


def reason(error: OSError) -> str:
    """Why something cannot be read, in one line, without the path."""
    return os.strerror(error.errno) if error.errno else str(error).split("\n", 1)[0]


def buffer_bytes(path: str) -> int:
    """How much to ask for at a time when reading on."""
    return _REMOTE_BUFFER if scheme_of(path) else _LOCAL_BUFFER


def open_input(path: str, *, mapped: bool = False) -> Any:
    """The file for reading, a `pa.NativeFile`; or a raw stream, `seekable()` False, where a server gives no parts.

    `mapped` maps a local file into memory. Raises OSError, and UserError where a package is missing.
    """
    if scheme_of(path):
        from actors.corpus.remote import store_of

        return store_of(path).open(path)
    if mapped and Path(path).stat().st_size:  # nothing cannot be mapped
        return pa.memory_map(path)
    return pa.OSFile(path)


def open_random(path: str, *, mapped: bool = False) -> pa.NativeFile:
    """As `open_input`; raises OSError where only the beginning can be read: some formats begin at the end."""
    file = open_input(path, mapped=mapped)
    if file.seekable():
        return file
    file.close()
    raise OSError("its server gives no parts of a file (no range requests); download it first")


def version(path: str) -> str:
    """What changes when the file does, at the cost of no more than a look at it. Raises OSError when it is gone."""
    if scheme_of(path):
        from actors.corpus.remote import store_of

        return store_of(path).version(path)
    stat = Path(path).stat()
    # the second time also moves when content is written that keeps size and the first, as `rsync -t` does
    return f"{stat.st_mtime_ns}-{stat.st_ctime_ns}-{stat.st_size}"


def find(given: str) -> Found | None:
    """The files that `given` means: a file, a folder and all that is below it, or a pattern of such names.

    None when nothing has that name. Names on the way down that begin with `_` or `.` are left out. Local paths come
    absolute, under the names they were given by: a link keeps its own.
    """
    if scheme_of(given):
        from actors.corpus.remote import store_of

        return store_of(given).find(given)
    path = Path(given).expanduser()
    # Path.glob takes no absolute pattern
    matches = [path] if path.exists() else [Path(each) for each in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    if not matches:
        return None
    named = [_entry(match) for match in matches if match.is_file()]
    below = [each for match in matches if match.is_dir() for each in _below(match)]
    return Found(tuple(named), tuple(below))


def visible(relative: str) -> bool:
    """Whether no name on a path below a folder that was named hides."""
    return not any(name.startswith(("_", ".")) for name in relative.split("/"))


def _below(folder: Path) -> list[Entry]:
    inside = [each for each in folder.rglob("*") if visible(each.relative_to(folder).as_posix())]
    return [_entry(each) for each in inside if each.is_file()]


def _entry(path: Path) -> Entry:
    return Entry(os.path.abspath(path), path.stat().st_size)  # noqa: PTH100 (Path.absolute keeps '..')
