"""Kinds of output. A new one is a file here and a line in `SINKS`."""

from __future__ import annotations

from actors.output.sinks.base import Sink, StoredPart
from actors.output.sinks.lance import LanceSink
from actors.output.sinks.parquet import ParquetSink
from actors.output.store import Place, store_of

__all__ = ["PARQUET", "SINKS", "Sink", "StoredPart", "open_sink"]

PARQUET = "parquet"  # unless another is asked for
SINKS: dict[str, type[Sink]] = {
    PARQUET: ParquetSink,
    "lance": LanceSink,
}


def open_sink(name: str, out: Place) -> Sink:
    """Raises UserError naming the package that has to be installed for it."""
    return SINKS[name](store_of(out))
