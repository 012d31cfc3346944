"""`ray job submit` from a clean clone to a running cluster that asks for a token: what goes up, what comes back."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT, eventually
from tests.jobs.cluster.machines import RAY, machines
from tests.jobs.corpora import assert_right, read_out, texts, write_parquet
from tests.servers.fixture import EmbeddingServer

KEY, KEY_NAME = "not-to-be-seen-anywhere", "EMBEDDINGS_KEY"
MOST_BYTES = 2 << 20  # of our code, unpacked; it goes up as a zip
SLOW = ("--concurrency", "4", "--batch-size", "64")


@dataclass(frozen=True)
class Jobs:
    """The Jobs API of a running cluster, by its own command line, from a clone."""

    url: str
    token: str
    environment: dict[str, str]
    clone: Path
    session: Path  # the head's

    def ray(self, *command: str, clone: Path | None = None) -> subprocess.CompletedProcess[str]:
        arguments = [RAY, "job", command[0], "--address", self.url, *command[1:]]
        return subprocess.run(
            arguments, cwd=clone or self.clone, env=self.environment, capture_output=True, text=True, check=False
        )

    def submit(self, name: str, *command: str, wait: bool = False) -> subprocess.Popen[str]:
        """`ray job submit` as README has it; with `wait` it follows the log and ends as the job does."""
        arguments = ["submit", "--address", self.url, "--submission-id", name, "--working-dir", "."]
        arguments += ["--runtime-env", "config/runtime_env.yaml", *([] if wait else ["--no-wait"])]
        return subprocess.Popen(
            [RAY, "job", *arguments, "--", "python", "-m", "jobs", *command],
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def about(self, name: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"{self.url}/api/jobs/{name}", headers=headers, trust_env=False).raise_for_status()
        return dict(answer.json())

    def ends(self, name: str) -> dict[str, Any]:
        over = ("SUCCEEDED", "FAILED", "STOPPED")
        eventually(lambda: self.about(name)["status"] in over)
        return self.about(name)


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("submit")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with machines(**auth, **{KEY_NAME: KEY}, PYTHONPATH="") as cluster:
        cluster.head("--num-cpus=2", "--include-dashboard=true", "--dashboard-host=127.0.0.1")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | auth
        yield Jobs(
            f"http://127.0.0.1:{cluster.dashboard_port}",
            token.read_text(),
            environment,
            _clone(folder / "clone"),
            cluster.folder,
        )


def _clone(folder: Path) -> Path:
    """What git would bring, and what a checkout that was used has beside it, which must stay behind."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in (".venv/lib/large.so", ".git/objects/pack/large.pack", "out/part-0.parquet", "corpus.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(4 << 20))
    return folder


def test_a_job_is_submitted_stopped_and_submitted_again(
    jobs: Jobs, server: EmbeddingServer, tmp_path: Path
) -> None:
    rows, out = texts(20_000), tmp_path / "out"
    corpus = write_parquet(tmp_path / "c.parquet", list(rows))
    command = ("run", str(corpus), "-o", str(out), "--endpoint", server.url, "--api-key-env", KEY_NAME, *SLOW)
    server.behave(api_key=KEY, texts_per_s=2000, hold_after=14_000)
    submitted = jobs.submit("first", *command)
    said, _ = submitted.communicate(timeout=180)
    assert submitted.returncode == 0, said
    eventually(lambda: len(list(out.glob("part-*.parquet"))) >= 5)
    eventually(
        lambda: re.search(r"^[\d,]+ of 20,000 rows \(\d+%\), .* left, ", jobs.ray("logs", "first").stdout, re.M)
    )
    (shipped,) = jobs.session.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) < MOST_BYTES
    assert not {"tests", "out", ".venv", "corpus.jsonl"} & {path.name for path in shipped.iterdir()}

    stopped = jobs.ray("stop", "first")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    about = jobs.ends("first")
    assert about["status"] == "STOPPED"
    logs = jobs.ray("logs", "first").stdout
    assert "ending: what is in flight is still written" in logs
    assert "Traceback" not in logs
    summary = json.loads((out / "_summary.json").read_text())  # so it has ended by itself
    assert not summary["complete"]
    assert read_out(out).num_rows == summary["rows_embedded"] > 0

    server.behave(texts_per_s=0, hold_after=0)
    again = jobs.submit("again", *command, wait=True)
    said, _ = again.communicate(timeout=180)
    assert again.returncode == 0, said
    assert "Job 'again' succeeded" in said
    assert json.loads((out / "_summary.json").read_text())["rows_resumed"] == summary["rows_embedded"]
    assert_right(out, rows)
    listed = jobs.ray("list")
    assert "again" in listed.stdout
    assert KEY not in logs + said + listed.stdout + listed.stderr + json.dumps(jobs.about("again"))


def test_the_exit_code_reaches_whoever_submitted(jobs: Jobs, server: EmbeddingServer, tmp_path: Path) -> None:
    """Ray's client says 1 for every code but 0; which one it was is in the Jobs API."""
    server.behave(poison="POISON")
    corpus = write_parquet(tmp_path / "c.parquet", ["this is POISON", *texts(200)])
    expected = {
        "some-rejected": (3, ("run", str(corpus), "-o", str(tmp_path / "out"), "--endpoint", server.url)),
        "no-such-input": (2, ("run", "/no/such/corpus", "-o", str(tmp_path / "none"), "--endpoint", server.url)),
    }
    submitted = {name: jobs.submit(name, *command, wait=True) for name, (_, command) in expected.items()}
    for name, process in submitted.items():
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 1, said
        assert "Traceback" not in said.split("Error Type:")[0]
        about = jobs.ends(name)
        assert (about["status"], about["driver_exit_code"]) == ("FAILED", expected[name][0]), said


def test_without_the_token_nobody_gets_in(jobs: Jobs) -> None:
    stranger = replace(jobs, environment={**jobs.environment, "RAY_AUTH_MODE": "disabled"})
    listed = stranger.ray("list")
    assert listed.returncode != 0
    assert "authentication" in (listed.stdout + listed.stderr).lower()
