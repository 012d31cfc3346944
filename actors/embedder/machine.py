"""How much of this machine's CPU nobody uses."""

from __future__ import annotations

import os
import time

import psutil


class Machine:
    """Looks at the cores that this process may run on, since the last look."""

    def __init__(self) -> None:
        self._idle_s, self._looked = _idle_s(), time.monotonic()
        self._idle_cores = 0.0

    def idle_cores(self) -> float:
        """Cores' worth of idle time. The last value again, if that was only just said."""
        idle_s, now = _idle_s(), time.monotonic()
        if now - self._looked > 0.1:
            self._idle_cores = max(0.0, (idle_s - self._idle_s) / (now - self._looked))
            self._idle_s, self._looked = idle_s, now
        return self._idle_cores


def _idle_s() -> float:
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    each = psutil.cpu_times(percpu=True)
    return float(sum(times.idle for core, times in enumerate(each) if ours is None or core in ours))
