"""YAML text to values that know their lines, and every complaint about them as one line of text.

Nothing here knows which settings exist: `jobs.settings` holds the model and asks for the wording.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml
from pydantic_core import ErrorDetails

from actors.errors import UserError

KeyPath = tuple[str | int, ...]

_YAML = "tag:yaml.org,2002:"
_LONGEST_VALUE_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint; `line` is 1-based in the file, or 0 for what was typed on the command line."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """The values of one YAML file, all keys text, with the node tree that knows where each was written."""

    name: str
    values: dict[str, object]
    root: yaml.Node | None

    def find(self, path: KeyPath) -> tuple[int, yaml.Node | None]:
        """The 1-based line of the deepest part of `path` that was written, and the value if all of it was."""
        line, node = 1, self.root
        for part in path:
            step = _child(node, part)
            if step is None:
                return line, None
            line, node = step
        return line, node


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a setting came from: the command line (`overrides`, by dotted key) or else the file."""

    document: Document
    overrides: Mapping[str, object]
    option_names: Mapping[str, str]

    def name(self, path: KeyPath) -> str:
        """What the user typed for `path`: the option if it came from one, else the dotted key."""
        key = self._override(path)
        return dotted(path) if key is None else self.option_names.get(key, key)

    def line(self, path: KeyPath) -> int:
        return 0 if self._override(path) is not None else self.document.find(path)[0]

    def shown(self, path: KeyPath, value: object) -> str:
        """The value of `path` in words fit for an error: as it was written, clipped, and never a secret."""
        if isinstance(value, str) and (path[0] == "endpoints" or "://" in value) and set(value) & set("@?#"):
            return "a URL that is not shown here"
        node = None if self._override(path) is not None else self.document.find(path)[1]
        if isinstance(node, yaml.ScalarNode) and not isinstance(value, str):
            return _as_written(node, value)
        if value is None:
            return "null"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, Mapping):
            return "a mapping"
        return _clipped(repr(value)) if isinstance(value, str | int | float) else "a list"

    def _override(self, path: KeyPath) -> str | None:
        keys = (dotted(path[:end]) for end in range(1, len(path) + 1))
        return next((key for key in keys if key in self.overrides), None)


