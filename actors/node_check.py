"""What a node has to prove before it gets an embedder: it has our code, it sees the same OUT and the same input.

A node that sees another folder at OUT's path would write its parts where nobody finds them. So the job leaves a
note in OUT, the node reads it and leaves its own, and the job reads that.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from actors.corpus.source import version_of
from actors.corpus.storage import bare, open_input, reason, scheme_of
from actors.errors import UserError
from actors.messages import SourceFile
from actors.output.store import publish_text, read_bytes, store_of

FILES = 32  # of the input that a node opens; they are spread over all of it


@dataclass(frozen=True, slots=True)
class Question:
    """What a node is asked. `note` names the job's note in `out`, which holds `token`; `reply` is to hold it too.

    `keys` are the names of the environment variables with API keys.
    """

    code: str
    python: tuple[int, int]
    out: str
    note: str
    reply: str
    token: str
    inputs: tuple[SourceFile, ...]
    keys: tuple[str, ...]


def spread(files: Sequence[SourceFile], most: int = FILES) -> tuple[SourceFile, ...]:
    """The first, the last and some between."""
    if len(files) <= most:
        return tuple(files)
    return tuple(files[i * (len(files) - 1) // (most - 1)] for i in range(most))


def complaints(question: Question) -> tuple[str, ...]:
    """Why this node cannot take part, each with its remedy; none if it can."""
    if question.code != code() or question.python != python():
        return (
            f"runs rayembed {code()} on Python {_dotted(python())}, the job {question.code} on "
            f"{_dotted(question.python)}; install the same on all nodes, or ship it with ray job submit",
        )
    found = (_about_out(question), _about_inputs(question), _about_keys(question))
    return tuple(each for each in found if each)


@cache
def code() -> str:
    """What differs between two states of our code."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def python() -> tuple[int, int]:
    return sys.version_info[:2]


def leave(out: str, name: str, text: str) -> None:
    """A note in OUT. Raises OSError."""
    publish_text(store_of(out), name, text)


def read(out: str, name: str) -> str:
    """A note in OUT. Raises OSError."""
    return read_bytes(store_of(out), name).decode()


def remove(out: str, name: str) -> None:
    store_of(out).remove(name)


def _about_out(question: Question) -> str:
    try:
        there = read(question.out, question.note)
        if there != question.token:
            raise OSError("another note lies there")
    except (OSError, UserError) as error:
        return (
            f"does not see the job's note in {question.out} ({_why(error)}); OUT must be storage that all nodes "
            f"share, under the same path"
        )
    try:
        leave(question.out, question.reply, question.token)
    except (OSError, UserError) as error:
        return f"cannot write to {question.out} ({_why(error)}); let the user of its Ray write there"
    return ""


def _about_inputs(question: Question) -> str:
    for file in question.inputs:
        try:
            if difference := _difference(file):
                return f"has another {bare(file.path)} than the job ({difference}); put the same files on all nodes"
        except (OSError, UserError) as error:
            return f"cannot read {bare(file.path)} ({_why(error)}); input must be paths that all nodes see, or URLs"
    return ""


def _difference(file: SourceFile) -> str:
    """Copies on each node's own disk differ in their times, and may."""
    paths = file.members or (file.path,)
    with open_input(paths[0]) as opened:
        opened.read(1)
    now = version_of(file.path, file.members)
    if now == file.version or (file.members and scheme_of(file.path) is None):
        return ""
    if scheme_of(file.path):
        return "another version"
    there, wanted = now.rpartition("-")[2], file.version.rpartition("-")[2]
    return f"{there} bytes, not {wanted}" if there != wanted else ""


def _about_keys(question: Question) -> str:
    missing = [name for name in question.keys if not os.environ.get(name, "").strip()]
    if not missing:
        return ""
    return f"has no {', '.join(missing)} in the environment of its Ray; set it there before `ray start`"


def _why(error: OSError | UserError) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
