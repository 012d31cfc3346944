"""Input behind a URL. `s3://` is read by Arrow itself, every other scheme by its fsspec package."""

from __future__ import annotations

import io
import os
import re
from abc import ABC, abstractmethod
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
from fsspec.utils import glob_translate

from actors.corpus.storage import Entry, Found, visible
from actors.object_storage import asked, fsspec_client, s3_client, translated

_MAGIC = re.compile(r"[*?\[]")
_VERSION_KEYS = ("ETag", "etag", "blob_id", "content_md5", "Last-Modified", "last_modified", "mtime", "size")


class Store(Protocol):
    """One kind of storage. Paths are whole URLs."""

    def find(self, given: str) -> Found | None: ...
    def open(self, path: str) -> Any: ...
    def version(self, path: str) -> str: ...


def store_of(path: str) -> Store:
    """The storage that a URL points into. Raises UserError naming the package that has to be installed for it."""
    parts = urlsplit(path)
    scheme = parts.scheme.lower()
    if scheme in ("http", "https"):
        return _web()
    return _store(scheme, path[len(scheme) + 3 :].split("/", 1)[0])


@cache
def _store(scheme: str, bucket: str) -> Store:
    root = f"{scheme}://{bucket}"
    if scheme == "s3":
        return _ArrowStore(s3_client(bucket), root, bucket)
    filesystem, path = fsspec_client(root)
    return _FsspecStore(filesystem, root, path)


@cache
def _web() -> Store:
    return _WebStore(fsspec_client("http://")[0])


class _Listed(ABC):
    """Finding by listing: what both kinds of storage share. `root` is the URL of what the storage calls `top`."""

    def __init__(self, root: str, top: str) -> None:
        self._root, self._top = root, top

    def find(self, given: str) -> Found | None:
        path = self._inner(given).rstrip("/")
        size = self._size(path)
        if size is not None:
            return Found((Entry(self._url(path), size),), ())
        match = _MAGIC.search(path)
        if match is None:
            files = self._below(path)
            return Found((), self._visible(path, files)) if files else None
        folder = path[: match.start()].rpartition("/")[0]
        return self._matching(path, self._below(folder))

    def _matching(self, pattern: str, files: dict[str, int]) -> Found | None:
        """Files that match, and those below a folder that does."""
        matches = re.compile(glob_translate(pattern)).match
        named = tuple(Entry(self._url(path), size) for path, size in files.items() if matches(path))
        folders = {folder for path in files for folder in _folders_above(path) if matches(folder)}
        below: dict[Entry, None] = {}
        for folder in folders:
            inside = {path: size for path, size in files.items() if path.startswith(f"{folder}/")}
            below.update(dict.fromkeys(self._visible(folder, inside)))
        return Found(named, tuple(below)) if named or folders else None

    def _visible(self, folder: str, files: dict[str, int]) -> tuple[Entry, ...]:
        seen = [path for path in files if visible(path[len(folder) :].lstrip("/"))]
        return tuple(Entry(self._url(path), files[path]) for path in seen)

    def _inner(self, url: str) -> str:
        return self._top + url[len(self._root) :]

    def _url(self, path: str) -> str:
        return self._root + path[len(self._top) :]

    @abstractmethod
    def _size(self, path: str) -> int | None:
        """Of a file; None when there is no file of that name."""

    @abstractmethod
    def _below(self, folder: str) -> dict[str, int]:
        """All files at any depth, with their sizes; none when there is no such folder."""


class _ArrowStore(_Listed):
    def __init__(self, filesystem: pafs.FileSystem, root: str, top: str) -> None:
        super().__init__(root, top)
        self._filesystem = filesystem

    def open(self, path: str) -> pa.NativeFile:
        return self._filesystem.open_input_file(self._inner(path))

    def version(self, path: str) -> str:
        with self.open(path) as file:
            told = {key.lower(): value for key, value in (file.metadata() or {}).items()}
            mark: bytes = told.get("etag") or told.get("last-modified") or b""
            return f"{mark.decode()}-{file.size()}"

    def _size(self, path: str) -> int | None:
        info = self._filesystem.get_file_info(path)
        return info.size if info.type == pafs.FileType.File else None

    def _below(self, folder: str) -> dict[str, int]:
        selector = pafs.FileSelector(folder, allow_not_found=True, recursive=True)
        infos = self._filesystem.get_file_info(selector)
        return {info.path: info.size for info in infos if info.type == pafs.FileType.File}


class _FsspecStore(_Listed):
    def __init__(self, filesystem: Any, root: str, top: str) -> None:
        super().__init__(root, top)
        self._filesystem = filesystem

    def open(self, path: str) -> pa.NativeFile:
        file = asked(self._filesystem.open, self._inner(path), "rb", cache_type="none")
        return pa.PythonFile(Ranges(file), mode="r")

    def version(self, path: str) -> str:
        return _told_version(asked(self._filesystem.info, self._inner(path)))

    def _size(self, path: str) -> int | None:
        try:
            info = asked(self._filesystem.info, path)
        except FileNotFoundError:
            return None
        return int(info["size"] or 0) if info["type"] == "file" else None

    def _below(self, folder: str) -> dict[str, int]:
        try:
            found = asked(self._filesystem.find, folder, detail=True)
        except FileNotFoundError:
            return {}
        return {path: int(info["size"] or 0) for path, info in found.items() if info["type"] == "file"}


class _WebStore:
    """Web addresses name one file each: there is nothing to list. Not every server gives parts of a file."""

    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    def find(self, given: str) -> Found | None:
        try:
            info = asked(self._filesystem.info, given)
        except FileNotFoundError:
            return None
        return Found((Entry(given, int(info.get("size") or 0)),), ())

    def version(self, path: str) -> str:
        return _told_version(asked(self._filesystem.info, path))

    def open(self, path: str) -> Any:
        file = asked(self._filesystem.open, path, "rb", cache_type="none")
        if _gives_parts(file):
            return pa.PythonFile(Ranges(file), mode="r")
        file.close()
        return _Stream(asked(self._filesystem.open, path, "rb", block_size=0))


def _gives_parts(file: Any) -> bool:
    """Whether the server gives a byte in the middle when it is asked for one."""
    if not file.seekable() or not file.size or file.size < 2:
        return False
    file.seek(file.size - 1)
    try:
        return len(asked(file.read, 1)) == 1
    except ValueError:
        return False


class Ranges(io.RawIOBase):
    """Random access to a file that a server gives in parts; a part that does not come is asked for again."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._file.size - self._at))
        data = asked(self._part, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _part(self, size: int) -> bytes:
        self._file.seek(self._at)
        data: bytes = self._file.read(size)
        if len(data) != size:
            raise OSError(f"{len(data)} bytes came where {size} were asked for")
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class _Stream(io.RawIOBase):
    """A file from its beginning to its end, once."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = translated(self._file.read, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _told_version(info: dict[str, Any]) -> str:
    return "-".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)


def _folders_above(path: str) -> list[str]:
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]
