"""Tunes requests in flight and their size by delivered tokens/s: first contact, search, trim, hold, quota.

GPU utilisation says which to try first and stops a trim; tokens/s decide. Caps, quotas and memory are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from actors.driver.tuning.aims import Aim, Knob, State, Step
from actors.driver.tuning.allowance import Told, lesser
from actors.driver.tuning.base import Bounds, Decision, Observation, Setting
from actors.driver.tuning.canary import Canary
from actors.driver.tuning.hold import Hold
from actors.driver.tuning.measure import History, Reading
from actors.driver.tuning.quota import FIRST, LARGER, Quota, Rate
from actors.driver.tuning.refusals import TOO_MANY
from actors.driver.tuning.room import CAPPED, MOST_TOKENS, Room
from actors.driver.tuning.search import Search
from actors.driver.tuning.strain import CUT_S, together
from actors.messages import Failure

CONTACT_LIMIT = 1  # until the first answer
LEAST_TOKENS = 256
CANARY_ABOVE = 1.05  # of the largest size that worked
ROUND_TRIPS = 3.0  # of a window: a server that sorts its queue answers long texts for a while, then short
BURSTS, FEW_BURSTS, WAIT_S = 8, 4, 4.0  # of a window; few do when so many do not come in time
ALONE = 2  # refusals of a request that is alone: it is too large
QUOTA_S = 0.2  # a shorter Retry-After is no quota
QUOTA_SLACK, QUOTA_LOOKS_S = 1.6, (1.0, 10.0)
FULL = 0.8  # of a request's budget is tokens, the rest padding
ALIVE_S = 5.0
MANY_BROKEN = 0.1  # as a share of the answers of CUT_S; fewer failures are not for load
GAUGE_LAG_S = 1.0  # gauges tell of the last second


class Knee:
    """One endpoint's tuner, see `Policy`. With `last` it goes on from there, without a first contact."""

    def __init__(self, bounds: Bounds, last: Setting | None = None) -> None:
        self._bounds = bounds
        self._room = Room(bounds)
        self._history = History()
        self._canary = Canary()
        self._quota: Quota | None = None
        self._told = Told(bounds)
        self._paced_now = False
        self._refused_alone = 0
        self._obeyed: float | None = None  # since when all do as ordered
        self._after = 0.0  # windows begin no earlier
        self._raised_at = 0.0  # more or larger requests were last ordered
        self._state: State | None = None  # None: first contact
        if last is not None:
            self._room.aim = Aim(last.limit, last.batch_tokens)
            self._state, self._canary.proven = Search(self._room.aim, self._room), last.batch_tokens
        self._setting = self._built()

    def start(self) -> Setting:
        return self._setting

    def decide(self, seen: Observation) -> Decision:
        self._history.add(seen.completions)
        self._canary.came(seen.completions, self._setting.batch_rows)
        self._room.came(seen.completions, seen.now)
        self._told.hear(seen.allowance, seen.now)
        self._room.unseen &= seen.gpu is None
        self._paced_now = self._told.holds_back(self._history, seen.complete_to)
        if self._obeyed is None:
            self._obeyed = seen.obeyed_since
        if self._obeyed is not None and seen.complete_to > self._obeyed + self._history.longest_s:
            self._room.settle()
        reason = self._contact(seen) if self._state is None else self._tune(self._state, seen)
        setting = self._built()
        if setting.tuned != self._setting.tuned:
            self._obeyed = None
        if any(now > before for now, before in zip(setting.tuned, self._setting.tuned, strict=True)):
            self._raised_at = seen.now
        self._setting = setting
        return Decision(setting, reason, self._paced_now or self._quota is not None)

    def _contact(self, seen: Observation) -> str:
        """Until the first answer: nothing grows."""
        failed = self._too_many_rows(seen)
        if any(self._room.memory.too_much(each) for each in seen.failures if each.kind == "backend"):
            self._room.aim = Aim(
                self._room.aim.limit, max(LEAST_TOKENS, self._room.memory.room(self._room.aim.tokens))
            )
            failed = f"out of memory: requests of {self._room.aim.tokens} tokens"
        refused = [each.rows for each in seen.failures if each.status == TOO_MANY and not each.retry_after_s]
        self._refused_alone += len(refused)
        if self._refused_alone >= ALONE:
            self._refused_alone = 0
            self._room.cap.refuse_alone(min(refused))
            failed = f"refused alone: {self._room.rows_now} texts in a request"
        if not seen.completions:
            return failed or "first contact: waiting for an answer"
        first = min(seen.completions, key=lambda each: each.latency_s)
        search = Search(Aim(self._room.fit(self._room.aim.limit), self._room.aim.tokens), self._room)
        return self._take(Step(search.aim, f"first answer in {first.latency_s:.2f} s", search), seen.now)

    def _tune(self, state: State, seen: Observation) -> str:
        rows = self._room.rows_now  # what is refused for having more was cut under an earlier order
        overloaded = [each for each in seen.failures if each.kind == "overloaded"]
        quota = [each for each in overloaded if (each.retry_after_s or 0.0) >= QUOTA_S]
        if quota and self._quota is None:
            self._begin_quota(seen)
        if self._quota is not None:
            self._quota.refuse(quota, bool(seen.completions))
            self._room.cap.refuse([each for each in overloaded if each not in quota], self._history, seen.now)
            self._room.cap.judge(self._history, seen.complete_to, self._raised_at)
            return self._broken(state, seen) or self._too_many_rows(seen) or self._paced(self._quota, seen)
        return (
            self._broken(state, seen)
            or self._too_many_rows(seen)
            or self._capped(state, [each for each in overloaded if each not in quota and each.rows <= rows], seen)
            or self._scouted(state, seen)
            or self._measured(state, seen)
        )

    # errors

    def _broken(self, state: State, seen: Observation) -> str | None:
        self._room.strain.forget(seen.now)
        broken = [each for each in seen.failures if each.kind in ("backend", "transport", "timeout")]
        merged = together(broken, self._history)
        if canaries := [each for each in merged if each.canary]:  # it is to blame for the others
            broken = [each for each in broken if each not in merged or each in canaries]
            merged = []
        if not merged:
            memory = [each for each in broken if each.kind == "backend" and self._room.memory.too_much(each)]
            if memory:
                return self._out_of_memory(state, memory, seen.now)
        bad = self._room.memory.bad
        broken = [each for each in broken if bad is None or each.size < bad]  # the rest are stragglers
        if (
            self._room.strain.held or self._room.strain.waiting
        ):  # so are those that were sent before the last cut was obeyed
            obeyed = seen.now if self._obeyed is None else self._obeyed
            broken = [each for each in broken if each.at - each.latency_s >= obeyed]
        alive = self._history.between(seen.now - ALIVE_S, seen.now)
        if not broken or not alive or not self._room.strain.listens(seen.now):
            return None
        if len(broken) == 1 and broken[0].kind == "transport":
            return None  # connections do end
        self._after = seen.complete_to
        if merged:
            return self._merged(state, seen.now)
        if len(broken) < MANY_BROKEN * len(self._history.between(seen.now - CUT_S, seen.now)):
            return None
        aim, reason = self._room.strain.cut(broken, self._room.aim, seen.now)
        return self._take(Step(aim, reason, search=True), seen.now)

    def _merged(self, state: State, now: float) -> str:
        """Requests failed together: the trial's fault, or too much waits."""
        if self._room.aim != state.aim:
            self._room.strain.too_much(self._room.aim, now)
            return self._take(state.refused()._replace(reason="requests fail together: back to what worked"), now)
        aim, reason = self._room.strain.cut_merged(self._room.aim, now)
        return self._take(Step(aim, reason, search=True), now)

    def _out_of_memory(self, state: State, failures: Sequence[Failure], now: float) -> str:
        reason = f"out of memory at {min(each.size for each in failures)} tokens"
        self._after = now  # it stood still for a while
        if all(each.canary for each in failures):
            if self._canary.parked is None:
                return reason
            return self._take(state.drop()._replace(reason=reason), now)
        tokens = max(LEAST_TOKENS, self._room.memory.room(state.aim.tokens))
        return self._take(Step(Aim(state.aim.limit, tokens), reason, search=True), now)

    def _too_many_rows(self, seen: Observation) -> str | None:
        failures = [each for each in seen.failures if each.kind == "too_many_inputs"]
        if not failures:
            return None
        told = [each.most_rows for each in failures if each.most_rows]
        most = min(told or [each.rows // 2 for each in failures])
        self._room.taken_rows.refuse(most, seen.now, named=bool(told))
        if any(each.canary for each in failures):
            self._canary.again(seen.now)
        return f"at most {self._room.rows} texts in a request"

    def _capped(self, state: State, refused: list[Failure], seen: Observation) -> str | None:
        """Episodes of refusals, from the first to the verdict; and whether the cap is still there."""
        if self._room.cap.refuse(refused, self._history, seen.now) and state.aim != self._room.aim:
            return self._take(state.refused()._replace(reason="refused: back to what worked"), seen.now)
        rows, shared = self._room.rows_now, self._room.cap.texts is not None
        verdict = self._room.cap.judge(self._history, seen.complete_to, self._raised_at)
        if verdict is None:
            if isinstance(state, Hold) and self._room.is_at_cap() and self._room.cap.relax(seen.now):
                state.aim = Aim(self._room.fit(state.aim.limit + 1), state.aim.tokens)
                return self._take(Step(state.aim, "is the cap still there?"), seen.now)
            return None
        if self._room.cap.by_chance:
            return self._take(Step(state.aim, verdict, search=True), seen.now)
        known = shared and self._room.cap.texts is not None
        searching = isinstance(state, Search) or (self._room.rows_now < rows and not known)
        limit = (
            max(state.aim.limit, self._room.cap.most(self._room.rows))
            if searching and not known
            else state.aim.limit
        )
        state.aim = Aim(self._room.fit(limit), state.aim.tokens)  # to the cap, not to half of it
        if searching:
            # more in flight are too many, unless all share a cap in texts: then they are smaller
            failed = {Knob.LIMIT} if self._room.cap.texts is None else set()
            if known and isinstance(state, Search):
                failed |= state.failed  # it was met again by what was tried
            search = Search(state.aim, self._room, failed=failed)
            return self._take(Step(state.aim, verdict, search), seen.now)
        return self._take(Step(state.aim, verdict), seen.now)

    def _begin_quota(self, seen: Observation) -> None:
        paces = (self._history.delivered(seen.complete_to - seconds, seen.complete_to) for seconds in QUOTA_LOOKS_S)
        self._quota = Quota(self._room.aim.tokens, Rate(*min(paces)).times(FIRST))
        self._canary.parked = None

    def _paced(self, quota: Quota, seen: Observation) -> str:
        reason = quota.decide(self._history, seen.complete_to, self._largest_paced(quota.batch_tokens, seen.now))
        requests = max(quota.pace.requests, quota.pace.tokens / (FULL * quota.batch_tokens))
        limit = math.ceil(QUOTA_SLACK * requests * self._history.mean_s) + 1
        self._room.aim = Aim(self._room.fit(limit), quota.batch_tokens)
        return reason or "paced by the quota"

    def _largest_paced(self, now_tokens: int, now: float) -> int:
        """The most tokens that a request may have under a quota; a canary goes ahead of larger ones."""
        done = self._history.between(now - QUOTA_LOOKS_S[0], now)
        full = sum(each.tokens for each in done if each.rows >= self._room.rows_now)
        if full > CAPPED * sum(each.tokens for each in done):
            return now_tokens
        largest = self._room.memory.room(min(MOST_TOKENS, LARGER * now_tokens))
        if self._bounds.batch_rows or largest <= now_tokens or self._works(largest):
            return min(largest, now_tokens) if self._bounds.batch_rows else largest
        self._canary.send(largest, now)
        return now_tokens

    # trials

    def _scouted(self, state: State, seen: Observation) -> str | None:
        """Whether the step that waits for a canary may be taken."""
        parked = self._canary.parked
        if parked is None:
            return None
        if self._works(parked.aim.tokens):
            return self._take(parked._replace(reason=f"{parked.reason}: the canary came back"), seen.now)
        if self._canary.lost(seen.now, self._history.longest_s):
            return self._take(state.refused()._replace(reason="no word of the canary"), seen.now)
        return "waiting for the canary"

    def _measured(self, state: State, seen: Observation) -> str:
        if seen.starved:
            self._after = seen.now
            if self._room.aim != state.aim:
                return self._take(state.drop()._replace(reason="the input is the limit: trial dropped"), seen.now)
            return "the input is the limit: nothing measured"
        if self._paced_now:
            self._after = seen.now
            if self._room.aim != state.aim:
                return self._take(state.drop()._replace(reason="what may be asked for is the limit"), seen.now)
            return "what may be asked for is the limit: nothing measured"
        if self._obeyed is None or self._room.is_changing:
            return "waiting for the embedders"
        reading = self._history.read(self._obeyed, self._after, seen.complete_to, self._room.rows_now)
        if reading is None or not self._enough(reading, state, seen, self._obeyed):
            return "measuring"
        step = state.read(reading, _busy(seen, reading))
        if step is None:
            return "measuring on: undecided"
        self._after = seen.complete_to
        return self._take(step, seen.now)

    def _enough(self, reading: Reading, state: State, seen: Observation, obeyed: float) -> bool:
        if reading.seconds < max(state.least_s, ROUND_TRIPS * reading.latency_s):
            return False
        waited = seen.complete_to - max(obeyed, self._after)
        late = waited > max(WAIT_S, 5 * reading.latency_s)
        return reading.bursts >= (FEW_BURSTS if late else BURSTS)

    # orders

    def _take(self, step: Step, now: float) -> str:
        """Go to a step's aim, behind a canary where its size is new."""
        self._canary.parked = None
        self._state = Search(step.aim, self._room, again=True) if step.search else step.state or self._state
        assert self._state
        if step.aim.tokens > self._state.aim.tokens and not self._works(step.aim.tokens):
            self._room.aim = self._state.aim
            self._canary.park(step, now)
            return f"{step.reason}, after a canary"
        self._room.aim = step.aim
        wanted = self._state.wants() if isinstance(self._state, Search) else None
        wanted = wanted and self._room.tokens(wanted)
        if wanted and not self._works(wanted):
            self._canary.send(wanted, now)
        return step.reason

    def _works(self, tokens: int) -> bool:
        return tokens <= max(CANARY_ABOVE * self._room.memory.good, self._canary.proven)

    def _built(self) -> Setting:
        """The setting that keeps to all that is pinned, told or learnt."""
        limit = self._room.order()
        setting = Setting(
            limit=limit if self._state else min(CONTACT_LIMIT, limit),
            batch_rows=self._room.rows_now,
            batch_tokens=self._room.aim.tokens,
            canary=self._canary.number,
            canary_tokens=self._canary.tokens,
            by_chance=self._room.cap.by_chance,
        )
        told, learnt = self._told, self._quota
        return replace(
            setting,
            requests_per_s=lesser(told.requests_per_s, learnt.requests_per_s if learnt else None),
            tokens_per_s=lesser(told.tokens_per_s, learnt.tokens_per_s if learnt else None),
        )


def _busy(seen: Observation, reading: Reading) -> float | None:
    """Utilisation, when it was sampled well inside the window."""
    if seen.gpu is None or seen.now - seen.gpu.age_s < reading.began + GAUGE_LAG_S:
        return None
    return seen.gpu.utilisation
