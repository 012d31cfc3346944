"""Which nodes of the cluster may have embedders: those that have proved that they can do the work. Without Ray.

Checked are all that are there when the job begins, before the first request, and each that joins later.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tqdm import tqdm

from actors.errors import FAILED, UserError
from actors.messages import JobSpec
from actors.node_check import Question, code, leave, python, read, remove, spread
from actors.queue.plan import Plan

ANSWER_S = 300.0  # a node may first have to install what the job's runtime_env asks for
SAY_S = 10.0  # of waiting, before there is a word about it
LOOK_S = 0.05
SHOWN = 3  # nodes named in one line


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive. `head`: queue and driver are there. `cpus` as Ray counts them; 0: no embedder."""

    id: str
    address: str
    hostname: str
    cpus: float
    head: bool

    def __str__(self) -> str:
        return f"node {self.hostname} ({self.address}, {self.id[:12]})"


class Nodes(Protocol):
    """The cluster, to whoever asks its nodes something."""

    def alive(self) -> Sequence[Node]:
        """Raises UserError when the cluster is lost."""
        ...

    def ask(self, node: Node, question: Question) -> Any:
        """Begin to ask; what `answer` wants."""
        ...

    def answer(self, asked: Any) -> tuple[str, ...] | None:
        """What the node complains of; None: it has not answered yet."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    node: Node
    question: Question
    answer: Any
    since: float


class Admission:
    """`own` is the node of the job itself, which has just written to OUT and read the input: it is not asked."""

    def __init__(self, nodes: Nodes, plan: Plan, spec: JobSpec, own: str, skip_bad: bool) -> None:
        self._nodes = nodes
        self._out = spec.out
        self._inputs = spread(plan.files)
        self._keys = tuple(sorted({each.api_key_env for each in spec.endpoints if each.api_key_env}))
        self._own = own
        self._skip_bad = skip_bad
        self._asked: dict[str, _Asked] = {}
        self._complaints: dict[str, str] = {}  # by node; empty: it may take part
        self._there: dict[str, Node] = {}  # as of the last look

    def begin(self) -> None:
        """Wait until every node that is there has answered. Raises UserError naming those that cannot take part,
        unless they are to be left out."""
        began, said = time.monotonic(), False
        self._look(nodes := self._nodes.alive())
        while self._asked:
            if not said and time.monotonic() - began > SAY_S:
                said = True
                waiting = _several([str(each.node) for each in self._asked.values()])
                print(f"waiting for the answer of {waiting}", file=sys.stderr)
            time.sleep(LOOK_S)
            self._look(nodes := self._nodes.alive())
        bad = [node for node in nodes if self._complaints.get(node.id)]
        if bad and (not self._skip_bad or any(node.head for node in bad)):
            raise UserError(self._refusal(bad, len(nodes)), FAILED)
        self._leave_out(bad)

    def usable(self) -> list[str]:
        """Ids, sorted, of the nodes that may have embedders now. Those that have just joined are asked first."""
        before = set(self._complaints)
        self._look(nodes := self._nodes.alive())
        came = [each for each in nodes if each.id in self._complaints.keys() - before]
        self._leave_out([each for each in came if self._complaints[each.id]])
        for node in came:
            if not self._complaints[node.id]:
                tqdm.write(f"{node} has joined", file=sys.stderr)
        return sorted(each.id for each in nodes if each.cpus and self._complaints.get(each.id) == "")

    def _look(self, nodes: Sequence[Node]) -> None:
        """Ask who has not been asked, hear who has answered, forget who is gone."""
        there = {node.id: node for node in nodes}
        for gone in (self._asked.keys() | self._complaints.keys()) - there.keys():
            if self._complaints.pop(gone, None) == "":
                tqdm.write(f"{self._there[gone]} is lost; others do its parts", file=sys.stderr)
            if asked := self._asked.pop(gone, None):
                self._clear(asked.question)
        self._there = there
        for asked in list(self._asked.values()):
            self._hear(asked)
        for node in nodes:
            if node.id == self._own:
                self._complaints[node.id] = ""
            elif node.id not in self._asked and node.id not in self._complaints:
                self._ask(node)

    def _ask(self, node: Node) -> None:
        token = secrets.token_hex(8)
        question = Question(
            code=code(),
            python=python(),
            out=self._out,
            # hidden, and like what killed writers leave behind: swept with that, should the job be killed now
            note=f".node-{token}.tmp",
            reply=f".node-{token}-reply.tmp",  # a name that nobody has looked for: NFS remembers what was not there
            token=token,
            inputs=self._inputs,
            keys=self._keys,
        )
        try:
            leave(self._out, question.note, token)
        except OSError as error:
            raise UserError(f"cannot write to {self._out}: {error.strerror or error}", FAILED) from error
        self._asked[node.id] = _Asked(node, question, self._nodes.ask(node, question), time.monotonic())

    def _hear(self, asked: _Asked) -> None:
        answer = self._nodes.answer(asked.answer)
        if answer is None:
            if time.monotonic() - asked.since < ANSWER_S:
                return
            answer = (f"has not answered for {ANSWER_S:.0f} s; does its storage hang?",)
        elif not answer:
            answer = self._about_reply(asked.question)
        self._complaints[asked.node.id] = "; ".join(answer)
        del self._asked[asked.node.id]
        self._clear(asked.question)

    def _about_reply(self, question: Question) -> tuple[str, ...]:
        try:
            if read(self._out, question.reply) == question.token:
                return ()
            reason = "another note lies there"
        except OSError as error:
            reason = error.strerror or str(error)
        return (
            f"writes to another {self._out} than the job's ({reason}); OUT must be storage that all nodes share",
        )

    def _clear(self, question: Question) -> None:
        for name in (question.note, question.reply):
            remove(self._out, name)

    def _leave_out(self, bad: Iterable[Node]) -> None:
        for node in bad:
            tqdm.write(f"without {node}: it {self._complaints[node.id]}", file=sys.stderr)

    def _refusal(self, bad: Sequence[Node], there: int) -> str:
        shown = _several([f"{node} {self._complaints[node.id]}" for node in bad])
        head = any(node.head for node in bad)
        remedy = "the head is needed" if head else "or go on without such nodes with --skip-bad-nodes"
        return f"{len(bad)} of {there} nodes cannot take part: {shown}; {remedy}"


def _several(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more
