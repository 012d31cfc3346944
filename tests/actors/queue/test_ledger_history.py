"""The ledger: whatever happens to embedders, to their messages and to the queue, every part gets done."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.messages import Claim, Grant
from actors.queue.ledger import LEASE_S, SECOND_LEASE_AFTER_S
from tests.actors.queue.worker import ROWS, Worker, ledger_of, lent, plan_of, rejects_of
from tests.examples import examples


class AnyHistory(RuleBasedStateMachine):
    """Claims, lost answers, repeated and late claims, crashes of both sides, silences and leaves, in any order."""

    @initialize(
        parts=st.lists(st.sampled_from([2, 5, 12]), min_size=1, max_size=2),
        workers=st.sampled_from([3, 2, 4, 1]),
        rows_per_batch=st.sampled_from([1 << 40, 45]),
        data=st.data(),
    )
    def begin(self, parts: list[int], workers: int, rows_per_batch: int, data: st.DataObject) -> None:
        self.plan = plan_of(*parts, rows_per_batch=rows_per_batch)
        batch = data.draw(st.sampled_from([None, 1, self.plan.batches]))
        self.wanted = self.plan.parts_of_batch(batch)
        self.durable = data.draw(st.sets(st.sampled_from(self.wanted), max_size=1)) if self.wanted else set()
        self.now = 1000.0
        self.workers = [Worker(self.plan, f"w{i}") for i in range(workers)]
        self.said: list[Claim] = []  # may still be on their way once more
        self.open_queue()

    def open_queue(self) -> None:
        self.resumed = set(self.durable)
        self.ledger = ledger_of(self.plan, self.resumed, self.wanted, sum(map(rejects_of, self.resumed)))
        self.acknowledged = set(self.resumed)
        self.expired = 0
        self.holding: dict[str, dict[int, float]] = {}  # name -> part -> since when, as far as the ledger was told
        self.heard: dict[str, float] = {}
        self.answers: dict[str, tuple[Claim, Grant]] = {}

    def say(self, claim: Claim) -> Grant:
        """Deliver a claim and check the answer against all that was said before."""
        name = claim.embedder
        for each in [each for each, at in self.heard.items() if at + LEASE_S < self.now]:
            self.expired += bool(self.holding[each])
            del self.heard[each], self.holding[each], self.answers[each]
        last = self.answers.get(name)
        grant = self.ledger.claim(claim, self.now)
        for done in claim.done:
            self.acknowledged.add(done.index)
            self.holding.get(name, {}).pop(done.index, None)
        if last and claim == last[0]:
            self.heard[name] = self.now
        if last and claim == last[0]:
            assert grant == last[1], "said twice, answered the same"
            return grant
        if last and claim.incarnation == last[0].incarnation and claim.sequence < last[0].sequence:
            assert not grant.leases, "an overtaken claim is lent nothing"
            return grant
        same_life = last is not None and last[0].incarnation == claim.incarnation
        before = self.holding.get(name, {}) if same_life else {}
        to_do = [part for part in claim.held if part in self.wanted and part not in self.acknowledged]
        held = {part: before.get(part, self.now) for part in to_do}
        self.holding[name] = held
        self.heard[name] = self.now
        self.check_loan(name, lent(grant), claim.wanted_rows)
        held.update(dict.fromkeys(lent(grant), self.now))
        self.answers[name] = (claim, grant)
        return grant

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "ledger"):
            return
        status, done = self.ledger.status(), self.acknowledged - self.resumed
        assert status.rows == self.plan.rows_of(self.wanted)
        assert status.rows_resumed == sum(self.plan.part(index).rows for index in self.resumed)
        assert status.rows_done == sum(self.plan.part(index).rows for index in done)
        assert status.rejects_resumed == sum(map(rejects_of, self.resumed))
        assert status.rejects_done == sum(map(rejects_of, done))
        assert status.parts_left == len(self.wanted) - len(self.acknowledged)
        assert status.finished == self.ledger.finished == (self.acknowledged == set(self.wanted))
        assert status.leases_expired == self.expired

    @invariant()
    def what_is_remembered_does_not_grow_with_what_has_been(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert len(self.ledger._holders) <= len(self.workers)
        assert all(len(holder.since) <= len(self.wanted) for holder in self.ledger._holders.values())

    def check_loan(self, name: str, parts: list[int], wanted_rows: int) -> None:
        assert len(set(parts)) == len(parts)
        assert set(parts) <= set(self.wanted)
        assert not parts or wanted_rows > 0
        for part in parts:
            others = [held[part] for each, held in self.holding.items() if each != name and part in held]
            assert part not in self.acknowledged, "what is done is not lent"
            if not others:
                continue
            assert len(others) == 1, "no part has three holders"
            assert self.now - others[0] > SECOND_LEASE_AFTER_S, "only a late part is lent twice"
            assert not self.holding[name], "only to an embedder that has nothing else"
            free = set(self.wanted) - self.acknowledged - set(parts)
            free -= {part for held in self.holding.values() for part in held}
            assert not free, "only when nothing is left that nobody holds"

    @rule(
        data=st.data(),
        wanted_rows=st.sampled_from([0, 1, ROWS, 5 * ROWS, 1 << 30]),
        answer=st.sampled_from([True, True, True, False]),
    )
    def claim(self, data: st.DataObject, wanted_rows: int, answer: bool) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        claim = worker.claim(wanted_rows)
        self.said.append(claim)
        grant = self.say(claim)
        if answer:
            worker.hear(grant)

    @rule(wanted_rows=st.sampled_from([ROWS, 1 << 30]))
    def everybody_claims(self, wanted_rows: int) -> None:
        for worker in self.workers:
            worker.hear(self.say(worker.claim(wanted_rows)))

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker in self.workers if worker.held]))
        parts = data.draw(st.lists(st.sampled_from(sorted(worker.held)), min_size=1, unique=True))
        worker.write(*parts)
        self.durable.update(parts)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Told to stop, it says goodbye, and is started again later."""
        at = data.draw(st.integers(0, len(self.workers) - 1))
        worker = self.workers[at]
        worker.hear(self.say(worker.claim(0)))
        worker.held.clear()
        grant = self.say(worker.claim(0))
        assert not grant.leases
        self.workers[at] = Worker(self.plan, worker.name, worker.life + 1)

    @rule(data=st.data(), what=st.sampled_from(["embedder", "embedder", "queue", "late claim"]))
    def crash(self, data: st.DataObject, what: str) -> None:
        if what == "queue":
            self.open_queue()
        elif what == "late claim" and self.said:
            self.say(data.draw(st.sampled_from(self.said)))
        else:
            at = data.draw(st.integers(0, len(self.workers) - 1))
            gone = self.workers[at]
            self.workers[at] = Worker(self.plan, gone.name, gone.life + 1)

    @rule(seconds=st.sampled_from([1.0, SECOND_LEASE_AFTER_S + 0.5, LEASE_S - 0.5, LEASE_S + 0.5]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def teardown(self) -> None:
        """Everybody but one falls silent; that one ends the job alone, and the books are right."""
        if not hasattr(self, "ledger"):
            return
        self.now += LEASE_S + 1
        last = Worker(self.plan, self.workers[0].name, self.workers[0].life + 1)
        for _ in range(4 * len(self.wanted) + 4):
            grant = self.say(last.claim(1 << 30))
            last.hear(grant)
            if grant.finished:
                break
            self.durable.update(last.held)
            last.write(*sorted(last.held))
            self.now += 1
        assert self.ledger.finished
        assert self.durable >= set(self.wanted)
        status = self.ledger.status()
        assert status.parts_left == 0
        assert status.finished
        assert status.rows == status.rows_resumed + status.rows_done == self.plan.rows_of(self.wanted)


AnyHistory.TestCase.settings = settings(examples(120), stateful_step_count=40)
TestAnyHistory = AnyHistory.TestCase
