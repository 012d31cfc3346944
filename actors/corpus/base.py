"""What every corpus format promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.messages import Columns, Part, SourceFile


@dataclass(frozen=True, slots=True)
class Survey:
    """What planning needs to know of one file, at the cost of its footer (or, without one, of one pass).

    `types` maps the columns found to their Arrow types. `checkpoints` is int64[n, 4], sorted, the places where
    reading can start, each in the order of `Start`; empty for formats that address rows. `all_text`: the file
    itself knows only strings; any column can be read as such, and `types` is what its values look like.
    """

    rows: int
    size: int
    fingerprint: str
    types: dict[str, pa.DataType]
    checkpoints: npt.NDArray[np.int64]
    all_text: bool = False


@dataclass(slots=True)
class Rows:
    """The rows of one part, in input order. `bad` maps a row's place in the part to why it cannot be used.

    `texts[i]` is None where the input has no text. `ids` and the columns of `keep` have the planned types;
    in a bad row they may be null.
    """

    texts: list[str | None]
    ids: pa.Array | None
    keep: tuple[pa.Array, ...]
    bad: dict[int, str] = field(default_factory=dict)


class Reader(Protocol):
    """An open file. Reading parts in growing order costs one pass; going back is allowed and costs a new start."""

    def read(self, part: Part) -> Rows:
        """The rows of `part`; raises OSError or UserError when the file is not what was planned."""
        ...

    def close(self) -> None: ...


class Format(Protocol):
    """One way a corpus can be stored."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name endings, lower case, that mean this format."""
        ...

    def survey(self, path: str) -> Survey:
        """Look at a file once. Raises OSError or UserError when it is not of this format."""
        ...

    def open(self, file: SourceFile, columns: Columns) -> Reader: ...


NO_CHECKPOINTS: npt.NDArray[np.int64] = np.zeros((0, 4), dtype=np.int64)
