"""A corpus of real text that every Python brings along: what its standard library says of itself.

The text is the Python Software Foundation's, under the PSF License Version 2 (`PSF-2.0`). It is read from the
running Python's own files, so nothing is downloaded and nothing of it is part of this project.
"""

from __future__ import annotations

import ast
import gc
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from os import walk
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import UserError

CORPUS_LICENSE = "documentation of the Python standard library, (c) Python Software Foundation, PSF-2.0"

_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("source", pa.string())])
# Not the library itself: what is installed beside it, its tests, whole applications, generated tables.
_SKIPPED_FOLDERS = {
    *("site-packages", "dist-packages", "__pycache__"),
    *("test", "tests", "idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data"),
}
_FEWEST_WORDS = 8
_ENDS_OF_PROSE = (".", ":", "!", "?", ".)")

_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Where each kind of statement keeps the statements inside it; most kinds have no such place.
_KINDS: list[type[ast.AST]] = [ast.Module, ast.ExceptHandler, ast.match_case, *ast.stmt.__subclasses__()]
_BLOCKS = {
    kind: [field for field in kind._fields if field in {"body", "orelse", "handlers", "finalbody", "cases"}]
    for kind in _KINDS
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: `id` is a qualified name, `source` the file it was read from, relative to the library."""

    id: str
    text: str
    source: str


def write_sample_corpus(path: str | Path) -> int:
    """Writes a Parquet file with columns `id` (unique), `text`, `source`, all strings; returns its rows, ~7,000.

    The same Python gives the same file. Missing folders of `path` are made. Raises UserError when this Python comes
    without the source of its library. The text is under PSF-2.0: see `CORPUS_LICENSE`.
    """
    entries = unique([*docstrings(Path(sysconfig.get_path("stdlib"))), *reference_paragraphs()])
    columns = [[getattr(entry, name) for entry in entries] for name in _SCHEMA.names]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=_SCHEMA), path)
    return len(entries)


def docstrings(library: Path) -> list[Entry]:
    """The docstrings of all public modules, classes and functions of `library`, in the order of files and lines.

    Reads source only, imports nothing. Raises UserError when there is none.
    """
    with _no_cycle_search():
        found = [entry for path in _source_files(library) for entry in _docstrings_of(path, library)]
    if not found:
        raise UserError(
            f"no source of Python's standard library in {library}, which the sample corpus is made from: "
            "use a Python that comes with it, or give `rayembed run` a corpus of your own"
        )
    return found


def reference_paragraphs() -> list[Entry]:
    """The language reference as pydoc knows it, cut into paragraphs of prose; empty where Python comes without."""
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError:
        return []
    return [
        Entry(f"reference.{topic}.{number}", _encodable(paragraph), "pydoc_data/topics.py")
        for topic, text in sorted(topics.items())
        for number, paragraph in enumerate(_prose(text), start=1)
    ]


def unique(entries: Iterable[Entry]) -> list[Entry]:
    """The first entry of each id: a property's setter, or the same function for another platform, has none."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.id, entry)
    return list(first.values())


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Syntax trees are millions of objects without a cycle; looking for one takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _source_files(library: Path) -> list[Path]:
    found: list[Path] = []
    for folder, subfolders, files in walk(library):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS and not _private(name)]
        found += [Path(folder, name) for name in files if name.endswith(".py") and not _private(name[:-3])]
    return sorted(found)


def _docstrings_of(path: Path, library: Path) -> Iterator[Entry]:
    relative = path.relative_to(library)
    parts = relative.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in somebody else's source
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for name, text in _documented(tree, module):
        yield Entry(name, _encodable(f"{name}\n\n{text}"), relative.as_posix())


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Name and docstring of `node`, then of what is defined inside it, at any depth, and public.

    Only statements can hold a definition, so expressions, which are most of a tree, are never looked at.
    """
    if isinstance(node, (ast.Module, *_NAMED)):
        text = (ast.get_docstring(node) or "").strip()
        if text:
            yield name, text
    for block in _BLOCKS[type(node)]:
        for child in getattr(node, block):
            if isinstance(child, _NAMED):
                if not _private(child.name):
                    yield from _documented(child, f"{name}.{child.name}")
            elif _BLOCKS[type(child)]:
                yield from _documented(child, name)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _prose(text: str) -> Iterator[str]:
    """Paragraphs that end as a sentence does, so no headings, grammar or code, each as one line."""
    for block in re.split(r"\n\s*\n", text):
        words = block.split()
        if len(words) >= _FEWEST_WORDS and words[-1].endswith(_ENDS_OF_PROSE):
            yield " ".join(words)


def _encodable(text: str) -> str:
    """A docstring may spell out a lone surrogate, which Parquet's UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
