"""What the headers of an answer say about when to ask again, and how much may still be asked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time

from actors.messages import Allowance

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, from OpenAI's `retry-after-ms` or the standard `retry-after`, which is seconds or a date."""
    value = headers.get("retry-after", "")
    for number, unit_s in ((headers.get("retry-after-ms", ""), 0.001), (value, 1.0)):
        with suppress(ValueError):
            seconds = float(number) * unit_s
            return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (TypeError, ValueError, OverflowError):
        return None


def allowance(headers: Mapping[str, str], now: float) -> Allowance | None:
    """OpenAI's `x-ratelimit-*`, which others have taken over; None where there are none to be read."""
    if "x-ratelimit-remaining-requests" not in headers and "x-ratelimit-remaining-tokens" not in headers:
        return None
    requests, requests_reset_s = _left(headers, "requests")
    tokens, tokens_reset_s = _left(headers, "tokens")
    if requests is None and tokens is None:
        return None
    return Allowance(now, requests, requests_reset_s, tokens, tokens_reset_s)


def _left(headers: Mapping[str, str], what: str) -> tuple[float | None, float]:
    """What remains, and for how many seconds it has to do."""
    reset_s = _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
    try:
        remaining = float(headers.get(f"x-ratelimit-remaining-{what}", ""))
    except ValueError:
        return None, 0.0
    if reset_s is None or not math.isfinite(remaining):
        return None, 0.0
    return max(0.0, remaining), reset_s


def _seconds(text: str) -> float | None:
    """Of "6m0s", "120ms" or a plain number of seconds."""
    with suppress(ValueError):
        seconds = float(text)
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    pieces = _DURATION.findall(text)
    if not pieces or "".join(map("".join, pieces)) != text:
        return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    return seconds if math.isfinite(seconds) else None
