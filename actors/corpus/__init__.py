"""Corpus formats. A new one is a file beside this and a line in `FORMATS`."""

from __future__ import annotations

from actors.corpus.base import Format, Reader, Rows, Survey
from actors.corpus.jsonl import JsonlFormat
from actors.corpus.parquet import ParquetFormat

FORMATS: dict[str, Format] = {
    "parquet": ParquetFormat(),
    "jsonl": JsonlFormat(),
}

__all__ = ["FORMATS", "Format", "Reader", "Rows", "Survey"]
