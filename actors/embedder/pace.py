"""When the next request may go under a quota's pace. It is told the time."""

from __future__ import annotations

from actors.messages import Order

CATCH_UP_S = 0.05  # of a late start is made up for; what was not asked for longer ago is lost


class Pace:
    """Spaces requests out so that, over time, no more than the order's rates are asked for."""

    def __init__(self) -> None:
        self._from = -1.0  # the last request counts as having gone then,
        self._tokens = 0  # with so many tokens

    def wait_s(self, order: Order, now: float) -> float:
        """After how long the next request may go, if this order stands."""
        return max(0.0, self._free_at(order) - now)

    def take(self, order: Order, tokens: int, now: float) -> None:
        """A request of so many tokens goes now."""
        self._from, self._tokens = max(self._free_at(order), now - CATCH_UP_S), tokens

    def _free_at(self, order: Order) -> float:
        return self._from + max(
            1 / order.requests_per_s if order.requests_per_s else 0.0,
            self._tokens / order.tokens_per_s if order.tokens_per_s else 0.0,
        )
