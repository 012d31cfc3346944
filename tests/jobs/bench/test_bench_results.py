"""Saved results: written whole, and read whatever else lies in the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.bench.results import Comparison, ModeResult, encode, read, read_folder, save
from jobs.compare import compare
from tests.examples import examples
from tests.jobs.bench.made import result, run, save_three

ODD: list[Any] = [None, -1, 1e300, 3.5, "x", "</style><script>x</script>", [], [None], [[1]], {}, {"x": 1}, True]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    save_three(folder)
    return folder


def test_what_is_saved_is_read(folder: Path) -> None:
    saved = read_folder(folder, besides="")
    assert list(saved.results) == ["async_a.json", "comparison_a.json", "sync_a.json"]
    assert not saved.skipped
    sync, both = saved.results["sync_a.json"], saved.results["comparison_a.json"]
    assert isinstance(sync, ModeResult)
    assert isinstance(both, Comparison)
    assert encode(sync) == encode(result("sync", 1000.0, 1100.0, gpu=0.25))
    (stretch,) = sync.runs[0].timeline.stretches
    (series,) = stretch.series.values()
    assert (series.gpu == 0.25).all()
    assert both.times_faster.median == pytest.approx(8.5)


def test_what_is_not_known_comes_back_as_not_known(tmp_path: Path) -> None:
    of = result("async", 1.0)
    path = save(tmp_path, "one", type(of)(**{**_fields(of), "runs": (run(1.0, gpu=None),)}))
    back = read(path)
    assert isinstance(back, ModeResult)
    (series,) = back.runs[0].timeline.stretches[0].series.values()
    assert np.isnan(series.gpu).all()
    assert "NaN" not in path.read_text()


def test_is_published_whole(tmp_path: Path) -> None:
    save_three(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["async_a.json", "comparison_a.json", "sync_a.json"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b'{"schema": 2, "kind": "sync", "se', "not whole"),
        (b"\xff\xfe{}", "not whole"),
        (b"hello", "not whole"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "JSON, but not a result"),
        (b'{"mode": "sync", "throughput": 12.5}', "JSON, but not a result"),
        (b'{"schema": 1, "kind": "sync"}', "written by another version (schema 1; this one reads 2)"),
        (b'{"schema": 2, "kind": "other"}', "not a result of rayembed bench: Invalid enum value 'other'"),
        (b'{"schema": 2, "kind": "sync", "setup": NaN}', "not"),
    ],
)
def test_anything_else_is_skipped_by_name(tmp_path: Path, content: bytes, why: str) -> None:
    save_three(tmp_path)
    (tmp_path / "sync_b.json").write_bytes(content)
    saved = read_folder(tmp_path, besides="")
    assert len(saved.results) == 3
    (skipped,) = saved.skipped
    assert skipped.name == "sync_b.json"
    assert skipped.why.startswith(why)
    assert "\n" not in skipped.why


def test_a_mixed_folder(tmp_path: Path) -> None:
    save_three(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "old.json").mkdir()
    (tmp_path / "page.html").write_text("the last comparison")
    (tmp_path / ".work-1").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    saved = read_folder(tmp_path, besides="page.html")
    assert {each.name: each.why for each in saved.skipped} == {
        "notes.txt": "not a .json file",
        "old.json": "a folder",
        "gone.json": "cannot be read: No such file or directory",
    }


def test_any_beginning_of_a_result_is_skipped(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "comparison_a.json").read_bytes().rstrip()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.json").write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read(tmp_path / "cut.json")


@examples(30)
@given(st.data())
def test_one_odd_value_anywhere_never_breaks_the_page(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, data: st.DataObject
) -> None:
    """It is skipped, or it is drawn."""
    into = tmp_path_factory.mktemp("odd")
    name = data.draw(st.sampled_from(["sync_a.json", "comparison_a.json"]))
    document = json.loads((folder / name).read_bytes())
    parent, key = data.draw(st.sampled_from(list(_places(document))))
    parent[key] = data.draw(st.sampled_from(ODD))
    (into / name).write_text(json.dumps(document))
    drawn = compare(into, into / "page.html")
    assert (name in drawn.saved.results) != (name in [each.name for each in drawn.saved.skipped])
    page = (into / "page.html").read_text("utf-8")
    assert page.rstrip().endswith("</html>")
    assert "<script>" not in page


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of the document, by what holds it; of a list the first two."""
    keys = list(node) if isinstance(node, dict) else range(min(2, len(node)))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def _fields(of: ModeResult) -> dict[str, Any]:
    return {name: getattr(of, name) for name in of.__struct_fields__}
