"""Corpus formats. A new one is a file beside this and a line in `FORMATS`."""

from __future__ import annotations

from actors.corpus.arrow import ArrowFormat
from actors.corpus.base import Format, Reader, Rows, Survey
from actors.corpus.delimited import DelimitedFormat
from actors.corpus.documents import DocumentsFormat
from actors.corpus.jsonl import JsonlFormat
from actors.corpus.parquet import ParquetFormat
from actors.corpus.text import TextFormat

FORMATS: dict[str, Format] = {
    "parquet": ParquetFormat(),
    "jsonl": JsonlFormat(),
    "csv": DelimitedFormat(",", ".csv"),
    "tsv": DelimitedFormat("\t", ".tsv"),
    "arrow": ArrowFormat(),
    "text": TextFormat(),
    "documents": DocumentsFormat(),
}

__all__ = ["FORMATS", "Format", "Reader", "Rows", "Survey"]
