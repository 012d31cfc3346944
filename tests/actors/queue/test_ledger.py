"""The ledger: what it lends to whom, what it takes back, what it counts."""

from __future__ import annotations

import pickle

import pytest

from actors.messages import Claim, Grant, SourceFile
from actors.queue.ledger import LEASE_S, MAX_LEASE_PARTS, SECOND_LEASE_AFTER_S, SILENT_S
from actors.queue.plan import Plan
from tests.actors.queue.worker import ROWS, Worker, ledger_of, lent, part_done, plan_of, rejects_of

# --- lending ----------------------------------------------------------------------------------------------------


def test_a_lease_is_consecutive_parts_of_one_file_and_bounded() -> None:
    plan = plan_of(3, 100, 30)
    worker = Worker(plan, "a")
    grant = ledger_of(plan).claim(worker.claim(1 << 30), 0.0)
    assert sorted(lent(grant)) == list(range(plan.parts)), "it asked for all and is alone"
    for lease in grant.leases:
        indexes = [part.index for part in lease.parts]
        assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))
        assert {plan.files[plan.file_of(index)] for index in indexes} == {lease.file}
        assert len(indexes) <= MAX_LEASE_PARTS


@pytest.mark.parametrize(("wanted", "parts"), [(0, 0), (1, 1), (ROWS, 1), (ROWS + 1, 2), (3 * ROWS, 3)])
def test_as_many_parts_as_cover_the_rows_wanted(wanted: int, parts: int) -> None:
    plan = plan_of(100)
    assert Worker(plan, "a").ask(ledger_of(plan), 0.0, wanted) == list(range(parts))


def test_near_the_end_everybody_gets_a_fair_share_of_what_is_left() -> None:
    plan = plan_of(20)
    ledger = ledger_of(plan)
    workers = [Worker(plan, f"{i}") for i in range(4)]
    assert all(worker.ask(ledger, 0.0, ROWS) for worker in workers)
    assert len(workers[0].ask(ledger, 0.0)) == 4, "of 16 parts for 4 embedders"
    assert len(workers[1].ask(ledger, 0.0)) == 3
    assert len(workers[2].ask(ledger, 0.0, ROWS)) == 1, "and no more than it asks for"


def test_what_is_in_the_output_is_not_lent() -> None:
    plan = plan_of(6)
    assert Worker(plan, "a").ask(ledger_of(plan, done=[0, 2, 3]), 0.0) == [1, 4, 5]


def test_only_the_wanted_parts_are_lent_and_counted() -> None:
    plan = plan_of(6, 6)
    ledger = ledger_of(plan, done=[5], wanted=range(4, 9), rejects=3)
    worker = Worker(plan, "a")
    assert sorted(worker.ask(ledger, 0.0)) == [4, 6, 7, 8]
    worker.write(4, 6, 7, 8, 9, 3)  # two that nobody asked for change nothing
    worker.ask(ledger, 1.0)
    status = ledger.status()
    assert (status.rows, status.rows_resumed, status.rows_done) == (49, 9, 40)
    assert (status.rejects_resumed, status.rejects_done) == (3, sum(map(rejects_of, [4, 6, 7, 8])))
    assert status.finished


def test_nothing_to_do_is_finished_at_once() -> None:
    plan = plan_of(3)
    assert ledger_of(plan, done=range(3)).claim(Worker(plan, "a").claim(100), 0.0) == Grant((), True)
    assert ledger_of(plan_of(), []).finished


# --- giving back ------------------------------------------------------------------------------------------------


def test_what_the_holder_names_no_more_goes_back_and_is_lent_first() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    assert a.ask(ledger, 0.0, 4 * ROWS) == [0, 1, 2, 3]
    a.held -= {1, 2}
    assert a.ask(ledger, 1.0, 0) == []
    assert b.ask(ledger, 1.0, 3 * ROWS) == [1, 2, 4]


def test_a_silent_embedders_lease_goes_back_when_the_deadline_is_past() -> None:
    plan = plan_of(2)
    ledger = ledger_of(plan)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    assert a.ask(ledger, 0.0, ROWS) == [0]
    assert b.ask(ledger, LEASE_S - 0.1, ROWS) == [1]
    assert b.ask(ledger, LEASE_S, 0) == []
    assert ledger.status().leases_expired == 0
    assert b.ask(ledger, LEASE_S + 0.1, ROWS) == [0]
    assert ledger.status().leases_expired == 1


