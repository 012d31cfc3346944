"""`report.html` lies among the parts, and readers of Parquet folders open every file whose name they do not skip.

Parquet is read from its end, HTML from its start. So the page ends in a comment that is a Parquet file without
rows: a browser shows the page, and pyarrow or Spark reading the folder find no more rows in it. They take the
schema from the first file, which is a part, so one column that parts have too is enough here.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

_SCHEMA = pa.schema([("id", pa.int64())])


def as_empty_part(html: str) -> str:
    """`html`, then the comment: still UTF-8 text."""
    file = io.BytesIO()
    # no row group, and not Arrow's own copy of the schema: what is left are a few bytes below 128
    pq.ParquetWriter(file, _SCHEMA, store_schema=False).close()
    return f"{html}\n<!-- {file.getvalue().decode('ascii')}"
