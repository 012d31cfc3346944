"""How parts come to lie in an output, and how they are found there again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from actors.output.store import Store
from actors.output.vector_file import Vectors
from actors.queue.plan import Plan


class StoredPart(Protocol):
    """A part that is there, open. Reading raises what pyarrow raises of bytes that are not what they should be."""

    rows: int
    properties: dict[bytes, bytes]
    schema: pa.Schema

    @property
    def written(self) -> pa.Schema:
        """With the very types that were written: a format may have fewer than Arrow."""

    def read(self, columns: list[str] | None = None) -> pa.Table: ...
    def close(self) -> None: ...


class Sink(Protocol):
    """Parts go by the names of the plan, whatever they are here. All may be called in any process and thread.

    Failures raise OSError. What is looked at with `open` and `amiss` is the output as of the first such look.
    """

    @staticmethod
    def place(out: str) -> str:
        """What the vectors are in, for a person."""

    @staticmethod
    def code(out: str) -> str:
        """Python that reads them."""

    def __init__(self, store: Store) -> None: ...

    def begin(self, schema: pa.Schema) -> None:
        """Before any part is written. Raises UserError when such rows cannot be kept, or others are there."""

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
        """Make a part last, whole. See `parts.write_part`."""

    def names(self) -> set[str]:
        """Of the parts that last: only these are done."""

    def written_meanwhile(self, name: str) -> int | None:
        """The rejects of a part that another holder of its lease has made last; None when none is there.

        It need not be looked for where that is dear: then the part is written again, and one of the two counts.
        """

    def properties(self, name: str) -> Mapping[bytes, bytes] | None:
        """Those with which a part was written, of the one that counts; None while that is not known."""

    def rejects(self, names: Sequence[str]) -> list[int | None]:
        """How many planned rows each of these parts stands for without holding them; None: it cannot be read."""

    def commit(self, plan: Plan) -> None:
        """Show readers what they do not see yet of the parts that last. May be called at any time, by anybody."""

    def visible(self) -> set[str]:
        """Names of all that looks like a part, whether the plan has it or not."""

    def open(self, name: str) -> StoredPart:
        """Raises OSError also for a part that readers do not see."""

    def amiss(self, names: set[str]) -> Iterator[str]:
        """What else readers see that is not these parts."""
