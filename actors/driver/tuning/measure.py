"""What completions say: delivered tokens/s under one setting, and how far that can be trusted."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from actors.messages import Completion

KEPT_S = 30.0
BLOCKS = 6  # of a window, whose spread gives the error
SLOPE_ERROR = 0.6  # of that of a mean over the same blocks, as seen on servers of all kinds
OVERTAKES = 0.25  # of a round trip
_AT = attrgetter("at")


@dataclass(frozen=True, slots=True)
class Reading:
    """A window: tokens/s with its standard error, between the first burst of answers and the last.

    `latency_s`, `tokens` and `rows` are of the mean request; `bursts` are answers that came apart from each other.
    `capped` is the share of tokens that came in requests as long as the row cap lets them be.
    """

    rate: float
    error: float
    latency_s: float
    began: float
    seconds: float
    bursts: int
    tokens: float
    rows: float
    capped: float

    @property
    def ended(self) -> float:
        return self.began + self.seconds


class History:
    """Completions in order of time, of the last half minute."""

    def __init__(self) -> None:
        self._done: list[Completion] = []
        self.longest_s = self.mean_s = 0.0  # latency of the last few seconds, at most and on average

    def add(self, completions: Iterable[Completion]) -> None:
        before = len(self._done)
        self._done.extend(completions)
        if len(self._done) == before:
            return
        self._done.sort(key=_AT)
        latest = self._done[-1].at
        if self._done[0].at < latest - 1.5 * KEPT_S:
            del self._done[: bisect_left(self._done, latest - KEPT_S, key=_AT)]
        recent = self._done[bisect_left(self._done, latest - 5.0, key=_AT) :]
        self.longest_s = max(each.latency_s for each in recent)
        self.mean_s = sum(each.latency_s for each in recent) / len(recent)

    def between(self, start: float, stop: float) -> list[Completion]:
        """Those that came after `start` and not after `stop`."""
        return self._done[bisect_right(self._done, start, key=_AT) : bisect_right(self._done, stop, key=_AT)]

    def delivered(self, start: float, stop: float) -> tuple[float, float]:
        """Tokens and requests a second since `start`, or since the first request was sent; never none."""
        done = self.between(start, stop)
        first = self._done[0].at - self._done[0].latency_s if self._done else start
        seconds = stop - max(start, first)
        return (sum(each.tokens for each in done) or 1) / seconds, (len(done) or 1) / seconds

    def sent_between(self, start: float, stop: float) -> list[Completion]:
        """Those that were sent after `start` and not after `stop`, of the ones that have come."""
        after = self._done[bisect_right(self._done, start, key=_AT) :]
        return [each for each in after if start < each.at - each.latency_s <= stop]

    def held(self, sent: float, refused: float) -> list[Completion]:
        """What the server held when it refused a request that was sent and came back at these times.

        Requests sent a little later, and answers sent a little later, may have overtaken it on the way.
        """
        slack = OVERTAKES * (refused - sent)
        after = self._done[bisect_left(self._done, refused - slack, key=_AT) :]
        return [each for each in after if each.at - each.latency_s <= sent + slack]

    def read(self, obeyed: float, after: float, to: float, rows: int) -> Reading | None:
        """The window from the first answer to a request sent since `obeyed`, at the earliest `after`, up to `to`.

        None as long as it has fewer than three bursts.
        """
        done = self.between(max(obeyed, after), to)
        first = next((i for i, each in enumerate(done) if each.at - each.latency_s >= obeyed), len(done))
        done = done[first:]
        if len(done) < 3:
            return None
        times: list[float] = []
        sums: list[int] = []
        began, total = -math.inf, 0
        for each in done:
            total += each.tokens
            if each.at - began < max(0.002, 0.05 * each.latency_s):
                times[-1], sums[-1] = each.at, total
            else:
                began = each.at
                times.append(each.at)
                sums.append(total)
        if len(times) < 3:
            return None
        seconds = times[-1] - times[0]
        blocks = min(BLOCKS, len(times) - 1)
        edges = np.linspace(times[0], times[-1], blocks + 1)
        pieces = np.diff(np.interp(edges, times, sums)) * (blocks / seconds)
        capped = sum(each.tokens for each in done if each.rows >= rows)
        return Reading(
            rate=_slope(done),
            error=SLOPE_ERROR * float(np.std(pieces, ddof=1)) / math.sqrt(blocks),
            latency_s=sum(each.latency_s for each in done) / len(done),
            began=times[0],
            seconds=seconds,
            bursts=len(times),
            tokens=total / len(done),
            rows=sum(each.rows for each in done) / len(done),
            capped=capped / total,
        )


def _slope(done: list[Completion]) -> float:
    """Tokens/s by least squares: where in a burst of answers the window begins and ends matters little then."""
    at = np.array([each.at for each in done])
    at -= at.mean()
    delivered = np.cumsum([each.tokens for each in done])
    return float(at @ (delivered - delivered.mean()) / (at @ at))


@dataclass(frozen=True, slots=True)
class Gain:
    """How much faster one reading is than another, as a share, and the standard error of that."""

    mean: float
    error: float

    @classmethod
    def of(cls, after: Reading, before: Reading) -> Gain:
        error = math.hypot(after.error, before.error) / before.rate
        return cls(after.rate / before.rate - 1, max(LEAST_ERROR, error))

    @classmethod
    def pooled(cls, gains: Iterable[Gain]) -> Gain:
        """The one gain of which all of these are measurements."""
        weights = [(each.mean, each.error**-2) for each in gains]
        total = sum(weight for _, weight in weights)
        return cls(sum(mean * weight for mean, weight in weights) / total, total**-0.5)


LEAST_ERROR = 0.005  # no window is steadier than that


def mean(readings: list[Reading]) -> Reading:
    """Several windows under one setting, as one; the newest speaks for the rest."""
    newest, count = readings[-1], len(readings)
    return Reading(
        rate=sum(each.rate for each in readings) / count,
        error=math.sqrt(sum(each.error**2 for each in readings)) / count,
        latency_s=newest.latency_s,
        began=readings[0].began,
        seconds=sum(each.seconds for each in readings),
        bursts=sum(each.bursts for each in readings),
        tokens=newest.tokens,
        rows=newest.rows,
        capped=newest.capped,
    )
