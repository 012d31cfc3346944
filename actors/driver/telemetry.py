"""`_telemetry/….jsonl`: a line a tick and endpoint, one file a run of the driver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from actors.output.folder import TELEMETRY


class Telemetry:
    """Appends; each line reaches the file whole and at once."""

    def __init__(self, out: str) -> None:
        folder = Path(out) / TELEMETRY
        folder.mkdir(exist_ok=True)
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._file = (folder / f"{started}.jsonl").open("ab", buffering=0)

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        if lines:
            self._file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def read_telemetry(file: Path) -> list[dict[str, Any]]:
    """The lines of one file; a torn last line, as a kill leaves it, is left out."""
    lines = []
    for line in file.read_bytes().splitlines():
        try:
            lines.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            continue
    return lines
