"""`_telemetry/….jsonl`: a line a tick and endpoint, one file a life of the driver, named by when it began (UTC)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from actors.driver.tuning import Setting
from actors.output.folder import TELEMETRY

_TAIL_BYTES = 1 << 16  # holds the last ticks of some hundred endpoints


class Telemetry:
    """Appends; each line reaches the file whole and at once."""

    def __init__(self, out: str) -> None:
        folder = Path(out) / TELEMETRY
        folder.mkdir(exist_ok=True)
        self._file = (folder / f"{stamp()}.jsonl").open("ab", buffering=0)

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        if lines:
            self._file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def stamp() -> str:
    """Now, as files are named: later is greater."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def last_settings(out: str, since: str) -> dict[str, Setting]:
    """Each endpoint's setting when the driver last wrote, if it did after the stamp `since`."""
    files = sorted(path for path in (Path(out) / TELEMETRY).glob("*.jsonl") if path.stem > since)
    settings: dict[str, Setting] = {}
    for file in files:
        with file.open("rb") as lines:
            lines.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            for line in lines.read().splitlines():
                settings |= _setting(line)
    return settings


def _setting(line: bytes) -> dict[str, Setting]:
    try:
        said = msgspec.json.decode(line)
        return {said["endpoint"]: Setting(said["limit"], said["batch_rows"], said["batch_tokens"])}
    except (msgspec.DecodeError, KeyError, TypeError):  # torn by a kill, or by the cut at the tail's start
        return {}