def parse_document(content: bytes, name: str) -> Document:
    """Read the bytes of a YAML file called `name`; an empty one has no values.

    Raises UserError, with the line, for anything but UTF-8 YAML whose top level is a mapping with text keys,
    each once.
    """
    loader = _loader(content, name)
    try:
        root = loader.get_single_node()
        if root is None or root.tag == _YAML + "null":
            return Document(name, {}, None)
        if not isinstance(root, yaml.MappingNode):
            raise refusal(
                name, [Problem(_line(root), "the top level must be a mapping, lines of the form 'key: value'")]
            )
        # Before the construction, which flattens merge keys into the tree and lets the last of two keys win.
        problems = [problem for path, node in _nodes(root) for problem in _flaws(loader, path, node)]
        if problems:
            raise refusal(name, problems)
        return Document(name, loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        malformed = _malformed(error)
    except RecursionError:
        malformed = Problem(1, "not a settings file: it is nested too deeply")
    raise refusal(name, [malformed])


def refusal(name: str, problems: Sequence[Problem]) -> UserError:
    """The error to raise for the first of `problems` in the file `name`, with a count of the others."""
    first = min(problems, key=lambda problem: problem.line)
    where = f"{name} line {first.line}: " if first.line else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return UserError(f"{where}{first.text}{more}")


def explain(error: ErrorDetails, sources: Sources, blocks: Mapping[str, Sequence[str]]) -> Problem:
    """Word one pydantic error; `blocks` is every block's keys, "" for the top level.

    Of the model's own error types, "expected" carries `what`; so does "flaw", which does not show the value;
    "conflict" carries a `key` of the block, its `value`, the `other` key it clashes with, `but` and a `remedy`.
    """
    path, kind, context = error["loc"], error["type"], error.get("ctx", {})
    if kind == "conflict":
        path, other = (*path, context["key"]), (*path, context["other"])
        text = (
            f"{sources.name(path)} is {context['value']}, but {sources.name(other)} {context['but']}"
            f"; {context['remedy']}"
        )
    elif kind == "extra_forbidden":
        text = f"unknown key {_quoted(path)}; {_nearest(path, blocks)}"
    elif kind == "missing":
        text = f"{sources.name(path[:-1])} has no '{path[-1]}'"
    elif kind == "flaw":
        text = f"{sources.name(path)} {context['what']}"
    else:
        what = context["what"] if kind == "expected" else "a mapping, its keys indented below it"
        text = f"{sources.name(path)} is {sources.shown(path, error['input'])}; expected {what}"
    return Problem(sources.line(path), text)


def dotted(path: KeyPath) -> str:
    """`("endpoints", 0, "url")` as `endpoints[0].url`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _quoted(path: KeyPath) -> str:
    return _clipped(repr(dotted(path)))


def _nearest(path: KeyPath, blocks: Mapping[str, Sequence[str]]) -> str:
    """What the unknown key at `path` may have been meant to be."""
    *parents, key = [part for part in path if isinstance(part, str)]
    here = ".".join(parents)
    wanted = key.lower()
    block, _, name = wanted.partition(".")
    if not here and name in blocks.get(block, ()):
        return f"write '{name}:' indented below '{block}:'"
    if wanted in blocks[here]:
        return f"did you mean '{wanted}'?"
    elsewhere = [(name, block) for block, names in blocks.items() if block != here for name in names]
    # A name of the same block is given bare; the line says which block that is.
    found = [f"'{name}'" for name in difflib.get_close_matches(wanted, blocks[here], 1)]
    found += [_in_block(name, block) for name, block in elsewhere if name == wanted][:1]
    if not found:
        close = difflib.get_close_matches(wanted.rpartition(".")[2], [name for name, _ in elsewhere], 1)
        found = [_in_block(name, block) for name, block in elsewhere if name in close][:1]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"the keys {f'of {here!r}' if here else 'at the top level'} are {', '.join(blocks[here])}"


def _in_block(name: str, block: str) -> str:
    if not block:
        return f"'{name}' at the top level"
    return f"'{'endpoints[]' if block == 'endpoints' else block}.{name}'"


class _Loader(yaml.SafeLoader):
    """SafeLoader that leaves dates as text: no setting is a date, and a column may well be named like one."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _YAML + "timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _loader(content: bytes, name: str) -> _Loader:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        flaw = Problem(line, f"not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8")
    else:
        try:
            return _Loader(text)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            flaw = Problem(line, f"holds a control character (U+{ord(text[error.position]):04X}); remove it")
    raise refusal(name, [flaw])


def _nodes(root: yaml.Node) -> Iterator[tuple[KeyPath, yaml.Node]]:
    """Every value node once, whatever aliases point at it."""
    seen: set[int] = set()
    waiting: list[tuple[KeyPath, yaml.Node]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield path, node
        if isinstance(node, yaml.MappingNode):
            waiting.extend(((*path, str(key.value)), value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(((*path, index), item) for index, item in enumerate(node.value))


def _flaws(loader: _Loader, path: KeyPath, node: yaml.Node) -> Iterator[Problem]:
    """What PyYAML would let pass in silence, or answer with something other than a YAMLError."""
    if isinstance(node, yaml.ScalarNode):
        try:
            loader.construct_object(node)
        except yaml.YAMLError:
            raise
        except Exception:  # `!!int x`, `!!timestamp x`, a number of 5,000 digits: each fails in a way of its own
            yield Problem(_line(node), f"the value of {_quoted(path)} is not what its YAML type says")
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = _line(key)
        if key.tag not in (_YAML + "str", _YAML + "merge"):
            written = _quoted((*path, key.value)) if isinstance(key, yaml.ScalarNode) else "(a list or mapping)"
            yield Problem(line, f"unknown key {written}; a key is one of the settings' names")
        elif key.value in first:
            lines = f"{first[key.value]} and {line}"
            yield Problem(line, f"{_quoted((*path, key.value))} is given twice, on lines {lines}; keep one")
        else:
            first[key.value] = line


def _malformed(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = error.problem or "cannot be read"
    if r"'\t'" in what:
        what = "a tab where only spaces may stand; indent with spaces"
    elif error.context:
        begun = error.context_mark
        since = f" (line {begun.line + 1})" if begun and mark and begun.line != mark.line else ""
        what = f"{error.context}{since}, {what}"
    # The name of an alias or a tag is cut: it may be the start of a password somebody forgot to quote.
    what = re.sub(r"\b(alias|anchor|tag|tag handle) ['\"].*", r"\1", what, flags=re.DOTALL)
    return Problem(mark.line + 1 if mark else 1, f"not valid YAML: {what}")


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # From the end: what a merge key brought in stands before the mapping's own keys.
        return next(((_line(key), value) for key, value in reversed(node.value) if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return _line(node.value[part]), node.value[part]
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _as_written(node: yaml.ScalarNode, value: object) -> str:
    written = _clipped(str(node.value))
    if value is None:
        return written or "empty"
    if isinstance(value, bool) and written.lower() != str(value).lower():
        return f"{written}, which YAML reads as {str(value).lower()}"
    return written


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE_SHOWN else f"{text[:_LONGEST_VALUE_SHOWN]}…"
