"""Errors are three different things: a cap on what is held, a quota on what is asked for, and memory."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from actors.driver.tuning.episode import Episode
from actors.driver.tuning.measure import History
from actors.messages import Completion, Failure

MANY_ROWS, FEW_REQUESTS = 48, 16  # refused at so few requests of so many texts: the cap counts texts
SHARES = 8  # requests that a cap in texts is shared out to at first
WHOLE, NEARLY = 32, 0.9  # rows come in multiples of it where that leaves little unused
RELAX_S, MOST_RELAX_S = 10.0, 120.0
RELAX, MOST_RELAX = 1.1, 1.5  # at first; the step doubles while nothing is refused
MOST_LOWERED = 0.8  # by one episode
SOON_S = 2.5  # refused so soon after relaxing: the wait doubles
SURELY_GOOD = 0.9  # of the largest size that worked, once memory has failed
MOST_FAILURES = 2  # then never again above what worked
DOUBT, DOUBT_KNOWN = 0.04, 0.5  # shares by which one unit must explain the refusals better than the other
EPISODE_S, MOST_EPISODE_S = 0.3, 1.0  # an episode lasts as long as an answer takes, within these
JUDGED = 60  # refusals of one episode that are looked at
STEADY_S = 3.0  # nothing was raised for so long: what it refuses now, it held until now
TOO_MANY = 429  # a server that is only just starting says 503
LATELY_S, MORE = 4.0, 1.5  # for so long refusals are counted; so many more than by chance, and a few, are for a cap
FEW = 4
SURE = 3  # refusals in one episode, or of larger requests than any that was taken: not by chance
VAIN = 2  # episodes in a row without an answer: a request may be too large


@dataclass(slots=True)
class Cap:
    """What the server holds at most, in a unit that it does not tell. A burst of refusals is one episode."""

    requests: int | None = None
    texts: int | None = None
    told_texts: int | None = None  # the server's own word, never exceeded
    told_requests: int | None = None
    _chance: float = 0.0  # this share is refused whatever is held
    _refused: list[float] = field(default_factory=list)  # lately, at these times
    _most_requests: int = 1  # ever held
    _most_texts: int = 1
    _episode: list[Failure] = field(default_factory=list)
    _changed: float = -math.inf
    _relaxed: float = -math.inf
    _patience_s: float = RELAX_S
    _relax: float = RELAX
    _firm: bool = False  # it was not learnt from a refusal that may have come by chance
    _large: list[Failure] = field(default_factory=list)  # lately, of more texts than any request that was taken
    _vain: int = 0  # episodes in a row without an answer

    def __post_init__(self) -> None:
        self.requests, self.texts = self.told_requests, self.told_texts

    @property
    def by_chance(self) -> bool:
        """Whether it refuses whatever it holds: as one of many behind a gateway does, or one that is ill."""
        return self._chance > 0

    def refuse(self, failures: list[Failure], history: History, now: float) -> bool:
        """Note refusals. True when they begin an episode."""
        self._refused = [at for at in self._refused if at > now - LATELY_S] + [each.at for each in failures]
        if self.by_chance and self._is_chance(failures, history.between(now - LATELY_S, now), now):
            return False
        self._chance = 0.0
        begins = bool(failures) and not self._episode
        self._episode += failures[: JUDGED - len(self._episode)]
        return begins

    def _is_chance(self, failures: list[Failure], taken: list[Completion], now: float) -> bool:
        """Whether these refusals are no more than come by chance, and of requests no larger than others."""
        largest = max((each.rows for each in taken), default=0)
        large = [each for each in [*self._large, *failures] if each.rows > largest]
        self._large = [each for each in large if each.at > now - LATELY_S]
        count = len(self._refused)
        few = count <= MORE * self._chance * (count + len(taken)) + FEW if count else True
        return few and len(self._large) < SURE

    def refuse_alone(self, rows: int) -> None:
        """A request of so many texts was refused though nothing else was held."""
        if rows > 1:
            self.texts = min(self.texts or rows, rows // 2)

    def judge(self, history: History, complete_to: float, raised_at: float = math.inf) -> str | None:
        """What an episode says, once everything that was held at its start has come back.

        Where it came by chance, no cap: as much was held before, and nothing was raised since `raised_at`; or it
        came while far less was held, and then more of them are expected.
        """
        if not self._episode:
            return None
        began = min(each.at for each in self._episode)
        lasts = min(MOST_EPISODE_S, max(EPISODE_S, history.longest_s))
        if complete_to < began + lasts + 1.5 * history.longest_s:
            return None
        known = [each for each in self._episode if each.at <= began + lasts]
        self._episode = []
        accepted = history.between(began - history.longest_s, complete_to)
        if not accepted:
            return self._judge_vain(known)
        self._vain = 0
        if began - self._relaxed < SOON_S:
            self._patience_s = min(MOST_RELAX_S, 2 * self._patience_s)
        episode = Episode.of(known, history, complete_to)
        if episode.is_usual() or episode.is_low():
            taken = len(history.between(began - LATELY_S, complete_to))
            self._chance = len(self._refused) / (len(self._refused) + taken)
            if not self._firm:  # learnt from such refusals
                self.requests, self.texts = self.told_requests, self.told_texts
            return "it refuses whatever it holds"
        if began - raised_at > STEADY_S and episode.is_contradicted():
            return None
        self._relax, self._changed = RELAX, complete_to
        self._firm |= len(known) >= SURE
        texts = [need - each.rows for need, each in zip(episode.needed, known, strict=True)]
        return self._learn(episode.requests, texts, episode.needed, max(each.rows for each in accepted))

    def _judge_vain(self, refused: list[Failure]) -> str:
        """Nothing was accepted: it is away, or no request is small enough."""
        self._vain += 1
        rows = min(each.rows for each in refused)
        if self._vain < VAIN or rows <= WHOLE or any(each.status != TOO_MANY for each in refused):
            return "refused, and nothing came through: it is away"
        self._vain = 0
        self.refuse_alone(rows)
        return f"nothing comes through: at most {self.texts} texts are tried"

    def _learn(self, requests: list[int], texts: list[int], needed: list[int], largest: int) -> str:
        """What was held at each refusal, that and what was refused, and the texts of the largest request taken."""
        self._most_requests = max(self._most_requests, *requests)
        self._most_texts = max(self._most_texts, *texts)
        if min(needed) > largest and self._in_texts(requests, needed):
            self.requests = self.told_requests
            least, most = max(*texts, largest), min(needed) - 1
            between = int(math.sqrt(least * most)) if least < most else most
            self.texts = self._lowered(between, self.texts, self.told_texts)
            return f"it holds {self.texts} texts"
        self.texts = self.told_texts
        self.requests = self._lowered(max(1, *requests), self.requests, self.told_requests)
        return f"it holds {self.requests} requests"

    @staticmethod
    def _lowered(held: int, before: int | None, told: int | None) -> int:
        """One episode may have been seen badly: it does not halve what was learnt."""
        held = max(held, int(MOST_LOWERED * before)) if before and before != told else held
        return min(held, told or held)

    def _in_texts(self, requests: list[int], needed: list[int]) -> bool:
        """The unit in which it never refused what it once held; in doubt the one that was supposed before.

        What is refused while nothing is held is refused for its texts.
        """
        if not min(requests):
            return True
        short_requests = statistics.mean(max(0.0, 1 - each / self._most_requests) for each in requests)
        short_texts = statistics.mean(max(0.0, 1 - each / self._most_texts) for each in needed)
        known = self.texts is not None or self.requests is not None
        if abs(short_requests - short_texts) > (DOUBT_KNOWN if known else DOUBT):
            return short_texts < short_requests
        if known:
            return self.texts is not None
        return max(needed) / max(requests) >= MANY_ROWS and max(requests) <= FEW_REQUESTS

    def rows(self, limit: int, most: int) -> int:
        """Texts of a request, at most: a cap in texts is shared by all that are in flight."""
        if self.texts is None or self.texts // limit >= most:
            return most
        rows = max(1, self.texts // limit)
        whole = rows - rows % WHOLE
        return whole if whole > NEARLY * rows else rows

    def limit(self, rows: int) -> int | None:
        """Requests of so many texts that it holds."""
        by_texts = None if self.texts is None else max(1, self.texts // rows)
        return min((each for each in (self.requests, by_texts) if each is not None), default=None)

    def most(self, rows: int) -> int:
        """Requests to go to once it is known, of at most so many texts."""
        if self.texts is not None:
            return max(SHARES, self.texts // rows)
        return self.requests or 1

    def is_full(self, limit: int, rows: int) -> bool:
        """Whether so many requests of so many texts are about what it holds."""
        return self.texts is not None and (limit + 1) * rows > self.texts

    def relax(self, now: float) -> bool:
        """Whether it is time to see if the cap is still there; then it is a little larger."""
        if self._episode or now - self._changed < self._patience_s:
            return False
        if self.requests is not None and self.requests != self.told_requests:
            self.requests = max(self.requests + 1, int(self.requests * self._relax))
        elif self.texts is not None and self.texts != self.told_texts:
            self.texts = max(self.texts + 1, int(self.texts * self._relax))
        else:
            return False
        self._changed = self._relaxed = now
        self._relax = min(MOST_RELAX, 2 * self._relax - 1)
        return True


@dataclass(slots=True)
class Memory:
    """The largest padded request that worked, and the smallest that did not."""

    good: int = 0
    bad: int | None = None
    failures: int = 0

    def worked(self, size: int) -> None:
        self.good = max(self.good, size)

    def too_much(self, failure: Failure) -> bool:
        """Whether this failure may be the memory's: no request of the size ever worked."""
        if failure.size <= (SURELY_GOOD if self.failures else 1.02) * self.good:
            return False
        self.failures += 1
        self.bad = min(self.bad or failure.size, failure.size)
        self.good = min(self.good, int(SURELY_GOOD * self.bad))
        return True

    def room(self, tokens: int) -> int:
        """`tokens` or what is left of them under the ceiling: halfway to what failed, at last what once worked."""
        if self.bad is None:
            return tokens
        halfway = int(math.sqrt(self.good * self.bad)) if self.good else self.bad // 2
        if self.good and (self.failures >= MOST_FAILURES or halfway < 1.1 * self.good):
            return min(tokens, self.good)
        return min(tokens, halfway)
