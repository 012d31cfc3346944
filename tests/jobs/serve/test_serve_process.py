"""The server as a process: ready line, ports, signals, and a child that never outlives its parent."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from actors.errors import UserError
from jobs.serve.command import serve
from jobs.serve.local import start_local_server

ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-m", "jobs.serve"]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url.removesuffix('/v1')}/health", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def test_local_server_lives_as_long_as_its_block() -> None:
    with start_local_server() as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        reply = httpx.post(f"{url}/embeddings", json={"input": ["a", "b"]}, timeout=30)
        assert len(reply.json()["data"]) == 2
        assert answers(url)
    assert not answers(url)


def test_local_server_ends_when_the_block_raises() -> None:
    with pytest.raises(KeyError), start_local_server() as url:
        raise KeyError(url)
    assert not answers(url)


def test_local_server_starts_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    with start_local_server() as url:
        assert answers(url)


def test_local_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs.py").write_text("raise SystemExit('no server today')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(UserError, match=r"did not start: .*no server today"), start_local_server():
        pass


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_local_server_ends_with_a_killed_parent() -> None:
    code = (
        "import sys; from jobs.serve.local import start_local_server\n"
        "with start_local_server() as url:\n    print(url, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)
        parent.kill()
    deadline = time.monotonic() + 30
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not answers(url)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
def test_one_ready_line_a_key_and_a_clean_end_on_ctrl_c() -> None:
    server = subprocess.Popen(
        [*SERVE, "--port", "0", "--api-key-env", "TEST_SERVE_KEY"],
        cwd=ROOT,
        env={**os.environ, "TEST_SERVE_KEY": "sesame-42"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stderr is not None
        line = server.stderr.readline()
        ready = re.fullmatch(r"serving wordllama-l2-supercat-256 \(256-dim\) at (http://127.0.0.1:\d+/v1)\n", line)
        assert ready, line
        right = {"Authorization": "Bearer sesame-42"}
        assert httpx.get(f"{ready[1]}/models", timeout=30).status_code == 401
        assert httpx.get(f"{ready[1]}/models", headers=right, timeout=30).status_code == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert server.stderr.read() == ""


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        ended = subprocess.run([*SERVE, "--port", str(port)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"port {port}" in line
    assert "--port" in line


def test_the_command_line_takes_what_the_server_takes() -> None:
    options = ["--batching", "request", "--max-batch-tokens", "100"]
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        command = [sys.executable, "-m", "jobs", "serve", "--port", port, *options]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f"port {port}" in ended.stderr
    with start_local_server(*options) as url:
        assert answers(url)


def test_what_serve_refuses() -> None:
    with pytest.raises(UserError, match="--max-batch-tokens 0"):
        serve(port=0, max_batch_tokens=0)
    with pytest.raises(UserError, match="RAYEMBED_NO_SUCH_KEY"):
        serve(port=0, api_key_env="RAYEMBED_NO_SUCH_KEY")
    with pytest.raises(UserError, match="70000"):
        serve(port=70000)
    with pytest.raises(UserError, match=r"192\.0\.2\.1"):
        serve(host="192.0.2.1", port=0)
    with pytest.raises(UserError, match="no-such-model"):
        serve(port=0, model="no-such-model")
