"""When the next request may go under a quota's pace. It is told the time."""

from __future__ import annotations

from actors.messages import Order

CATCH_UP_S = 0.05  # of a late start is made up for; what was not asked for longer ago is lost


class Pace:
    """Spaces requests out so that, over time, no more than the order's rates are asked for."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def wait_s(self, now: float) -> float:
        """After how long the next request may go."""
        return max(0.0, self._free_at - now)

    def take(self, order: Order, tokens: int, now: float) -> None:
        """A request of so many tokens goes now."""
        cost_s = max(
            1 / order.requests_per_s if order.requests_per_s else 0.0,
            tokens / order.tokens_per_s if order.tokens_per_s else 0.0,
        )
        self._free_at = max(self._free_at, now - CATCH_UP_S) + cost_s
