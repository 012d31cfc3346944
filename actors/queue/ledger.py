"""Who holds which part, what is done, what to hand out next. Bookkeeping only: it is told the time.

Every part is open, lent or done. A lease goes back when its holder stops naming it, is replaced by a new
incarnation, or is silent past the deadline. Two holders of one part are harmless (both write the same file),
so at the tail an idle embedder is lent the oldest unfinished part a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from actors.messages import Claim, Grant, Lease, PartDone, QueueStatus
from actors.queue.plan import Plan

LEASE_S = 15.0  # several times an embedder's beat, and longer than a queue's restart
SOON_S, CLAIMS_PER_S = 0.05, 1000  # between two claims of one embedder, at least; longer where there are many
SILENT_S = 3.0  # after which the pool looks whether the holder is still there
MAX_LEASE_PARTS = 16
SECOND_LEASE_AFTER_S = 10.0
SECOND_LEASE_AGE = 3.0  # times the mean age at which parts got done

_OPEN, _LENT, _DONE = 0, 1, 2
_NOTHING = Grant((), False)


@dataclass(slots=True)
class _Holder:
    incarnation: str
    deadline: float
    sequence: int = -1
    answer: Grant = _NOTHING
    since: dict[int, float] = field(default_factory=dict)  # part -> when it was lent


class Ledger:
    """The parts `wanted` of `plan`, less the indexes `done`, which are in the output with `rejects` of their rows.

    Memory is a byte a part; a claim costs what it lends, whatever the number of parts.
    """

    def __init__(self, plan: Plan, wanted: range, done: npt.NDArray[np.int64], rejects: int) -> None:
        self._plan = plan
        self._wanted = wanted
        self._state = bytearray(len(wanted))
        np.frombuffer(self._state, np.uint8)[done - wanted.start] = _DONE
        self._cursor = 0  # no place before it in `_state` is open
        self._todo = self._left = len(wanted) - len(done)
        self._holders: dict[str, _Holder] = {}
        self._rows = plan.rows_of(wanted)
        self._rows_resumed = plan.rows_of(done)
        self._rejects_resumed = rejects
        self._rows_done = self._rejects_done = self._expired = 0
        self._mean_age = 0.0
        self._none_expires_before = 0.0  # by the clock that it is told; a claim must not look at all holders

    def claim(self, claim: Claim, now: float) -> Grant:
        """Renew, acknowledge, lend. Said twice, it answers the same; an overtaken claim lends nothing."""
        self._expire(now)
        holder = self._holders.get(claim.embedder)
        if holder is None or holder.incarnation != claim.incarnation:
            self.release(claim.embedder)
            holder = self._holders[claim.embedder] = _Holder(claim.incarnation, now + LEASE_S)
        for done in claim.done:
            self._acknowledge(done, holder, now)
        if claim.sequence < holder.sequence:
            return Grant((), self.finished)
        holder.deadline = now + LEASE_S
        if claim.sequence > holder.sequence:
            holder.sequence = claim.sequence
            self._reconcile(holder, claim.held, now)
            leases = self._lend(holder, claim.wanted_rows, now)
            holder.answer = Grant(leases, self.finished, max(SOON_S, len(self._holders) / CLAIMS_PER_S))
        return holder.answer

    def release(self, embedder: str) -> None:
        """Take back all that `embedder` holds."""
        holder = self._holders.pop(embedder, None)
        if holder:
            self._give_back(holder.since)

    def silent(self, now: float) -> tuple[str, ...]:
        """The embedders that hold parts and were not heard for a while."""
        late = now + LEASE_S - SILENT_S
        return tuple(name for name, each in self._holders.items() if each.since and each.deadline < late)

    @property
    def finished(self) -> bool:
        return self._left == 0

    def status(self) -> QueueStatus:
        return QueueStatus(
            rows=self._rows,
            rows_resumed=self._rows_resumed,
            rows_done=self._rows_done,
            rejects_resumed=self._rejects_resumed,
            rejects_done=self._rejects_done,
            parts_left=self._left,
            leases_expired=self._expired,
        )

    def _set(self, index: int, state: int) -> None:
        place = index - self._wanted.start
        before = self._state[place]
        self._state[place] = state
        self._todo += (state == _OPEN) - (before == _OPEN)
        self._left -= (state == _DONE) - (before == _DONE)

    def _is(self, index: int, state: int) -> bool:
        return index in self._wanted and self._state[index - self._wanted.start] == state

    def _acknowledge(self, done: PartDone, holder: _Holder, now: float) -> None:
        lent = holder.since.pop(done.index, None)
        if lent is not None:
            age = now - lent
            self._mean_age += (age - self._mean_age) * (0.2 if self._mean_age else 1.0)
        if done.index in self._wanted and not self._is(done.index, _DONE):
            self._set(done.index, _DONE)
            self._rows_done += done.rows
            self._rejects_done += done.rejects

    def _reconcile(self, holder: _Holder, held: Iterable[int], now: float) -> None:
        """Believe the embedder: it knows what it works on, also when this queue has just restarted."""
        before = holder.since
        holder.since = {
            index: before.get(index, now) for index in held if index in self._wanted and not self._is(index, _DONE)
        }
        for index in holder.since.keys() - before.keys():
            self._set(index, _LENT)
        self._give_back(before.keys() - holder.since.keys())

    def _give_back(self, parts: Iterable[int]) -> None:
        for index in parts:
            if self._is(index, _LENT) and not any(index in other.since for other in self._holders.values()):
                self._set(index, _OPEN)
                self._cursor = min(self._cursor, index - self._wanted.start)

    def _expire(self, now: float) -> None:
        if now <= self._none_expires_before:
            return
        for name in [name for name, holder in self._holders.items() if holder.deadline < now]:
            self._expired += bool(self._holders[name].since)
            self.release(name)
        # deadlines only grow, and a new one is later than all there are
        self._none_expires_before = min((each.deadline for each in self._holders.values()), default=now)

    def _lend(self, holder: _Holder, wanted_rows: int, now: float) -> tuple[Lease, ...]:
        leases: list[Lease] = []
        # near the end an embedder gets less than it asks for, so that all of them end together
        share = max(1, self._todo // len(self._holders))
        while (
            wanted_rows > 0
            and share > 0
            and (run := self._next_run(wanted_rows, share) or self._second_run(holder, now))
        ):
            leases.append(self._plan.lease(run[0], len(run)))
            wanted_rows -= sum(part.rows for part in leases[-1].parts)
            share -= len(run)
            holder.since.update(dict.fromkeys(run, now))
        return tuple(leases)

    def _next_run(self, wanted_rows: int, share: int) -> list[int]:
        """The next parts to do: consecutive, of one file, at least one, no more than are wanted."""
        most = min(MAX_LEASE_PARTS, share, max(1, wanted_rows // self._plan.rows_per_part))
        first = self._peek()
        if first is None:
            return []
        self._set(first, _LENT)
        run, end = [first], min(first + most, self._plan.end_of_file(first))
        while run[-1] + 1 < end and self._peek() == run[-1] + 1:
            run.append(run[-1] + 1)
            self._set(run[-1], _LENT)
        return run

    def _peek(self) -> int | None:
        """The part to hand out next: the first that is open, so what was given back goes first."""
        self._cursor = self._state.find(_OPEN, self._cursor)
        if self._cursor < 0:
            self._cursor = len(self._state)
            return None
        return self._wanted.start + self._cursor

    def _second_run(self, holder: _Holder, now: float) -> list[int]:
        """The unfinished part lent longest ago to somebody else, if it is late and has one holder only."""
        if holder.since:
            return []
        late = now - max(SECOND_LEASE_AFTER_S, SECOND_LEASE_AGE * self._mean_age)
        lent: dict[int, list[float]] = {}
        for other in self._holders.values():
            for index, since in other.since.items():
                if not self._is(index, _DONE):
                    lent.setdefault(index, []).append(since)
        candidates = [(times[0], index) for index, times in lent.items() if len(times) == 1 and times[0] < late]
        return [min(candidates)[1]] if candidates else []
