"""A file that is not, or no longer, what was planned is refused by name; one that only looks different is read."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from actors.corpus import Reader
from actors.corpus.source import open_source
from actors.errors import FAILED, UserError
from tests.actors.corpus.reading import TEXT_ONLY, plan_of

ENDINGS = (".parquet", ".jsonl", ".csv", ".txt", ".arrow")


def write(path: Path, texts: list[str], seconds: int) -> Path:
    """A file of the format that its name says, last changed `seconds` after the epoch."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path)
    elif path.suffix == ".arrow":
        pyarrow.feather.write_feather(pa.table({"text": texts}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        path.write_text("".join(f"{text}\n" for text in (["text"] if path.suffix == ".csv" else []) + texts))
    os.utime(path, (seconds, seconds))
    return path


def texts(mark: str) -> list[str]:
    return [f"{mark} {i:06d}" for i in range(1000)]


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / f"x{request.param}", texts("a"), 1000)


def test_other_content_of_the_same_size_is_refused_when_opened(path: Path) -> None:
    plan = plan_of(path, 100)
    size = path.stat().st_size
    write(path, texts("b"), 2000)
    assert path.stat().st_size == size
    with pytest.raises(UserError, match=f"{path.name} changed") as caught:
        open_source(plan.files[0], TEXT_ONLY)
    assert caught.value.exit_code == FAILED


def test_other_content_of_the_same_size_and_time_is_refused(path: Path) -> None:
    plan = plan_of(path, 100)
    with closing(open_source(plan.files[0], TEXT_ONLY)) as reader:
        reader.read(plan.part(0))
        write(path, texts("b"), 1000)
        with pytest.raises((UserError, OSError, pa.ArrowException)) as caught:
            reader.read(plan.part(5))
        assert not isinstance(caught.value, UserError) or f"{path.name} changed" in str(caught.value)


def test_other_content_is_refused_while_it_is_read(path: Path) -> None:
    plan = plan_of(path, 100)
    with closing(open_source(plan.files[0], TEXT_ONLY)) as reader:
        assert reader.read(plan.part(0)).texts == texts("a")[:100]
        write(path, texts("b"), 2000)
        with pytest.raises((UserError, OSError, pa.ArrowException)) as caught:
            reader.read(plan.part(5))
        assert not isinstance(caught.value, UserError) or path.name in str(caught.value)


def test_content_that_is_the_same_is_read_on(path: Path) -> None:
    """Copied to each node, or touched."""
    plan = plan_of(path, 100)
    write(path, texts("a"), 2000)
    with closing(open_source(plan.files[0], TEXT_ONLY)) as reader:
        assert reader.read(plan.part(3)).texts == texts("a")[300:400]
        os.utime(path, (3000, 3000))
        assert reader.read(plan.part(4)).texts == texts("a")[400:500]


def test_what_did_not_change_is_not_read_through_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(path, 100)

    def never(*_: object) -> None:
        raise AssertionError("surveyed again")

    monkeypatch.setattr("actors.corpus.source.look_at", never)
    with closing(open_source(plan.files[0], TEXT_ONLY)) as reader:
        reader.read(plan.part(0))
    write(path, texts("a"), 2000)
    with pytest.raises(AssertionError):
        open_source(plan.files[0], TEXT_ONLY)


def test_a_file_that_vanished(path: Path) -> None:
    plan = plan_of(path, 100)
    reader: Reader = open_source(plan.files[0], TEXT_ONLY)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        reader.read(plan.part(1))
    reader.close()
    with pytest.raises(FileNotFoundError):
        open_source(plan.files[0], TEXT_ONLY)


def test_a_file_that_is_of_no_format_any_more(path: Path) -> None:
    plan = plan_of(path, 100)
    path.write_bytes(b"\xffgarbage\x00" * 3)
    with pytest.raises(UserError, match=f"{path.name} changed"):
        open_source(plan.files[0], TEXT_ONLY)
