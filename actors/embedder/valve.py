"""How many requests may be on their way to one endpoint, moment by moment. It is told the time.

The driver's orders come a few times a second; a server refuses within one round trip. So what cannot wait for the
driver is decided here: a higher limit is approached gently, and the first refusal stops the rise.
"""

from __future__ import annotations

from actors.messages import Order

RISE_S = 0.5  # over which a higher limit is approached, so that few requests meet a cap before it is noticed
THAW_S = 5.0  # after a refusal, if no new order comes
QUOTA_S = 0.2  # a server that asks to be left alone for longer than this speaks of a quota


class Valve:
    """Never more than the order's limit, and less for a while where the server has just refused."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._from = 0.0  # the limit that the rise begins at,
        self._since: float | None = None  # and when; None: nothing was sent yet
        self._frozen: int | None = None  # what the server held when it refused
        self._refused_at = 0.0
        self._shut_until = 0.0

    def obey(self, order: Order, now: float) -> None:
        """Another order, or the same one again."""
        if order.version != self._order.version:
            if self._since is not None:
                self._from, self._since = min(self.allowed(now), order.limit), now
            self._frozen = None
        if order.by_chance and not self._order.by_chance:
            self._frozen = None
        self._order = order

    def start(self, now: float) -> None:
        """Note that a request is sent; the first one begins the rise."""
        self._since = self._since or now

    def refuse(self, now: float, held: int, retry_after_s: float | None) -> None:
        """The server refused a request while it held so many others of ours."""
        if retry_after_s and retry_after_s > QUOTA_S:
            self._shut_until = max(self._shut_until, now + retry_after_s)
            self._frozen, self._refused_at = 1, self._shut_until
            return
        if not self._order.by_chance:
            self._frozen, self._refused_at = max(1, min(held, self.allowed(now))), now

    def allowed(self, now: float) -> int:
        """Requests that may be on their way now."""
        limit = self._order.limit
        if self._frozen is not None:
            if now - self._refused_at < THAW_S:
                return min(limit, self._frozen)
            self._from, self._since, self._frozen = self._frozen, now, None
        if self._since is None:
            return min(1, limit)
        risen = min(1.0, (now - self._since) / RISE_S)
        return min(limit, max(min(1, limit), int(self._from + risen * (limit - self._from) + 1e-6)))

    def wait_s(self, now: float) -> float:
        """After how long to look again, when nothing has come back until then."""
        if self._frozen is not None:
            return max(0.0, self._refused_at + THAW_S - now) + 0.001
        rise = self._order.limit - self._from
        return RISE_S / rise if rise > 0 and self.allowed(now) < self._order.limit else THAW_S

    def shut_s(self, now: float) -> float:
        """For how long the server wants no request at all."""
        return max(0.0, self._shut_until - now)
