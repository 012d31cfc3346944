"""A Parquet file with a column of vectors, written at the cost of writing the bytes.

pyarrow derives for each single float where in its list it stands, which costs five times what writing it does, and
it is the same for all vectors. So pyarrow writes all other columns, and the pages of the vectors are put beside
them: their bytes as they lie in memory, behind a few bytes that say that every list is full. Source: the Parquet
format's README.md, Encodings.md and parquet.thrift (data page V1, PLAIN, levels as RLE).
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from actors.output.digests import DIGEST
from actors.output.thrift import BINARY, I32, I64, LIST, STRUCT, List, Struct, decode, encode, varint

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]

TEXTS_PROPERTY = "rayembed.texts"  # in the footer: where the digests of the rows' texts and the vectors' pages are

_MAGIC = b"PAR1"
_PAGE_BYTES = 1 << 20
_FLOAT, _FIXED_LEN_BYTE_ARRAY = 4, 7
_PLAIN, _RLE = 0, 3
_DATA_PAGE, _UNCOMPRESSED = 0, 0
_PATH = List(BINARY, [b"embedding", b"list", b"element"])
_DEFINED = 3  # the level of an element that is there, in a list that is there; both might be null by the schema


def write(
    file: BinaryIO,
    schema: pa.Schema,
    others: pa.Table,
    vectors: Vectors,
    properties: Mapping[str, str],
    digests: bytes = b"",
) -> None:
    """`others` and `vectors`, C-contiguous [rows, dim], as one row group; `schema` has "embedding" second.

    Pages have checksums. `properties` go into the footer. `digests`, of the rows' texts, 16 bytes each or none at
    all, go between pages and footer, where readers of Parquet do not look. Raises ValueError where the arrays do
    not fit the schema.
    """
    element, shape = schema.field("embedding").type, (len(others), schema.field("embedding").type.list_size)
    if vectors.shape != shape or not pa.from_numpy_dtype(vectors.dtype).equals(element.value_type):
        raise ValueError(f"vectors of {vectors.dtype}{vectors.shape} are no {element} of {len(others)} rows")
    if not len(vectors):
        pq.write_table(schema.empty_table().replace_schema_metadata(dict(properties)), file)
        return
    body, chunks = _written(others)
    file.write(_MAGIC)
    file.write(body)
    start = end = len(_MAGIC) + len(body)
    values = []  # where those of each page begin
    for page in _pages(vectors):
        for piece in page:
            file.write(piece)
            end += memoryview(piece).nbytes
        values.append(end - memoryview(page[-1]).nbytes)
    chunk = _chunk(vectors, start, end - start)
    if digests:
        file.write(digests)
        checksum = zlib.crc32(digests)
        told = {"hash": DIGEST, "at": end, "crc32": checksum, "page_rows": _page_rows(vectors), "pages": values}
        properties = {**properties, TEXTS_PROPERTY: json.dumps(told)}
    footer = encode(_footer(schema, len(vectors), [chunks[0], chunk, *chunks[1:]], end, properties))
    file.write(footer + struct.pack("<I", len(footer)) + _MAGIC)


def _page_rows(vectors: Vectors) -> int:
    dim: int = vectors.shape[1]
    return max(1, _PAGE_BYTES // (dim * vectors.itemsize))


def _written(table: pa.Table) -> tuple[bytes, list[Struct]]:
    """pyarrow's pages of `table`, to begin right behind the magic, and what its footer says of each column."""
    names = set(table.schema.names)
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        row_group_size=len(table),
        compression="zstd",
        use_dictionary=_leaves(table.schema),
        write_statistics=["id"] if "id" in names else False,
        write_page_checksum=True,
        store_schema=False,
    )
    data = out.getvalue()
    footer, start = _footer_of(data)
    return data[len(_MAGIC) : start], footer[4][1].values[0][1][1].values


