"""Idle cores, as the operating system counts them."""

from __future__ import annotations

import os
import time

import psutil

from actors.embedder.machine import Machine


def test_between_none_and_as_many_as_there_are() -> None:
    machine = Machine()
    time.sleep(0.3)
    seen = machine.idle_cores()
    assert 0.0 <= seen <= 1.1 * (psutil.cpu_count() or 1)
    assert machine.idle_cores() == seen  # just said


def test_work_makes_them_fewer() -> None:
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    try:
        machine, until = Machine(), time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        assert machine.idle_cores() < 0.5
    finally:
        os.sched_setaffinity(0, ours)