def test_what_a_lost_embedder_holds_goes_back_before_its_deadline() -> None:
    plan = plan_of(3)
    ledger = ledger_of(plan)
    a, b, c = (Worker(plan, name) for name in "abc")
    assert a.ask(ledger, 0.0, ROWS) == [0]
    assert b.ask(ledger, 0.0, ROWS) == [1]
    assert c.ask(ledger, 0.0, 0) == []
    b.ask(ledger, SILENT_S + 0.1, 0)
    assert ledger.silent(SILENT_S + 0.1) == ("a",), "c holds nothing"
    ledger.release("a")
    assert ledger.silent(SILENT_S + 0.1) == ()
    assert b.ask(ledger, SILENT_S + 0.2, ROWS) == [0]
    assert a.ask(ledger, SILENT_S + 0.3, ROWS) == [2], "it was there after all, and two have its part"
    a.write(0)
    a.ask(ledger, SILENT_S + 0.4, 0)
    assert ledger.status().rows_done == ROWS
    assert ledger.status().leases_expired == 0


def test_the_more_there_are_the_less_often_each_may_ask() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    grants = [ledger.claim(Worker(plan, f"{i}").claim(0), 0.0) for i in range(1500)]
    assert (grants[0].soon_s, grants[-1].soon_s) == (0.05, 1.5)
    assert grants[-1].soon_s < SILENT_S


def test_a_part_that_goes_back_again_and_again_takes_no_more_memory() -> None:
    plan = plan_of(2)
    ledger = ledger_of(plan)
    a = Worker(plan, "a")
    assert a.ask(ledger, 0.0) == [0, 1]
    sizes = set()
    for silence in range(1, 20):
        assert a.ask(ledger, silence * (LEASE_S + 1), 0) == []
        sizes.add(len(pickle.dumps(ledger)))
    assert ledger.status().leases_expired == 19
    assert len(sizes) == 1


def test_a_beat_renews_the_lease() -> None:
    plan = plan_of(1)
    ledger = ledger_of(plan)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    a.ask(ledger, 0.0)
    for beat in range(1, 10):
        a.ask(ledger, beat * 1.0)
        assert b.ask(ledger, beat * 1.0) == []


def test_a_claim_said_again_renews_the_lease() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    claim = a.claim(ROWS)
    for now in (0.0, 5.0, 10.0):  # two answers are lost
        grant = ledger.claim(claim, now)
    a.hear(grant)
    assert b.ask(ledger, LEASE_S + 1, ROWS) == [1], "a was heard 6 s ago; its lease must not expire"
    assert ledger.status().leases_expired == 0


def test_a_new_incarnation_takes_the_place_of_the_old_one() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    assert Worker(plan, "a").ask(ledger, 0.0, 2 * ROWS) == [0, 1]
    assert Worker(plan, "a", life=1).ask(ledger, 0.1, 2 * ROWS) == [0, 1]


def test_a_lost_answer_is_given_again_and_lends_no_more() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    a = Worker(plan, "a")
    first = ledger.claim(a.claim(2 * ROWS), 0.0)
    assert ledger.claim(a.claim(0), 5.0) == first
    a.hear(first)
    a.write(0, 1)
    claim = a.claim(ROWS)
    second = ledger.claim(claim, 6.0)
    assert lent(second) == [2]
    assert ledger.claim(claim, 7.0) == second
    assert ledger.status().rows_done == 2 * ROWS, "counted once"


def test_an_overtaken_claim_counts_what_is_done_and_is_lent_nothing() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    a = Worker(plan, "a")
    a.ask(ledger, 0.0, ROWS)
    a.write(0)
    late = a.claim(ROWS)
    newer = Claim(late.embedder, late.incarnation, late.sequence + 1, (), (), 5 * ROWS)
    assert lent(ledger.claim(newer, 1.0)) == [0, 1, 2, 3, 4]
    assert ledger.claim(late, 2.0) == Grant((), False)
    assert ledger.status().rows_done == ROWS
    assert ledger.claim(newer, 3.0) == ledger.claim(newer, 4.0)


def test_a_restarted_queue_believes_what_embedders_hold() -> None:
    plan = plan_of(60)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    before = ledger_of(plan)
    assert a.ask(before, 0.0, 3 * ROWS) == [0, 1, 2]
    a.write(1)
    after = ledger_of(plan, done=[1])
    assert a.ask(after, 2.0, 0) == []
    assert b.ask(after, 2.0, 2 * ROWS) == [3, 4]
    status = after.status()
    assert (status.rows_resumed, status.rows_done) == (ROWS, 0), "part 1 was found, not done once more"


