"""The telemetry file: a line a tick and endpoint, readable after any end of its writer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.driver import telemetry as module
from actors.driver.telemetry import last_settings, open_telemetry, stamp
from actors.driver.tuning import Setting
from actors.output.store import read_bytes, store_of

LINES: list[dict[str, Any]] = [
    {"t": 0.5, "endpoint": "http://a", "gpu_util": None, "errors": {}, "decision": "measuring"},
    {"t": 1.0, "endpoint": "http://b", "gpu_util": 0.25, "errors": {"backend": 2}, "decision": "größer\nline"},
]


def read_lines(content: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in content.splitlines()]


def read_telemetry(file: Path) -> list[dict[str, Any]]:
    return read_lines(file.read_bytes())


def files(out: Path) -> list[Path]:
    return sorted((out / "_telemetry").iterdir())


def test_lines_are_in_the_file_as_soon_as_they_are_written(tmp_path: Path) -> None:
    telemetry = open_telemetry(str(tmp_path))
    (file,) = files(tmp_path)
    assert file.suffix == ".jsonl"
    assert read_telemetry(file) == []
    telemetry.write(LINES[:1])
    assert read_telemetry(file) == LINES[:1]
    telemetry.write([])
    telemetry.write(LINES)
    assert read_telemetry(file) == [LINES[0], *LINES]
    assert file.read_bytes().count(b"\n") == 3


def test_each_run_of_the_driver_has_a_file_of_its_own_and_they_sort_by_time(tmp_path: Path) -> None:
    for number in range(3):
        open_telemetry(str(tmp_path)).write([{"t": number}])
    assert [read_telemetry(file) for file in files(tmp_path)] == [[{"t": 0}], [{"t": 1}], [{"t": 2}]]


def line(endpoint: str, limit: int) -> dict[str, Any]:
    return {"t": 1.0, "endpoint": endpoint, "limit": limit, "batch_rows": 64, "batch_tokens": 4096, "errors": {}}


def test_a_driver_that_returns_finds_its_last_settings(tmp_path: Path) -> None:
    open_telemetry(str(tmp_path)).write([line("http://a", 99)])  # of an earlier job
    began = stamp()
    assert last_settings(str(tmp_path), began) == {}
    open_telemetry(str(tmp_path)).write([line("http://a", 8), line("http://b", 4)] * 500)
    open_telemetry(str(tmp_path)).write([line("http://a", 16)])
    assert last_settings(str(tmp_path), began) == {
        "http://a": Setting(16, 64, 4096),
        "http://b": Setting(4, 64, 4096),
    }


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_left_out(tmp_path: Path, cut: int) -> None:
    began = stamp()
    open_telemetry(str(tmp_path)).write([line("http://a", 8), line("http://a", 16)])
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[: -1 - cut])
    assert last_settings(str(tmp_path), began) == {"http://a": Setting(8, 64, 4096)}


def test_the_folder_starts_with_an_underscore_as_all_that_is_no_part(tmp_path: Path) -> None:
    open_telemetry(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["_telemetry"]


async def test_in_an_object_store_it_is_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    out = "memory://telemetry-of-a-job"
    store = store_of(out)
    store.clear()
    began = stamp()
    monkeypatch.setattr(module, "_PIECE_BYTES", 400)

    def written() -> list[dict[str, Any]]:
        names = sorted(store.names("_telemetry"))
        return [each for name in names for each in read_lines(read_bytes(store, f"_telemetry/{name}"))]

    telemetry = open_telemetry(out)
    lines = [line(f"http://{letter}", limit) for limit in range(6) for letter in "ab"]
    for each in lines[:-1]:
        telemetry.write([each])
        await telemetry.save()
    assert written() == lines[:-1]
    assert 3 <= len(list(store.names("_telemetry"))) < len(lines)
    telemetry.write(lines[-1:])  # and then it is killed
    assert last_settings(out, began) == {"http://a": Setting(5, 64, 4096), "http://b": Setting(4, 64, 4096)}
    monkeypatch.setattr(module, "_SAVE_S", 0.0)
    second = open_telemetry(out)
    second.write([line("http://b", 9)])
    while len(written()) < len(lines):  # noqa: ASYNC110 (it is done in the background)
        await asyncio.sleep(0.01)
    assert last_settings(out, began)["http://b"] == Setting(9, 64, 4096)


async def test_lines_that_cannot_be_put_there_go_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of("memory://telemetry-that-fails")
    store.clear()
    telemetry = open_telemetry(store.root)

    def fail(*_: object) -> None:
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "publish", fail)
        telemetry.write(LINES)
        await telemetry.save()
    await telemetry.save()
    (name,) = store.names("_telemetry")
    assert read_lines(read_bytes(store, f"_telemetry/{name}")) == LINES
