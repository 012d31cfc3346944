"""A server with GPUs in simulated time: requests in, answers out, and the GPU's meter. No clock and no I/O.

The caller says what time it is. Everything between two calls happens at its own exact time, so a caller that
comes late loses no GPU time: only its answers are late.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.servers.gpu.batches import Batch, Job, Outcome, next_batches
from tests.servers.gpu.meter import Meter
from tests.servers.gpu.profiles import Profile


def batch_seconds(profile: Profile, work: float) -> float:
    """How long the GPU takes for a batch, without noise, thrash and work on the host."""
    return (profile.fixed_s + profile.per_token_s * max(work, profile.knee_tokens)) / profile.speed


class Quota:
    """Two buckets that fill at the profile's rates."""

    def __init__(self) -> None:
        self._used = {"requests": 0.0, "tokens": 0.0}
        self._at = 0.0

    def spend(self, profile: Profile) -> None:
        """Empties both."""
        self._used = {
            "requests": profile.requests_per_s * profile.burst_s,
            "tokens": profile.tokens_per_s * profile.burst_s,
        }

    def admits(self, profile: Profile, now: float, tokens: int) -> bool:
        """Takes one request of so many tokens from the buckets, or from neither when one has too little."""
        want = {"requests": (1, profile.requests_per_s), "tokens": (tokens, profile.tokens_per_s)}
        passed, self._at = now - self._at, now
        for name, (_, rate) in want.items():
            self._used[name] = max(0.0, self._used[name] - rate * passed)
        if any(rate and self._used[name] + more > rate * profile.burst_s for name, (more, rate) in want.items()):
            return False
        for name, (more, rate) in want.items():
            self._used[name] += more if rate else 0
        return True

    def left(self, profile: Profile, now: float) -> dict[str, tuple[float, float]]:
        """Of each bucket there is: what is in it, and after how many seconds it is full."""
        rates = {"requests": profile.requests_per_s, "tokens": profile.tokens_per_s}
        used = {name: max(0.0, self._used[name] - rate * (now - self._at)) for name, rate in rates.items()}
        return {
            name: (rate * profile.burst_s - used[name], used[name] / rate) for name, rate in rates.items() if rate
        }


