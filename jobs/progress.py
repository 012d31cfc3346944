"""How a running job shows itself: one bar in a terminal, a plain line now and then anywhere else.

What holds the job back is said when it changes.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from tqdm import tqdm

from actors.messages import DriverStatus, QueueStatus, Verdict

_LINE_EVERY_S = 10.0
_SURE_S = 5.0  # that a verdict has to stand before it is said


class Turns:
    """Which verdicts are worth a line: another than the last one said, after it has stood for a while."""

    def __init__(self) -> None:
        self._said: tuple[str, str] | None = None
        self._new: tuple[str, str] | None = None
        self._since = 0.0

    def look(self, verdict: Verdict | None, now: float) -> Verdict | None:
        """`verdict` if it is to be said. Its numbers move all the time; what to change does not."""
        seen = (verdict.bound_by, verdict.change) if verdict else None
        if seen != self._new:
            self._new, self._since = seen, now
        if verdict is None or seen == self._said or now - self._since < _SURE_S:
            return None
        self._said = seen
        return verdict


class Progress:
    """Writes to stderr only. `show` may be called as often as one likes."""

    def __init__(self, status: QueueStatus) -> None:
        self._began = self._said = time.monotonic()
        self._resumed = status.rows_resumed
        self._turns = Turns()
        self._bar: tqdm[Any] | None = None
        if _shows_bars():
            self._bar = tqdm(
                total=status.rows, initial=status.rows_resumed, unit="row", unit_scale=True, dynamic_ncols=True
            )

    def show(self, queue: QueueStatus, driver: DriverStatus) -> None:
        """Rows count from the moment their vectors are here, not only when their part is written."""
        rows = min(queue.rows, max(rows_here(queue, driver), queue.rows_resumed + queue.rows_done))
        if turn := self._turns.look(driver.recently, time.monotonic()):
            tqdm.write(f"bound by: {turn.bound_by} ({turn.advice})", file=sys.stderr)
            sys.stderr.flush()
        if self._bar is not None:
            self._bar.set_postfix_str(describe(driver), refresh=False)
            self._bar.update(rows - self._bar.n)
        elif time.monotonic() - self._said >= _LINE_EVERY_S:
            self._said = time.monotonic()
            print(f"{self._head(rows, queue.rows)}, {describe(driver)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _head(self, rows: int, total: int) -> str:
        elapsed = time.monotonic() - self._began
        rate = (rows - self._resumed) / elapsed if elapsed else 0.0
        left = f"{tqdm.format_interval((total - rows) / rate)} left" if rate else "no row yet"
        return f"{rows:,} of {total:,} rows ({rows / max(1, total):.0%}), {rate:,.0f} rows/s, {left}"


def _shows_bars() -> bool:
    """Whether it is a terminal, and one that knows its width: in another, tqdm shows nothing at all."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        return False


def rows_here(queue: QueueStatus, driver: DriverStatus) -> int:
    """Rows whose vectors have arrived, those of earlier runs included."""
    return queue.rows_resumed + driver.rows_reused + sum(endpoint.rows for endpoint in driver.endpoints)


def describe(driver: DriverStatus) -> str:
    """What the pool does just now, in a few words."""
    tokens = sum(endpoint.tokens_per_s for endpoint in driver.endpoints)
    inflight = "+".join(f"{endpoint.inflight}/{endpoint.limit}" for endpoint in driver.endpoints)
    batch = "+".join(str(endpoint.batch_rows) for endpoint in driver.endpoints)
    errors = sum(sum(endpoint.errors.values()) for endpoint in driver.endpoints)
    gpu = f"GPU {driver.gpu.utilisation:.0%}" if driver.gpu else "no GPU seen"
    bound = f", bound by {driver.recently.bound_by}" if driver.recently else ""
    return f"{tokens:,.0f} tokens/s, in flight {inflight}, batch ≤{batch}, {gpu}, {errors} errors{bound}"
