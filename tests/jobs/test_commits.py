"""Commits while a job runs: one at a time, none that holds it up, none whose failure ends it."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from actors.output.sinks import open_sink
from actors.queue.plan import Plan
from jobs import commits as module
from jobs.commits import Commits
from tests.actors.output.test_folder import plan_of
from tests.conftest import eventually


def test_one_at_a_time_and_failures_are_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_SHARE", 0)
    sink, plan, going, begun = open_sink("parquet", tmp_path), plan_of(20), Event(), []

    def commit(of: Plan) -> None:
        assert of is plan
        begun.append(len(begun))
        going.wait(60)
        if len(begun) == 1:
            raise OSError("away")

    monkeypatch.setattr(sink, "commit", commit)
    commits = Commits(sink, plan)
    for _ in range(5):
        commits.now_and_then()
    eventually(lambda: begun == [0])
    going.set()
    eventually(lambda: commits.now_and_then() or len(begun) > 1)
    commits.close()
