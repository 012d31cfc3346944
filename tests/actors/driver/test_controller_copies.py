"""Rows that were never sent: counted once, in the rates that people see, and not in what the law sees."""

from __future__ import annotations

from actors.driver.controller import Controller
from tests.actors.driver.reporting import URL, Steps, counted, done, report


def test_copies_count_as_rows_and_the_law_sees_only_what_was_sent() -> None:
    policy = Steps()
    controller = Controller({URL: policy})
    controller.report(report("a", counted(rows=7, unique_texts=5)), 1.0)
    controller.tick(1.0)
    sent = counted(requests=2, answers=2, rows=107, unique_texts=25, completions=done(2, at=1.2))
    controller.report(report("a", sent), 1.5)
    [line] = controller.tick(1.5)
    [endpoint] = controller.status().endpoints
    assert line["rows_per_s"] == 200.0
    assert sum(event.rows for event in policy.seen[-1].completions) == 20
    assert (endpoint.rows, endpoint.unique_texts) == (107, 25)
    controller.report(report("a", counted(rows=117, unique_texts=25)), 2.0)
    [late] = controller.tick(2.0)
    assert late["rows_per_s"] == 20.0, "copies of a text that was answered before"


def test_what_a_driver_did_not_see_is_no_rate() -> None:
    controller = Controller({URL: Steps()})
    controller.report(report("a"), 1.0)
    controller.tick(1.0)
    controller.report(report("b", counted(rows=1_000_000, unique_texts=10)), 1.5)
    [line] = controller.tick(1.5)
    assert line["rows_per_s"] == 0.0


def test_reused_rows_are_counted_once_whatever_becomes_of_their_embedder() -> None:
    controller = Controller({URL: Steps()})
    for at, name, incarnation, rows in [
        (1.0, "a", "1", 5),
        (1.1, "b", "1", 7),
        (1.2, "a", "1", 9),
        (1.3, "a", "2", 2),
    ]:
        controller.report(report(name, incarnation=incarnation, rows_reused=rows), at)
    assert controller.status().rows_reused == 9 + 7 + 2
