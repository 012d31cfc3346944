"""Who may have embedders, without Ray: nodes that answer as real ones do, and whatever they may lack."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from actors.errors import FAILED, UserError
from actors.messages import Endpoint, JobSpec
from actors.node_check import FILES, Question, complaints, spread
from actors.queue.listing import list_input
from actors.queue.plan import Plan
from jobs import admission
from jobs.admission import Admission, Node
from tests.actors.embedder.job import job_of
from tests.jobs.corpora import texts, write_parquet
from tests.servers.s3 import S3


def node(name: str, *, cpus: float = 2.0, head: bool = False) -> Node:
    return Node(name * 56, f"10.0.0.{ord(name) - 96}", f"host-{name}", cpus, head)


HEAD, A, B, C = node("h", cpus=0.0, head=True), node("a"), node("b"), node("c")


@dataclass
class Cluster:
    """Nodes that see what this machine sees, but for those `elsewhere`, to which another OUT is mounted."""

    nodes: list[Node]
    elsewhere: dict[str, Path | str] = field(default_factory=dict)
    says: dict[str, tuple[str, ...]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def alive(self) -> Sequence[Node]:
        return self.nodes

    def ask(self, node: Node, question: Question) -> Any:
        self.asked.append(node.id)
        return node, pickle.loads(pickle.dumps(question))

    def answer(self, asked: Any) -> tuple[str, ...] | None:
        node, question = asked
        if node.id in self.silent:
            return None
        if node.id in self.elsewhere:
            question = replace(question, out=str(self.elsewhere[node.id]))
        return self.says.get(node.id) or complaints(question)


@pytest.fixture
def job(tmp_path: Path) -> tuple[Plan, JobSpec]:
    made = job_of([write_parquet(tmp_path / "c.parquet", list(texts(300)))], tmp_path / "out", [])
    return made.plan, made.spec


def admit(cluster: Cluster, job: tuple[Plan, JobSpec], *, skip_bad: bool = False) -> Admission:
    made = Admission(cluster, *job, HEAD.id, skip_bad)
    made.begin()
    return made


def test_all_that_prove_it_are_in_and_leave_nothing_behind(job: tuple[Plan, JobSpec]) -> None:
    cluster = Cluster([HEAD, A, B])
    admitted = admit(cluster, job)
    assert admitted.usable() == [A.id, B.id], "the head has no CPU for an embedder"
    assert cluster.asked == [A.id, B.id], "the job's own node has just written there"
    assert not list(Path(job[1].out).iterdir())


def test_those_that_see_another_folder_are_named_in_one_line(job: tuple[Plan, JobSpec], tmp_path: Path) -> None:
    cluster = Cluster([HEAD, A, B, C], {B.id: tmp_path / "other", C.id: tmp_path / "gone"})
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError) as refused:
        admit(cluster, job)
    assert refused.value.exit_code == FAILED
    line = str(refused.value)
    assert line.startswith(f"2 of 4 nodes cannot take part: node host-b (10.0.0.2, {'b' * 12}) does not see")
    assert "host-c" in line
    assert "host-a" not in line
    assert line.endswith("--skip-bad-nodes")
    assert "\n" not in line


def test_with_skip_the_others_do_it_and_a_bad_head_still_ends_it(
    job: tuple[Plan, JobSpec], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster([HEAD, A, B], says={B.id: ("does not see it",)})
    assert admit(cluster, job, skip_bad=True).usable() == [A.id]
    assert f"without node host-b (10.0.0.2, {'b' * 12}): it does not see it" in capsys.readouterr().err
    bad_head = replace(B, head=True)
    with pytest.raises(UserError, match="the head is needed"):
        admit(Cluster([HEAD, bad_head], says={B.id: ("does not see it",)}), job, skip_bad=True)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_one_that_joins_later_is_asked_first_and_never_ends_the_job(
    job: tuple[Plan, JobSpec], capsys: pytest.CaptureFixture[str], skip_bad: bool
) -> None:
    cluster = Cluster([HEAD, A], silent={B.id}, says={C.id: ("does not see it",)})
    admitted = admit(cluster, job, skip_bad=skip_bad)
    cluster.nodes += [B, C]
    assert admitted.usable() == [A.id]
    assert admitted.usable() == [A.id]
    assert "without node host-c" in capsys.readouterr().err
    cluster.silent.clear()
    assert admitted.usable() == [A.id, B.id]
    assert "node host-b" in capsys.readouterr().err
    cluster.nodes.remove(A)
    assert admitted.usable() == [B.id]
    assert "host-a (10.0.0.1, aaaaaaaaaaaa) is lost" in capsys.readouterr().err
    assert cluster.asked.count(B.id) == 1
    assert not list(Path(job[1].out).iterdir())


def test_one_that_does_not_answer_is_named_too(job: tuple[Plan, JobSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ANSWER_S", 0.1)
    with pytest.raises(UserError, match=r"host-a .* has not answered .* does its storage hang"):
        admit(Cluster([HEAD, A], silent={A.id}), job)


def test_one_that_dies_before_it_answers_is_not_waited_for(job: tuple[Plan, JobSpec]) -> None:
    class Dying(Cluster):
        def answer(self, asked: Any) -> tuple[str, ...] | None:
            self.nodes = [HEAD, A]
            return None if asked[0] == B else super().answer(asked)

    assert admit(Dying([HEAD, A, B]), job).usable() == [A.id]


def test_a_reply_that_only_the_node_sees_is_found_out(job: tuple[Plan, JobSpec], tmp_path: Path) -> None:
    """As where the node sees a snapshot, or a layer of its own over the shared folder."""

    class Snapshot(Cluster):
        def ask(self, node: Node, question: Question) -> Any:
            (tmp_path / "snapshot").mkdir(exist_ok=True)
            (tmp_path / "snapshot" / question.note).write_text(question.token)
            return super().ask(node, question)

    with pytest.raises(UserError, match=r"host-a .* writes to another"):
        admit(Snapshot([HEAD, A], {A.id: tmp_path / "snapshot"}), job)


def test_what_else_a_node_may_lack(job: tuple[Plan, JobSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, spec = job
    path = Path(plan.files[0].path)

    def complaint(**changes: Any) -> str:
        asked: list[Question] = []

        class Asking(Cluster):
            def ask(self, node: Node, question: Question) -> Any:
                asked.append(replace(question, **changes))
                return super().ask(node, asked[0])

        try:
            admit(Asking([HEAD, A]), (plan, spec))
        except UserError as error:
            return str(error)
        return ""

    assert complaint() == ""
    os.utime(path, (1, 1))
    assert complaint() == "", "a copy on the node's own disk has its own time"
    assert "runs rayembed" in complaint(code="other")
    assert "on 3.9; install the same" in complaint(python=(3, 9))
    spec = replace(spec, endpoints=(Endpoint("http://one", "m", "openai", "A_KEY_OF_OURS"),))
    assert "has no A_KEY_OF_OURS in the environment" in complaint()
    monkeypatch.setenv("A_KEY_OF_OURS", "secret")
    assert complaint() == ""
    path.write_bytes(path.read_bytes() + b"x")
    assert f"has another {path} than the job" in complaint()
    path.unlink()
    assert f"cannot read {path} (No such file or directory)" in complaint()


def test_output_and_input_in_a_bucket_are_proven_as_well(job: tuple[Plan, JobSpec], s3: S3) -> None:
    plan, spec = job
    url = s3.put("nodes-in/c.parquet", Path(plan.files[0].path).read_bytes())
    listing = list_input([url], "s3://corpora/nodes-out", "text", None, [])
    plan, spec = Plan(listing.files, 100, 1 << 40), replace(spec, out="s3://corpora/nodes-out")
    assert admit(Cluster([HEAD, A]), (plan, spec)).usable() == [A.id]
    assert not "".join(s3.listed("nodes-out/")), "nothing but what Arrow puts there for the folder"
    with pytest.raises(UserError, match="does not see the job's note in s3://corpora/nodes-elsewhere"):
        admit(Cluster([HEAD, A], {A.id: "s3://corpora/nodes-elsewhere"}), (plan, spec))
    s3.put("nodes-in/c.parquet", b"another")
    with pytest.raises(UserError, match=f"has another {url} than the job"):
        admit(Cluster([HEAD, A]), (plan, spec))


def test_of_many_files_some_from_everywhere_are_opened(job: tuple[Plan, JobSpec]) -> None:
    files = [replace(job[0].files[0], name=f"{i}") for i in range(1000)]
    chosen = spread(files)
    assert (len(chosen), chosen[0].name, chosen[-1].name) == (FILES, "0", "999")
    assert len({file.name for file in chosen}) == FILES
    assert spread(files[:3]) == tuple(files[:3])


def test_a_node_without_our_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is asked with travels without any of our modules."""
    from ray import cloudpickle

    from jobs.nodes import _looker

    sent = cloudpickle.dumps(_looker())
    for name in ("jobs", "jobs.nodes", "actors", "actors.node_check"):
        monkeypatch.setitem(sys.modules, name, None)
    (said,) = cloudpickle.loads(sent)(b"a question")
    assert said.startswith("cannot import rayembed (")
    monkeypatch.undo()
    (said,) = cloudpickle.loads(sent)(pickle.dumps("not a question"))
    assert said.startswith("has another rayembed than the job (")
