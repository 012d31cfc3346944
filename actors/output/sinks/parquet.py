"""A folder of Parquet files: a part is one, and readers see it as soon as it lasts."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from actors.output.folder import REJECTS_PROPERTY, part_names
from actors.output.parts import write_part
from actors.output.store import Store, join
from actors.output.vector_file import Vectors
from actors.queue.plan import Plan

_LOOKS_AT_ONCE = 16  # each is a round trip or two where the output is in an object store


class ParquetSink:
    """See `Sink`."""

    @staticmethod
    def place(out: str) -> str:
        return join(out, "part-*.parquet")

    @staticmethod
    def code(out: str) -> str:
        return f"import pyarrow.dataset as ds\ntable = ds.dataset({out!r}).to_table()"

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, schema: pa.Schema) -> None:
        return

    def write(
        self,
        name: str,
        schema: pa.Schema,
        ids: pa.Array,
        vectors: Vectors,
        keep: Sequence[pa.Array],
        properties: dict[str, str],
        writer: str,
        digests: bytes = b"",
    ) -> None:
        write_part(self._store, name, schema, ids, vectors, keep, properties, writer, digests)

    def names(self) -> set[str]:
        return part_names(self._store.root)

    def written_meanwhile(self, name: str) -> int | None:
        return self._rejects_of(name)

    def rejects(self, names: Sequence[str]) -> list[int | None]:
        with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
            return list(pool.map(self._rejects_of, names))

    def properties(self, name: str) -> Mapping[bytes, bytes] | None:
        try:
            with self._store.open(name) as file:
                return pq.read_metadata(file).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return None

    def _rejects_of(self, name: str) -> int | None:
        """None when there is no such part."""
        count = (self.properties(name) or {}).get(REJECTS_PROPERTY.encode())
        return None if count is None else int(count)

    def commit(self, plan: Plan) -> None:
        return

    def visible(self) -> set[str]:
        return {name for name in self._store.names() if name.endswith(".parquet") and name[0] not in "._"}

    def open(self, name: str) -> ParquetPart:
        return ParquetPart(self._store, name)

    def amiss(self, names: set[str]) -> Iterator[str]:
        return iter(())


class ParquetPart:
    """A part, or a file of rejects: those are always Parquet. See `StoredPart`."""

    def __init__(self, store: Store, name: str) -> None:
        self._raw = store.open(name)
        try:
            self._file = pq.ParquetFile(self._raw, page_checksum_verification=True)
        except BaseException:
            self._raw.close()
            raise
        self.rows: int = self._file.metadata.num_rows
        self.properties: dict[bytes, bytes] = self._file.metadata.metadata or {}
        self.schema: pa.Schema = self._file.schema_arrow

    @property
    def written(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.properties.get(b"ARROW:schema", b""))))

    def read(self, columns: list[str] | None = None) -> pa.Table:
        return self._file.read(columns)

    def close(self) -> None:
        self._file.close()
        self._raw.close()
