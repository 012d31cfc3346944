"""How a job stands, told by its folder alone: while it runs, after any end, and from lines that are torn."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.errors import UserError
from jobs.settings import Settings
from jobs.status import SILENT_S, Seen, Status, _recent, judged, status
from tests.conftest import eventually
from tests.jobs.corpora import texts, write_parquet
from tests.servers.gpu.fixture import GpuServer

NOW = 1_800_000_000.0
A, B = "http://one:8000", "http://two:8000"


def line(t: float, endpoint: str = A, **changes: Any) -> dict[str, Any]:
    known = {
        "t": t,
        "at": NOW - 60.0 + t,
        "endpoint": endpoint,
        "limit": 16,
        "inflight": 15,
        "batch_rows": 256,
        "batch_tokens": 16384,
        "rows_per_s": 100.0,
        "tokens_per_s": 6000.0,
        "open_rows": 300,
        "gpu_util": 0.9,
        "gpu_source": "nvml",
        "p50_ms": 50.0,
        "p99_ms": 80.0,
        "errors": {},
        "decision": "hold",
        "bound_by": "server",
        "advice": "GPU 90% busy",
    }
    return known | changes


def written(*lines: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in lines)


def seen(*lines: dict[str, Any], **changes: Any) -> Seen:
    known: dict[str, Any] = {"rows_total": 1000, "rows_durable": 500, "rows_rejected": 0, "whole": False}
    return Seen(**{**known, "lines": _recent(written(*lines)), "summary": None, **changes})


def at(found: Seen, now: float = NOW) -> Status:
    return judged("out", found, now)


def test_a_running_job() -> None:
    lines = [line(t / 4, errors={"backend": 1} if t in (0, 200, 220) else {}) for t in range(240)]
    found = at(seen(*lines, line(60.0, rows_per_s=180.0, gpu_util=None, p50_ms=None, p99_ms=None, inflight=9)))
    (endpoint,) = found.endpoints
    assert (found.state, found.exit_code, found.silent_s) == ("running", 0, 0.0)
    assert (found.rows_here, found.rows_durable, found.rows_total) == (800, 500, 1000)
    assert found.rows_per_s == 102.0, "the mean of the last ten seconds, forty ticks"
    assert found.seconds_left == pytest.approx(200 / 102, abs=0.1)
    assert (endpoint.inflight, endpoint.limit, endpoint.gpu_util, endpoint.p99_ms) == (9, 16, 0.9, 80.0)
    assert endpoint.errors == {"backend": 1}, "of the last ten seconds (one is at 50.0, one at 55.0)"
    words = found.shown(as_json=False)
    assert words.startswith("running: 800 of 1,000 rows (80%), 102 rows/s, 00:02 left, heard of 0 s ago\n")
    assert (
        "in flight 9/16, batch ≤256, GPU 90%, p50 50 ms, p99 80 ms, errors in the last 10 s: backend 1; hold"
        in words
    )
    assert words.endswith("\nbound by: server (GPU 90% busy)")
    assert json.loads(found.shown(as_json=True)) == json.loads(json.dumps(asdict(found)))


def test_endpoints_are_counted_together() -> None:
    found = at(seen(*(line(60.0, url, rows_per_s=rate) for url, rate in ((A, 30.0), (B, 20.0)))))
    assert (found.rows_per_s, [each.url for each in found.endpoints]) == (50.0, [A, B])
    assert found.rows_here == 800, "open rows are of the whole pool"


@pytest.mark.parametrize(("silent_s", "state"), [(SILENT_S - 1, "running"), (SILENT_S + 1, "stopped")])
def test_a_job_that_falls_silent(silent_s: float, state: str) -> None:
    found = at(seen(line(60.0)), NOW + silent_s)
    assert found.state == state
    if state == "stopped":
        assert (found.exit_code, found.rows_here, found.seconds_left, found.bound_by) == (1, 500, None, None)
        assert found.shown(as_json=False) == (
            "not running: 500 of 1,000 rows (50%), last sign of life 21 s ago; run the same command again to go on"
        )


def test_a_job_of_which_nothing_was_recorded() -> None:
    found = at(seen())
    assert (found.state, found.silent_s) == ("stopped", None)
    assert "no sign of life yet" in found.shown(as_json=False)


def test_complete_is_what_is_whole_and_says_so() -> None:
    summary = {"complete": True, "rows_per_s": 77.0, "bound_by": "input", "advice": "requests waited"}
    whole = {"rows_durable": 1000, "rows_rejected": 3, "whole": True}
    found = at(seen(line(60.0), summary=summary, **whole))
    assert (found.state, found.exit_code, found.rows_per_s, found.endpoints) == ("complete", 0, 77.0, ())
    assert found.shown(as_json=False) == (
        "complete: 1,000 of 1,000 rows (100%), 3 of them rejected, 77 rows/s\nbound by: input (requests waited)"
    )
    assert at(seen(line(60.0), **whole)).state == "running", "its summary is being written"
    assert at(seen(line(60.0), summary=summary), NOW + 99).state == "stopped", "a part is gone again"


def test_no_more_rows_than_there_are() -> None:
    assert at(seen(line(60.0, open_rows=900))).rows_here == 1000, "two embedders may hold the same part"


def test_torn_and_other_lines_are_left_out() -> None:
    whole = written(line(59.0), line(60.0))
    torn = b'_rows": 3}\n' + whole + b"\xff\xfe\n[]\n{}\n" + written(line(61.0))[:-20]
    assert [each.t for each in _recent(torn)] == [59.0, 60.0]
    assert _recent(b"") == ()


def test_no_job(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no job has begun there"):
        status(Settings.model_validate({"output": {"path": str(tmp_path)}}))
    with pytest.raises(UserError, match=r"name the -o of the job"):
        status(Settings())


def test_from_another_shell(rayembed: Any, tmp_path: Path) -> None:
    """While a real job runs, after it was killed, and when it is complete."""
    corpus = write_parquet(tmp_path / "c.parquet", texts(6000))

    def asked(*more: str) -> tuple[int, dict[str, Any]]:
        ask = rayembed("run", "-o", "out", "--status", "--json", *more, own_ray=True)
        code = ask.wait()
        return code, json.loads(ask.out) if ask.out else {}

    assert asked()[0] == 2
    with GpuServer("slow", fixed_s=0.3) as server:
        command = ("run", corpus, "-o", "out", "--endpoint", server.url, "--concurrency", 2, "--batch-size", 64)
        job = rayembed(*command)

        def running() -> dict[str, Any] | None:
            code, found = asked()
            return found if code == 0 and found["rows_per_s"] > 0 else None

        found = eventually(running)
        assert (found["state"], found["rows_total"]) == ("running", 6000)
        assert 0 < found["rows_here"] < 6000
        assert found["seconds_left"] > 0
        (endpoint,) = found["endpoints"]
        assert (endpoint["url"], endpoint["limit"], endpoint["batch_rows"]) == (server.url, 2, 64)
        job.send(signal.SIGINT)
        assert job.wait() == 130
        server.change(fixed_s=0.01)
        job = rayembed(*command)
        assert job.wait() == 0, job.err
    code, found = asked()
    assert (code, found["state"], found["rows_here"]) == (0, "complete", 6000)
    assert found["bound_by"] == json.loads((tmp_path / "out/_summary.json").read_text())["bound_by"]