def _footer_of(data: bytes) -> tuple[Struct, int]:
    (size,) = struct.unpack_from("<I", data, len(data) - 8)
    start = len(data) - 8 - size
    return decode(data[start:-8]), start


@lru_cache(maxsize=8)
def _leaves(schema: pa.Schema) -> list[str]:
    """The paths of Parquet's own columns but `id`: a nested Arrow column has some below it."""
    file = io.BytesIO()
    pq.ParquetWriter(file, schema).close()
    columns = pq.ParquetFile(file).schema
    return sorted({columns.column(i).path for i in range(len(columns))} - {"id"})


@lru_cache(maxsize=8)
def _empty(schema: pa.Schema) -> Struct:
    """The footer of a file of that schema without rows."""
    out = io.BytesIO()
    pq.ParquetWriter(out, schema).close()
    return _footer_of(out.getvalue())[0]


def _pages(vectors: Vectors) -> Iterator[tuple[bytes, bytes, memoryview]]:
    """Header, levels and values of each page."""
    rows, dim = vectors.shape
    step = _page_rows(vectors)
    values = vectors.reshape(-1).view(np.uint8).data
    for start in range(0, rows, step):
        count = min(step, rows - start)
        levels = _levels(count, dim)
        size = vectors[0].nbytes
        page = values[start * size : (start + count) * size]
        yield _page_header(count * dim, levels, page), levels, page


@lru_cache(maxsize=8)
def _levels(rows: int, dim: int) -> bytes:
    """In every row one value that begins a list, then those that go on with it; all of them defined."""
    row = varint(1 << 1) + b"\0" + (varint((dim - 1) << 1) + b"\1" if dim > 1 else b"")
    repetition, definition = row * rows, varint(rows * dim << 1) + bytes([_DEFINED])
    return b"".join(struct.pack("<I", len(each)) + each for each in (repetition, definition))


def _page_header(values: int, levels: bytes, page: memoryview) -> bytes:
    checksum = zlib.crc32(page, zlib.crc32(levels))
    size = len(levels) + page.nbytes
    data: Struct = {1: (I32, values), 2: (I32, _PLAIN), 3: (I32, _RLE), 4: (I32, _RLE)}
    header: Struct = {1: (I32, _DATA_PAGE), 2: (I32, size), 3: (I32, size), 5: (STRUCT, data)}
    header[4] = I32, checksum - (checksum >> 31 << 32)  # the format's integers are signed
    return encode(header)


def _chunk(vectors: Vectors, start: int, size: int) -> Struct:
    column: Struct = {
        1: (I32, _FLOAT if vectors.dtype == np.float32 else _FIXED_LEN_BYTE_ARRAY),
        2: (LIST, List(I32, [_PLAIN, _RLE])),
        3: (LIST, _PATH),
        4: (I32, _UNCOMPRESSED),
        5: (I64, vectors.size),
        6: (I64, size),
        7: (I64, size),
        9: (I64, start),
    }
    return {2: (I64, 0), 3: (STRUCT, column)}


def _footer(schema: pa.Schema, rows: int, chunks: list[Struct], end: int, properties: Mapping[str, str]) -> Struct:
    empty = _empty(schema)
    sizes = [sum(chunk[3][1][field][1] for chunk in chunks) for field in (6, 7)]
    group: Struct = {
        1: (LIST, List(STRUCT, chunks)),
        2: (I64, sizes[0]),
        3: (I64, rows),
        5: (I64, len(_MAGIC)),
        6: (I64, sizes[1]),
    }
    pairs: list[Struct] = [
        {1: (BINARY, key.encode()), 2: (BINARY, value.encode())} for key, value in properties.items()
    ]
    kept = empty[5][1].values if 5 in empty else []  # Arrow's own schema
    return empty | {
        3: (I64, rows),
        4: (LIST, List(STRUCT, [group])),
        5: (LIST, List(STRUCT, [*kept, *pairs])),
    }