class Gpu:
    """The server. Times are seconds of the caller's clock and must not fall; `profile` can be replaced at any
    time and holds for what begins after that. The same calls with the same seed have the same answers."""

    def __init__(self, profile: Profile, seed: int = 0) -> None:
        self.profile = profile
        self.meters: list[Meter] = []
        self.in_flight = 0
        """Requests accepted and not answered."""
        self.texts = 0
        """Texts of those that are not computed."""
        self.batches = 0
        self.batched_tokens = 0
        self.batched_work = 0
        self.most_work = 0
        """The largest batch that did not fail."""
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._event_count = 0
        self._queue: deque[Job] = deque()
        self._ready: deque[Batch] = deque()
        self._running: set[int] = set()
        self._warm_at: float | None = None
        self._quota = Quota()
        self._delivered: list[Job] = []

    @property
    def next_event(self) -> float | None:
        """When something happens next if nothing is sent until then."""
        return self._events[0][0] if self._events else None

    @property
    def waiting(self) -> int:
        """Texts that are in no running batch."""
        queued = sum(len(job.lengths) - job.taken for job in self._queue if job.outcome is None)
        return queued + sum(batch.rows for batch in self._ready)

    def quota_left(self, now: float) -> dict[str, tuple[float, float]]:
        """Requests and tokens that may still be asked for, and after how many seconds all of them may again."""
        return self._quota.left(self.profile, now)

    def send(self, now: float, lengths: Sequence[int], tag: object = None, late_s: float = 0.0) -> Job:
        """A request with texts of so many tokens leaves its client."""
        job = Job(lengths, now, tag, tokens=sum(lengths), left=len(lengths), late_s=late_s)
        self._at(now + self._one_way(), self._arrive, job)
        return job

    def cancel(self, now: float, job: Job) -> None:
        """Its client does not wait any longer: what is not in a batch yet will not be."""
        if job.outcome is None:
            self._end(now, job, Outcome.GONE)

    def advance(self, now: float) -> list[Job]:
        """The jobs whose answers reached their clients by now, in the order in which they did."""
        events = self._events
        while events and events[0][0] <= now:
            when, _, event, about = heapq.heappop(events)
            event(when, about)
        delivered, self._delivered = self._delivered, []
        return delivered

    def warm_anew(self) -> None:
        """The next request finds a cold server again."""
        self._warm_at = None

    def spend_quota(self) -> None:
        """Whatever burst is allowed has been had."""
        self._quota.spend(self.profile)

    def busy_s(self, until: float) -> float:
        """Seconds in which GPUs ran a kernel, all GPUs together."""
        return sum(meter.busy_s(until) for meter in self.meters)

    def _at(self, when: float, event: Callable[[float, Any], None], about: object) -> None:
        self._event_count += 1
        heapq.heappush(self._events, (when, self._event_count, event, about))

    def _one_way(self) -> float:
        distance = self.profile.distance_s
        return distance / 2 * (1 + self.profile.jitter * self._random.expovariate(1.0)) if distance else 0.0

    def _arrive(self, now: float, job: Job) -> None:
        if job.outcome is not None:
            return
        if refusal := self._refusal(now, job):
            self._end(now, job, refusal)
            return
        if self._warm_at is None:
            self._warm_at = now + self.profile.cold_s
        job.admitted = True
        self.in_flight += 1
        self.texts += len(job.lengths)
        self._queue.append(job)
        self._go(now)

    def _refusal(self, now: float, job: Job) -> Outcome | None:
        profile, count = self.profile, len(job.lengths)
        if count > profile.most_inputs:
            return Outcome.TOO_MANY
        if 0 < profile.request_cap <= self.in_flight or 0 < profile.text_cap < self.texts + count:
            return Outcome.OVERLOADED
        return None if self._quota.admits(profile, now, job.tokens) else Outcome.QUOTA

    def _end(self, now: float, job: Job, outcome: Outcome) -> None:
        job.outcome = outcome
        if job.admitted:
            self.in_flight -= 1
            self.texts -= job.left
        if outcome is not Outcome.GONE:
            self._at(now + self._one_way() + job.late_s, self._deliver, job)

    def _deliver(self, now: float, job: Job) -> None:
        self._delivered.append(job)

    def _go(self, now: float) -> None:
        """Begins batches while there are texts and idle GPUs."""
        while True:
            idle = len(self._running) < self.profile.replicas
            # a server that merges by tokens makes its next batch ahead of time, from what is there
            if not self._ready and (idle or self.profile.merge == "tokens"):
                self._ready.extend(next_batches(self.profile, self._queue))
            if not self._ready or not idle:
                return
            batch = self._ready.popleft()
            if any(job.outcome is None for job, _ in batch.parts):
                self._begin(now, batch)

    def _begin(self, now: float, batch: Batch) -> None:
        profile = self.profile
        gpu = next(i for i in range(profile.replicas) if i not in self._running)
        while len(self.meters) < profile.replicas:
            self.meters.append(Meter())
        self._running.add(gpu)
        work = batch.work(profile.padded)
        fails = 0 < profile.oom_tokens < work
        seconds = profile.oom_s if fails else self._seconds(work)
        start = max(now, self._warm_at or now) + profile.host_share * seconds
        self.meters[gpu].run(start, start + seconds)
        self._at(start + seconds, self._finish, (gpu, batch, fails))

    def _seconds(self, work: int) -> float:
        profile = self.profile
        seconds = batch_seconds(profile, work)
        seconds *= 1 + profile.thrash_share * max(0, self.in_flight - profile.thrash_above)
        if profile.noise:
            seconds *= self._random.lognormvariate(-(profile.noise**2) / 2, profile.noise)
        return seconds

    def _finish(self, now: float, run: tuple[int, Batch, bool]) -> None:
        gpu, batch, failed = run
        self._running.discard(gpu)
        if not failed:
            work = batch.work(self.profile.padded)
            self.batches += 1
            self.batched_tokens += batch.tokens
            self.batched_work += work
            self.most_work = max(self.most_work, work)
        for job, count in batch.parts:
            if job.outcome is not None:
                continue
            if failed:
                self._end(now, job, Outcome.OOM)
                continue
            job.left -= count
            self.texts -= count
            if job.left == 0:
                self._end(now, job, Outcome.OK)
        self._go(now)
