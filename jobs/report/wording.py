"""Numbers as the report says them."""

from __future__ import annotations

import re


def count(value: float) -> str:
    """A number to its last digit: 1,234,567."""
    return f"{value:,.0f}"


def compact(value: float) -> str:
    """A number in a few characters: 0.5, 950, 1.2k, 36k, 1.5M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    return f"{share:.0%}"


def duration(seconds: float) -> str:
    """Seconds in the one or two units that say something: 4.2 s, 1 min 30 s, 2 h, 1 d 6 h."""
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    seconds = max(60.0, seconds)
    steps = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))
    large, size, small, part = next(step for step in steps if seconds >= step[1])
    whole, rest = divmod(round(seconds / part), size // part)
    return f"{whole} {large}" + (f" {rest} {small}" if rest else "")


def short_url(url: str) -> str:
    """What tells endpoints apart: host, port, and a path that is not the usual one."""
    return url.split("://", 1)[-1].rstrip("/").removesuffix("/v1")


def minute(time: str) -> str:
    """A time as results say it (2026-11-24 03:36:56 UTC), without what nobody compares."""
    return re.sub(r":\d\d UTC$", "", time)


def shortened(text: str, most: int) -> str:
    """As many characters of it as there is room for."""
    return text if len(text) <= most else text[: most - 1] + "…"
