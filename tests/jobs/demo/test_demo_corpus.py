from __future__ import annotations

import calendar
import inspect
from pathlib import Path
from textwrap import dedent

import pyarrow.parquet as pq
import pytest

from actors.errors import UserError
from jobs.demo.corpus import CORPUS_LICENSE, Entry, docstrings, reference_paragraphs, unique


def library(root: Path, **sources: str) -> Path:
    """A folder of modules; `__` in a name stands for a folder, so `a__b` is a/b.py."""
    for name, source in sources.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), encoding="utf-8")
    return root


def test_the_corpus(corpus: Path) -> None:
    table = pq.read_table(corpus)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("id", "string"),
        ("text", "string"),
        ("source", "string"),
    ]
    rows = {row["id"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    paragraphs = [row for row in rows.values() if row["source"] == "pydoc_data/topics.py"]
    assert len(rows) - len(paragraphs) > 4000
    assert len(paragraphs) > 1000
    assert all(row["text"].strip() for row in rows.values())
    assert rows["asyncio"]["source"] == "asyncio/__init__.py"
    assert "PSF-2.0" in CORPUS_LICENSE


def test_docstrings_are_those_that_python_itself_reports(corpus: Path) -> None:
    rows = {row["id"]: row for row in pq.read_table(corpus).to_pylist()}
    methods = {
        f"calendar.Calendar.{name}": (inspect.getdoc(member) or "").strip()
        for name, member in vars(calendar.Calendar).items()
        if inspect.isfunction(member) and member.__doc__
    }
    assert "calendar.Calendar.itermonthdates" in methods
    for name, doc in methods.items():
        assert rows[name] == {"id": name, "text": f"{name}\n\n{doc}", "source": "calendar.py"}


def test_definitions_at_any_depth_in_the_order_of_lines(tmp_path: Path) -> None:
    nested = '''
        """Top."""
        import sys
        if sys.platform == "win32":
            def a():
                'Single quotes.'
        else:
            try:
                async def b():
                    """In try."""
            except* OSError:
                class C:
                    """In except."""
                    def d(self):
                        """Method.

                        Indented.
                        """
                        def e():
                            """Local."""
            else:
                def f(): "In else."
            finally:
                with open("x"):
                    def g(): "In with."
        for _ in ():
            while True:
                def h(): "In while."
        else:
            def i(): "In for's else."
        match sys.argv:
            case []:
                def j(): "In case."
    '''
    found = docstrings(library(tmp_path, nested=nested))
    assert [entry.id.removeprefix("nested") for entry in found] == [
        *("", ".a", ".b", ".C", ".C.d", ".C.d.e", ".f", ".g", ".h", ".i", ".j")
    ]
    assert found[4] == Entry("nested.C.d", "nested.C.d\n\nMethod.\n\nIndented.", "nested.py")


def test_what_is_left_out(tmp_path: Path) -> None:
    kept = """
        raise SystemExit("imported")
        def public(): "Kept."
        def _private(): "Left out."
        class _Private:
            def inside(self): "Left out."
        class K:
            def __enter__(self): "Kept."
            def blank(self): "   "
            def none(self): 1
            def formatted(self): f"No docstring."
    """
    doc = '"""Left out."""'
    root = library(
        tmp_path,
        kept=kept,
        folder__b='"""B."""',
        folder__a='"""A."""',
        broken="def f(:",
        site_packages=doc,
        test__support=doc,
    )
    for name in ("site-packages", "folder/tests", "_private", "encodings"):
        (root / name).mkdir()
        (root / name / "x.py").write_text(doc)
    (root / "_sysconfigdata_x.py").write_text(doc)
    (root / "nul.py").write_bytes(b'"""Left out."""\0')
    (root / "site_packages.py").unlink()
    assert [entry.id for entry in docstrings(root)] == ["folder.a", "folder.b", "kept.public", "kept.K.__enter__"]


def test_other_encodings_and_lone_surrogates(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_bytes('# -*- coding: latin-1 -*-\n"""Café."""\n'.encode("latin-1"))
    (tmp_path / "odd.py").write_text(r'"""A lone \udc80 surrogate, \d."""')
    assert [entry.text for entry in docstrings(tmp_path)] == ["odd\n\nA lone ? surrogate, \\d.", "old\n\nCafé."]


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_python_without_its_source(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=folder):
        docstrings(tmp_path / folder)


def test_the_first_of_an_id_stays() -> None:
    getter, setter, other = Entry("a.x", "get", "a"), Entry("a.x", "set", "a"), Entry("a.y", "y", "a")
    assert unique([getter, other, setter]) == [getter, other]


def test_paragraphs_are_prose() -> None:
    paragraphs = reference_paragraphs()
    assert len({entry.id for entry in paragraphs}) == len(paragraphs)
    texts = [entry.text for entry in paragraphs]
    assert not any("\n" in text or "****" in text for text in texts)
    assert any(text.startswith("Assert statements are a convenient way") for text in texts)
