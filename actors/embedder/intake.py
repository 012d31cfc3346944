"""Leases -> open parts: reads the input in a thread, one pass over each file as long as leases go forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from actors.corpus import Reader, Rows
from actors.corpus.source import open_source
from actors.corpus.storage import bare, reason
from actors.embedder.blocks import Blocks
from actors.embedder.open_part import OpenPart
from actors.embedder.reuse import OldVectors
from actors.errors import FAILED, UserError
from actors.messages import JobSpec, Lease, Part, SourceFile


class Intake:
    """Keeps the last file open between leases. `parts` must not run twice at a time."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._thread = ThreadPoolExecutor(1, "read")
        self._path = ""
        self._blocks = Blocks()
        self._reader: Reader | None = None
        self._old: OldVectors | None = None

    @property
    def rows_reused(self) -> int:
        """Rows that came with a vector of an earlier output."""
        return self._old.rows if self._old else 0

    async def parts(self, lease: Lease) -> AsyncIterator[OpenPart]:
        """The parts of `lease`, each as soon as it is read. Raises UserError when the input cannot be read."""
        loop = asyncio.get_running_loop()
        for part in lease.parts:
            yield await loop.run_in_executor(self._thread, self._open, lease.file, part)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self._reader:
            self._reader.close()
        if self._old:
            self._old.close()

    def _open(self, file: SourceFile, part: Part) -> OpenPart:
        try:
            rows = self._read(file, part)
        except (OSError, pa.ArrowException) as error:
            why = reason(error) if isinstance(error, OSError) else error
            raise UserError(f"input {bare(file.path)} cannot be read: {why}", FAILED) from error
        if prompt := self._spec.prompt:
            rows.texts = [prompt + text if text else text for text in rows.texts]
        opened = OpenPart(part, rows, self._spec.dim, self._spec.dtype, self._blocks)
        if self._spec.reuse:
            self._old = self._old or OldVectors(self._spec.reuse)
            self._old.give(opened)
        return opened

    def _read(self, file: SourceFile, part: Part) -> Rows:
        if self._reader is None or self._path != file.path:
            if self._reader:
                self._reader.close()
            self._reader = open_source(file, self._spec.columns)
            self._path = file.path
        return self._reader.read(part)