def test_a_part_done_twice_counts_once() -> None:
    plan = plan_of(60)
    ledger = ledger_of(plan)
    a = Worker(plan, "a")
    a.ask(ledger, 0.0, ROWS)
    a.write(0)
    a.ask(ledger, 1.0, 0)
    again = Worker(plan, "b")
    again.done = [0]
    again.ask(ledger, 2.0, 0)
    status = ledger.status()
    assert (status.rows_done, status.parts_left) == (ROWS, 59)


def test_rejects_are_counted() -> None:
    plan = plan_of(3)
    ledger = ledger_of(plan)
    ledger.claim(Claim("a", "a", 1, (), (part_done(plan, 0, 4), part_done(plan, 2, 1)), 0), 0.0)
    status = ledger.status()
    assert (status.rows_done, status.rejects_done, status.parts_left) == (2 * ROWS - 1, 5, 1)


# --- the tail ---------------------------------------------------------------------------------------------------


def test_an_idle_embedder_is_lent_a_late_part_a_second_time() -> None:
    plan = plan_of(2)
    ledger = ledger_of(plan)
    a, b, c = (Worker(plan, name) for name in "abc")
    assert a.ask(ledger, 0.0, ROWS) == [0]
    assert b.ask(ledger, 1.0, ROWS) == [1]
    b.write(1)
    late = SECOND_LEASE_AFTER_S + 3.1  # also three times what part 1 took
    for now in (2.0, 8.0, late):
        a.ask(ledger, now, 0)
        if now < SECOND_LEASE_AFTER_S:
            assert b.ask(ledger, now) == []
    assert b.ask(ledger, late) == [0]
    assert c.ask(ledger, late) == [], "two holders are enough"
    b.write(0)
    assert ledger.claim(b.claim(ROWS), late + 1).finished


def test_who_has_work_is_lent_no_late_part() -> None:
    plan = plan_of(2)
    ledger = ledger_of(plan)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    a.ask(ledger, 0.0, ROWS)
    b.ask(ledger, 0.0, ROWS)
    for now in (8.0, 16.0, 24.0):
        assert a.ask(ledger, now, ROWS) == []
        assert b.ask(ledger, now, ROWS) == []


def test_the_part_lent_longest_ago_is_lent_again_first() -> None:
    plan = plan_of(3)
    ledger = ledger_of(plan)
    a, b, c = (Worker(plan, name) for name in "abc")
    for worker, now in ((a, 0.0), (b, 1.0), (c, 2.0)):
        assert len(worker.ask(ledger, now, ROWS)) == 1
    c.write(2)
    for now in (9.0, 14.0):
        a.ask(ledger, now, 0)
        b.ask(ledger, now, 0)
        c.ask(ledger, now, 0)
    assert c.ask(ledger, 22.0) == [0]


def test_when_one_of_two_holders_gives_up_the_other_keeps_the_part() -> None:
    plan = plan_of(1)
    ledger = ledger_of(plan)
    a, b, c = (Worker(plan, name) for name in "abc")
    a.ask(ledger, 0.0)
    a.ask(ledger, 11.0, 0)
    assert b.ask(ledger, 11.0) == [0]
    a.held.clear()
    a.ask(ledger, 12.0, 0)
    assert c.ask(ledger, 12.0) == [], "b has it, and not for long"
    b.held.clear()
    b.ask(ledger, 13.0, 0)
    assert c.ask(ledger, 13.0) == [0]


def test_a_late_part_that_is_done_is_not_lent_again() -> None:
    plan = plan_of(2)
    ledger = ledger_of(plan)
    a, b = Worker(plan, "a"), Worker(plan, "b")
    a.ask(ledger, 0.0, 2 * ROWS)  # a holds both, and dies after its beat at 9.0
    a.ask(ledger, 9.0, 0)
    assert b.ask(ledger, 11.0) == [0]
    b.write(0)
    assert b.ask(ledger, 12.0) == [1], "0 is durable and acknowledged; 1 is what is left"


def test_a_fair_share_of_small_files_too() -> None:
    files = tuple(SourceFile(f"/in/{i}", f"{i}", "parquet", 10, 1, "00") for i in range(100))
    plan = Plan(files, 512, 1 << 40)
    ledger = ledger_of(plan)
    workers = [Worker(plan, f"{i}") for i in range(4)]
    assert all(worker.ask(ledger, 0.0, 1) for worker in workers)
    assert len(workers[0].ask(ledger, 0.0, 4096)) <= 96 // 4
