"""Output in an object store: what is published is one object, which is there as soon as it is whole.

The streams of pyarrow and fsspec finish an upload also when they are closed by an exception, and so would show half
a file. Therefore nothing is sent before all of it is known: its pieces are gathered, the vectors as they lie in
memory, and then go out one after the other. A process that is killed meanwhile leaves an upload that nobody sees
and that costs room until the store's own rule for such uploads removes it (see README).
"""

from __future__ import annotations

import ctypes
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.fs as pafs
import tenacity

from actors.corpus.storage import reason, scheme_of
from actors.object_storage import asked, fsspec_client, s3_client, translated

T = TypeVar("T")
Piece = bytes | memoryview

_ARROW_SAYS = re.compile(r"AWS Error (\w+)[^:]*: (.*?)(?: \(Request ID: .*)?$", re.DOTALL)
_NO_BUCKET = "there is no such bucket; create it first"
_DENIED = "check the credentials in the environment of every node, and what they may do with the bucket"
_REMEDIES = {
    "NO_SUCH_BUCKET": _NO_BUCKET,
    "ACCESS_DENIED": f"access denied; {_DENIED}",
    "INVALID_ACCESS_KEY_ID": f"the key is not known there; {_DENIED}",
    "SIGNATURE_DOES_NOT_MATCH": f"the secret does not fit the key; {_DENIED}",
    "NETWORK_CONNECTION": "its server cannot be reached; check the network and AWS_ENDPOINT_URL",
    "PERMANENT_REDIRECT": "the bucket is in another region; set AWS_REGION",
}


_PASSING = {"NETWORK_CONNECTION", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "REQUEST_TIMEOUT"}
_PATIENCE_S = 120.0  # with a store that is away when something is put there, beyond its client's own attempts
_PAUSE_S = 1.0


class _AwayError(OSError):
    """It may pass."""


def open_object_store(url: str) -> ObjectStore:
    """The place that a URL names. Raises UserError naming the package that has to be installed for it."""
    scheme, bucket = scheme_of(url), url.partition("://")[2].partition("/")[0]
    if scheme == "s3":
        return _ArrowObjects(url, url.partition("://")[2], s3_client(bucket))
    client, path = fsspec_client(url)
    return _FsspecObjects(url, path.rstrip("/"), client)


class ObjectStore(ABC):
    """See `Store`. `top` is what the client calls the root."""

    folder = None

    def __init__(self, url: str, top: str) -> None:
        self.root = url
        self._top = top

    def create(self) -> None:
        return  # there are no folders

    def names(self, folder: str = "") -> Iterator[str]:
        yield from _told(self._list, f"{self._top}/{folder}".rstrip("/"))

    def open(self, name: str) -> pa.NativeFile:
        return _told(self._open, f"{self._top}/{name}")

    def publish(self, name: str, write: Callable[[BinaryIO], object], writer: str = "job") -> None:
        pieces = _Pieces()
        write(cast(BinaryIO, pieces))
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_AwayError),
            stop=tenacity.stop_after_delay(_PATIENCE_S),
            wait=tenacity.wait_random_exponential(multiplier=_PAUSE_S, max=15),
            reraise=True,
        )
        try:
            retrying(_told, self._put, f"{self._top}/{name}", pieces.all)
        except FileNotFoundError as error:
            raise OSError(_NO_BUCKET) from error

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            _told(self._delete, f"{self._top}/{name}")

    def clear(self) -> None:
        with suppress(FileNotFoundError):
            _told(self._delete_all)

    def sweep(self, folder: str, everything: bool) -> None:
        return  # what was not finished has no name

    @abstractmethod
    def _list(self, path: str) -> list[str]:
        """Names right below `path`, none where nothing is."""

    @abstractmethod
    def _open(self, path: str) -> pa.NativeFile: ...

    @abstractmethod
    def _put(self, path: str, pieces: list[Piece]) -> None:
        """Make these the object, all at once at the end."""

    @abstractmethod
    def _delete(self, path: str) -> None: ...

    @abstractmethod
    def _delete_all(self) -> None: ...


class _ArrowObjects(ObjectStore):
    def __init__(self, url: str, top: str, client: pafs.FileSystem) -> None:
        super().__init__(url, top)
        self._client = client

    def _list(self, path: str) -> list[str]:
        infos = self._client.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return [info.base_name for info in infos if info.type == pafs.FileType.File]

    def _open(self, path: str) -> pa.NativeFile:
        return self._client.open_input_file(path)

    def _put(self, path: str, pieces: list[Piece]) -> None:
        stream = self._client.open_output_stream(path)
        try:
            for piece in pieces:
                stream.write(piece)
            stream.close()
        except BaseException:
            _never_drop(stream)  # not even then would it leave unfinished what an error cut off
            raise

    def _delete(self, path: str) -> None:
        self._client.delete_file(path)

    def _delete_all(self) -> None:
        self._client.delete_dir(self._top)


class _FsspecObjects(ObjectStore):
    def __init__(self, url: str, top: str, client: Any) -> None:
        super().__init__(url, top)
        self._client = client

    def _list(self, path: str) -> list[str]:
        try:
            found: list[dict[str, Any]] = asked(self._client.ls, path, detail=True)
        except FileNotFoundError:
            return []
        return [info["name"].rpartition("/")[2] for info in found if info["type"] == "file"]

    def _open(self, path: str) -> pa.NativeFile:
        from actors.corpus.remote import Ranges

        return pa.PythonFile(Ranges(asked(self._client.open, path, "rb", cache_type="none")), mode="r")

    def _put(self, path: str, pieces: list[Piece]) -> None:
        asked(self._client.pipe_file, path, b"".join(pieces))

    def _delete(self, path: str) -> None:
        translated(self._client.rm_file, path)

    def _delete_all(self) -> None:
        for path in asked(self._client.find, self._top):  # its own rm takes a name for a pattern
            self._delete(path)


class _Pieces(io.RawIOBase):
    """A file that is written to and keeps what it was given: memoryviews as they are, of anything else a copy."""

    def __init__(self) -> None:
        self.all: list[Piece] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any, /) -> int:
        self.all.append(piece if isinstance(piece, memoryview | bytes) else bytes(piece))
        return memoryview(piece).nbytes


def _never_drop(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _told(call: Callable[..., T], *arguments: Any) -> T:
    """The call's result; what Arrow says of a failure in many words becomes one line with a remedy."""
    try:
        return call(*arguments)
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise PermissionError(f"access denied; {_DENIED}") from error
    except OSError as error:
        said = _ARROW_SAYS.search(str(error))
        if said is None:
            raise OSError(reason(error)) from error
        kind = _AwayError if said[1] in _PASSING else OSError
        raise kind(_REMEDIES.get(said[1], f"{said[1]}: {said[2]}".split("\n", 1)[0])) from error
