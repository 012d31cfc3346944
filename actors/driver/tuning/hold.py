"""Hold: watch for change, and now and then look whether a neighbour has become better."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.driver.tuning.aims import Aim, Knob, Step
from actors.driver.tuning.measure import Gain, Reading, mean
from actors.driver.tuning.room import Room

MOVED, SURELY = 0.12, 2.5  # off the reference, and by so many errors: the ground moved
IDLE = 0.10  # fall of utilisation that says so too
NOT_BUSY = 0.9
REFERENCES = 4  # windows that make the reference

PROBE_S, PROBE_GROWS, MOST_PROBE_S = 5.0, 1.5, 90.0
WORTH = 0.01
MUCH = 0.08  # such a gain says that there is more where it came from
TIE = 0.006  # such a loss is none; a shorter queue and a larger request win ties, being less work for all
PRIOR = Gain(0.0, 0.05)
SURE, PLAIN = 0.02, 2.0  # error of a pooled gain, or so many errors above what it must be, or
TURNS, MOST_TURNS = 3, 4


@dataclass(slots=True)
class Probe:
    """A neighbour of the held setting, tried between two windows of it; its gains are pooled over its turns."""

    knob: Knob
    factor: float
    gains: list[Gain] = field(default_factory=list)
    wait_s: float = PROBE_S
    due: float = 0.0


def _probes() -> list[Probe]:
    shapes = [(Knob.TOKENS, 2.0), (Knob.LIMIT, 1.4), (Knob.LIMIT, 0.75), (Knob.TOKENS, 0.7)]
    return [Probe(knob, factor) for knob, factor in shapes]


@dataclass(slots=True)
class Hold:
    """Ends in a new search when two windows in a row are off the last ones."""

    aim: Aim
    room: Room
    references: list[Reading]
    busy: float | None
    least_s: float = 1.5
    _off: int = 0
    _probe: Probe | None = None  # whose window runs, or has just run
    _probed: tuple[Aim, Reading] | None = None  # what that window said
    _tried: Aim | None = None
    _not_before: float = 0.0
    _probes: list[Probe] = field(default_factory=_probes)

    def read(self, seen: Reading, busy: float | None) -> Step | None:
        if self._probe and self._tried and not self._probed:
            self._probed = self._tried, seen
            return Step(self.aim, f"probe {self._tried}: {seen.rate:.0f} tokens/s; measuring {self.aim} again")
        reference = mean(self.references)
        gain = Gain.of(seen, reference)
        if self._moved(gain, busy):
            self._off += 1
            self._probe = self._probed = None
            if self._off >= 2:
                return Step(self.aim, f"{gain.mean:+.0%}: the ground moved; searching", search=True)
            return Step(self.aim, f"{gain.mean:+.0%}: has the ground moved?")
        self._off = 0
        self.references = [*self.references[1 - REFERENCES :], seen]
        if busy is not None:
            self.busy = busy if self.busy is None else 0.7 * self.busy + 0.3 * busy
        if self._probe and self._probed:
            return self._judge(self._probe, *self._probed, reference, seen)
        return self._start_probe(seen)

    def refused(self) -> Step:
        if self._probe:
            self._give_up(self._probe, self._not_before)
        return self.drop()

    def drop(self) -> Step:
        self._probe = self._probed = None
        return Step(self.aim, "back to what worked")

    def _moved(self, gain: Gain, busy: float | None) -> bool:
        idle = busy is not None and self.busy is not None and busy < min(NOT_BUSY, self.busy - IDLE)
        return idle or (abs(gain.mean) > MOVED and abs(gain.mean) > SURELY * gain.error)

    def _start_probe(self, seen: Reading) -> Step:
        self._not_before = self._not_before or seen.ended + 1.0
        for probe in sorted(self._probes, key=lambda each: not each.gains):  # undecided ones first
            aim = self._aim_of(probe, seen)
            if seen.ended >= max(probe.due, self._not_before) and aim != self.aim:
                self._probe, self._probed, self._tried = probe, None, aim
                self._not_before = seen.ended + 1.0
                return Step(aim, f"probing {aim}")
        return Step(self.aim, f"holding {seen.rate:.0f} tokens/s")

    def _judge(self, probe: Probe, aim: Aim, seen: Reading, before: Reading, after: Reading) -> Step:
        self._probe = self._probed = None
        probe.gains.append(Gain.of(seen, mean([before, after])))
        pooled = Gain.pooled([PRIOR, *probe.gains])
        wins_ties = (probe.knob is Knob.TOKENS) == (probe.factor > 1)
        worth = -TIE if wins_ties else WORTH
        turns = 1 if probe.knob is Knob.TOKENS and pooled.mean > 0 else TURNS
        sure = pooled.error < SURE or len(probe.gains) >= turns or pooled.mean > worth + PLAIN * pooled.error
        verdict = f"probe {aim}: {pooled.mean:+.1%}"
        if sure and pooled.mean > worth and (wins_ties or pooled.mean > pooled.error):
            self.aim, self.references = aim, [seen]
            for each in self._probes:
                each.gains = []
                each.due = 0.0 if each is probe else after.ended + PROBE_S
            return Step(aim, f"{verdict} adopted", search=pooled.mean > MUCH)
        if pooled.mean + pooled.error < worth or len(probe.gains) >= MOST_TURNS:
            self._give_up(probe, after.ended)
            return Step(self.aim, f"{verdict} dropped")
        probe.due = after.ended + PROBE_S
        return Step(self.aim, f"{verdict} undecided")

    def _give_up(self, probe: Probe, now: float) -> None:
        probe.gains = []
        probe.wait_s = min(MOST_PROBE_S, PROBE_GROWS * probe.wait_s)
        probe.due = now + probe.wait_s

    def _aim_of(self, probe: Probe, seen: Reading) -> Aim:
        """The neighbour; the held setting itself where there is none."""
        limit, tokens = self.aim
        if probe.knob in self.room.pinned:
            return self.aim
        if probe.knob is Knob.LIMIT:
            larger = max(limit + 1, int(limit * probe.factor)) if probe.factor > 1 else int(limit * probe.factor)
            least = min(limit, self.room.least(seen))
            return Aim(max(least, min(larger, self.room.limit(tokens, seen))), tokens)
        if probe.factor < 1:
            return Aim(limit, int(tokens * probe.factor))
        return self.room.larger(self.aim, probe.factor, seen) or self.aim
