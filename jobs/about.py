"""What stands beside the numbers of a run: the machine it ran on, the versions, the settings."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from jobs import __version__
from jobs.settings import Settings

_GIB = 1 << 30


def machine() -> dict[str, str]:
    """This machine, which is where the job and its client run, and not the servers."""
    return {
        "processor": f"{_cores()} × {_processor()}",
        "memory": f"{psutil.virtual_memory().total / _GIB:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "Ray": _version("ray"),
        "rayembed": __version__,
    }


def chosen(settings: Settings) -> dict[str, str]:
    """How much is asked of a server at once and what is made of the answers, in words; no key and no path."""
    asked = settings.async_inference
    preset = f" ({asked.preset})" if asked.enabled and asked.preset else ""
    return {
        "mode": "async" if asked.enabled else "sync: one request at a time",
        "requests in flight": _or_tuned(asked.concurrency) + preset,
        "texts in a request": _or_tuned(asked.request_rows),
        "at most": f"{asked.max_batch_size:,} texts in a request",
        "actors": str(asked.actors or "auto") if asked.enabled else "1",
        "element type": settings.output.dtype,
        "long texts": settings.input.too_long,
    }


def _or_tuned(number: int | None) -> str:
    return f"{number:,}" if number else "tuned"


def _cores() -> int:
    """Those that this process may use."""
    try:
        return len(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS has no such thing
        return os.cpu_count() or 1


def _processor() -> str:
    """The name that the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
