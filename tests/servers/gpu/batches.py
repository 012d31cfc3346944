"""What a GPU batch is made of: texts taken from the front of the queue, by kind of server."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.servers.gpu.profiles import Profile


class Outcome(StrEnum):
    OK = "ok"
    TOO_MANY = "too_many"  # more texts than a request may hold
    OVERLOADED = "overloaded"  # a cap
    QUOTA = "quota"
    OOM = "oom"
    GONE = "gone"  # the client did not wait


@dataclass(eq=False, slots=True)
class Job:
    """A request on its way. `outcome` is set when its answer is known; `tag` is the sender's."""

    lengths: Sequence[int]
    sent: float
    tag: object = None
    outcome: Outcome | None = None
    tokens: int = 0
    admitted: bool = False
    taken: int = 0
    """Texts that are in a batch."""
    left: int = 0
    """Texts that are not computed."""
    late_s: float = 0.0
    """For so long the answer is held back."""


@dataclass(slots=True)
class Batch:
    parts: list[tuple[Job, int]] = field(default_factory=list)
    rows: int = 0
    tokens: int = 0
    longest: int = 0

    def add(self, job: Job, lengths: Sequence[int]) -> None:
        self.parts.append((job, len(lengths)))
        self.rows += len(lengths)
        self.tokens += sum(lengths)
        self.longest = max(self.longest, max(lengths))

    def work(self, padded: bool) -> int:
        return self.rows * self.longest if padded else self.tokens


def next_batches(profile: Profile, queue: deque[Job]) -> list[Batch]:
    """Takes the next batch (of Infinity: the next up to `sort_batches`) off the queue; empty when it is empty."""
    while queue and queue[0].outcome is not None:
        queue.popleft()  # it failed or its client left while it waited
    if not queue:
        return []
    if profile.merge == "items":
        return _by_items(profile, queue)
    return [_by_tokens(profile, queue) if profile.merge == "tokens" else _whole(queue)]


def _whole(queue: deque[Job]) -> Batch:
    batch = Batch()
    _take(batch, queue, len(queue[0].lengths))
    return batch


def _by_tokens(profile: Profile, queue: deque[Job]) -> Batch:
    batch = Batch()
    while queue:
        job = queue[0]
        if job.outcome is not None:
            queue.popleft()
            continue
        fits = _fitting(profile, batch, job)
        if fits == 0:
            break
        _take(batch, queue, fits)
    return batch


def _fitting(profile: Profile, batch: Batch, job: Job) -> int:
    """How many of the job's next texts the batch has room for; a first text always fits."""
    rows, tokens, longest = batch.rows, batch.tokens, batch.longest
    for length in job.lengths[job.taken :]:
        longest = max(longest, length)
        tokens += length
        cost = (rows + 1) * longest if profile.padded else tokens
        if cost > profile.batch_tokens and rows > 0:
            break
        rows += 1
    return rows - batch.rows


def _take(batch: Batch, queue: deque[Job], count: int) -> None:
    job = queue[0]
    batch.add(job, job.lengths[job.taken : job.taken + count])
    job.taken += count
    if job.taken >= len(job.lengths):
        queue.popleft()


def _by_items(profile: Profile, queue: deque[Job]) -> list[Batch]:
    items = profile.batch_items
    texts: list[tuple[int, Job]] = []
    room = items * profile.sort_batches
    while queue and len(texts) < room:
        job = queue[0]
        if job.outcome is None:
            lengths = job.lengths[job.taken : job.taken + room - len(texts)]
            job.taken += len(lengths)
            texts += [(length, job) for length in lengths]
        if job.outcome is not None or job.taken >= len(job.lengths):
            queue.popleft()
    if len(texts) > items:
        texts.sort(key=lambda text: text[0])
    return [_of_texts(texts[start : start + items]) for start in range(0, len(texts), items)]


def _of_texts(texts: list[tuple[int, Job]]) -> Batch:
    by_job: dict[Job, list[int]] = {}
    for length, job in texts:
        by_job.setdefault(job, []).append(length)
    batch = Batch()
    for job, lengths in by_job.items():
        batch.add(job, lengths)
    return batch
