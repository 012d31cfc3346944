"""What the headers of an answer say about waiting and about what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from actors.embedder.dialects.headers import allowance, retry_after_s
from actors.messages import Allowance


def of(**headers: str) -> httpx.Headers:
    return httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})


NO_YEAR = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"


def wait_s(**headers: str) -> float | None:
    return retry_after_s(of(**headers))


@pytest.mark.parametrize(("value", "seconds"), [("2", 2.0), ("0.5", 0.5), ("0", 0.0), ("-3", 0.0), (" 7 ", 7.0)])
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    assert wait_s(retry_after=value) == seconds


@pytest.mark.parametrize(
    "value", ["", "soon", "nan", "inf", "Wed, 99 Oct 2015 07:28:00 GMT", "2015-10-21", NO_YEAR]
)
def test_a_retry_after_that_is_neither_seconds_nor_a_date_is_none(value: str) -> None:
    assert wait_s(retry_after=value) is None
    assert wait_s() is None


def test_retry_after_in_milliseconds_is_the_finer_one() -> None:
    assert wait_s(retry_after_ms="1500", retry_after="2") == 1.5


def test_retry_after_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    monkeypatch.setattr("actors.embedder.dialects.headers.time", now.timestamp)
    later = format_datetime(now + timedelta(seconds=30), usegmt=True)
    earlier = format_datetime(now - timedelta(seconds=30), usegmt=True)
    assert wait_s(retry_after=later) == 30
    assert wait_s(retry_after=earlier) == 0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [("6m0s", 360.0), ("1h2m3.5s", 3723.5), ("120ms", 0.12), ("17", 17.0), ("1d", 86400.0), ("0s", 0.0)],
)
def test_what_is_left_and_for_how_long(reset: str, seconds: float) -> None:
    left = allowance(of(x_ratelimit_remaining_tokens="149984", x_ratelimit_reset_tokens=reset), 7.0)
    assert left == Allowance(7.0, None, 0.0, 149984.0, seconds)


def test_requests_and_tokens_are_two_allowances() -> None:
    left = allowance(
        of(
            x_ratelimit_remaining_requests="59",
            x_ratelimit_reset_requests="1s",
            x_ratelimit_remaining_tokens="1000",
            x_ratelimit_reset_tokens="6m0s",
        ),
        1.0,
    )
    assert left == Allowance(1.0, 59.0, 1.0, 1000.0, 360.0)


@pytest.mark.parametrize("reset", ["", "soon", "-1", "nan", "1s and more", "2026-01-01T00:00:00Z", f"{10**400}s"])
def test_an_allowance_without_its_time_says_nothing(reset: str) -> None:
    assert allowance(of(x_ratelimit_remaining_requests="5", x_ratelimit_reset_requests=reset), 1.0) is None
    assert allowance(of(x_ratelimit_remaining_requests="many", x_ratelimit_reset_requests="1s"), 1.0) is None
    assert allowance(of(), 1.0) is None
