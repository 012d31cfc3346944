"""What held a job back, where its GPU was seen."""

from __future__ import annotations

import pytest

from actors.messages import DriverStatus, EndpointStatus
from jobs.verdict import judge


def status(busy: float | None, source: str | None) -> DriverStatus:
    """A minute in which nothing but the server held the job back."""
    endpoint = EndpointStatus("http://one", 8, 8, 64, 8192, 100.0, 1000.0, "holding", 6000, 6000, 60_000, 94, 0, {})
    return DriverStatus((endpoint,), 60.0, 1, None, busy, busy, 0, 0.0, 0.0, 1.0, 0.1, {}, source)


@pytest.mark.parametrize(
    ("busy", "source", "full"),
    [
        (0.95, "nvml", True),
        (0.85, "nvml", False),
        (0.85, "gpm", True),
        (0.85, "dcgm-sm", True),
        (0.85, "dcgm-engine", False),
        (0.75, "gpm", False),
        (0.85, "gpm+nvml", False),
        (0.95, None, True),
    ],
)
def test_a_full_gpu_is_told_by_what_was_measured(busy: float, source: str | None, full: bool) -> None:
    verdict = judge(status(busy, source))
    assert verdict.bound_by == "server"
    assert ("add a GPU" in verdict.advice) == full
    assert f"{busy:.0%}" in verdict.advice


def test_no_gpu_was_seen() -> None:
    assert "no GPU utilisation could be read" in judge(status(None, None)).advice
