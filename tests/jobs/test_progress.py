"""What a running job says of itself, and when."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable

import pytest

from actors.messages import DriverStatus, EndpointStatus, GpuSample, QueueStatus, Verdict
from jobs.progress import Progress, Turns

FULL = Verdict("server", "GPU 97% busy: the server is the limit", "add a GPU and an --endpoint")
ALSO_FULL = Verdict("server", "GPU 96% busy: the server is the limit", "add a GPU and an --endpoint")
INPUT = Verdict("input", "requests waited 50% of the time for texts to be read", "read from faster storage")


def said(seen: Iterable[Verdict | None]) -> list[tuple[int, Verdict]]:
    """Which of what is seen, a second apart, is said, and when."""
    turns = Turns()
    return [(second, turn) for second, verdict in enumerate(seen) if (turn := turns.look(verdict, float(second)))]


def test_a_verdict_is_said_once_it_has_stood() -> None:
    assert said([None, FULL, FULL, ALSO_FULL, FULL, FULL, ALSO_FULL, FULL]) == [(6, ALSO_FULL)]


def test_one_that_comes_and_goes_is_not() -> None:
    assert said([FULL, INPUT, FULL, INPUT] * 5) == []
    assert said([FULL] * 7 + [None, INPUT, INPUT, None] + [FULL] * 9) == [(5, FULL)]


def test_another_is_said_and_the_first_again() -> None:
    assert said([FULL] * 7 + [INPUT] * 7 + [FULL] * 7) == [(5, FULL), (12, INPUT), (19, FULL)]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


@pytest.mark.parametrize("columns", [140, 0, None])
def test_what_is_shown(monkeypatch: pytest.MonkeyPatch, columns: int | None) -> None:
    """In a terminal a bar; elsewhere, and where it has no width, a line every ten seconds, written at once."""
    terminal = bool(columns)
    shown = io.StringIO() if columns is None else _Terminal()
    monkeypatch.setattr("jobs.progress.os.get_terminal_size", lambda _: os.terminal_size((columns or 0, 40)))
    flushed: list[str] = []
    clock = [100.0]
    monkeypatch.setattr(shown, "flush", lambda: flushed.append(shown.getvalue()))
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr("jobs.progress.time.monotonic", lambda: clock[0])
    queue = QueueStatus(1000, 100, 0, 0, 0, 10, 0)
    progress = Progress(queue)
    for second in range(31):
        clock[0] = 100.0 + second
        rows = 20 * second
        endpoint = EndpointStatus(
            "http://one", 8, 7, 64, 8192, 20.0, 1200.0, "hold", rows, rows, 0, 9, 0, {"backend": 2}
        )
        gpu = GpuSample(0.97, "nvml", 0.1)
        recently = FULL if second > 10 else None
        progress.show(queue, DriverStatus((endpoint,), second, 1, gpu, None, None, 0, 1.0, FULL, recently, {}))
    progress.close()
    text = shown.getvalue()
    assert text.count("bound by: server (GPU 97% busy: the server is the limit; add a GPU and an --endpoint)") == 1
    assert "1,200 tokens/s, in flight 7/8, batch ≤64, GPU 97%, 2 errors, bound by server" in text
    if terminal:
        assert "700/1.00k" in text
    else:
        lines = [line for line in text.splitlines() if "rows/s" in line]
        assert [line.split(",")[0:2] for line in lines] == [
            ["300 of 1", "000 rows (30%)"],
            ["500 of 1", "000 rows (50%)"],
            ["700 of 1", "000 rows (70%)"],
        ]
        assert "20 rows/s, 00:35 left" in lines[0]
        assert flushed[-1] == text
