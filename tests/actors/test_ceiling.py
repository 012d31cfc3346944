"""What refusals teach is kept to, and tried again now and then."""

from __future__ import annotations

import math

import pytest

from actors.ceiling import AGAIN_S, MOST_AGAIN_S, SOON_S, Ceiling


class Server:
    """Takes no more than `takes`, and may name that number."""

    def __init__(self, takes: float, most: float = math.inf, *, says_so: bool = False) -> None:
        self.takes, self.says_so, self.now = takes, says_so, 0.0
        self.ceiling = Ceiling(most)
        self.refused = 0

    def ask(self, seconds: float, wanted: float = 2048) -> None:
        """For that much once a second."""
        for _ in range(int(seconds)):
            self.now += 1
            self.ceiling.look(self.now)
            amount = min(wanted, self.ceiling.now)
            if amount > self.takes:
                self.refused += 1
                self.ceiling.refuse(self.takes, self.now, named=self.says_so)
            else:
                self.ceiling.took(amount, self.now)


def test_what_is_known_is_never_passed() -> None:
    server = Server(takes=math.inf, most=32)
    server.ceiling.refuse(7, 0.0)
    server.ask(10 * AGAIN_S)
    assert server.ceiling.now == 32
    server.ceiling.refuse(64, server.now)
    assert server.ceiling.now == 32


def test_a_limit_that_stands_is_met_seldom_and_more_seldom() -> None:
    server = Server(takes=20)
    server.ask(AGAIN_S)
    assert (server.refused, server.ceiling.now) == (1, 20)
    server.ask(2 * MOST_AGAIN_S)
    assert server.refused <= 9
    before = server.refused
    server.ask(10 * MOST_AGAIN_S)
    assert server.refused <= before + 10


def test_a_limit_that_is_named_twice_is_never_met_again() -> None:
    server = Server(takes=20, says_so=True)
    server.ask(100 * MOST_AGAIN_S)
    assert (server.refused, server.ceiling.now) == (2, 20)


def test_requests_that_were_on_their_way_together_name_it_too() -> None:
    server = Server(takes=20, says_so=True)
    server.ask(1)
    server.ceiling.refuse(20, server.now, named=True)
    server.ask(100 * MOST_AGAIN_S)
    assert (server.refused, server.ceiling.now) == (1, 20)


def test_limits_that_differ_do_not_confirm_each_other() -> None:
    ceiling = Ceiling(2048)
    ceiling.refuse(7, 0.0, named=True)
    ceiling.refuse(300, 0.0, named=True)
    ceiling.look(AGAIN_S)
    assert ceiling.now == 14


def test_a_limit_that_was_none_is_forgotten_in_no_time() -> None:
    server = Server(takes=1)
    server.ask(1)
    server.takes = math.inf
    server.ask(AGAIN_S + 12 * (SOON_S + 1))
    assert server.refused == 1
    assert server.ceiling.now >= 2048


def test_a_trial_waits_for_a_request_that_is_one() -> None:
    server = Server(takes=20)
    server.ask(1)
    server.ask(10 * MOST_AGAIN_S, wanted=20)
    assert server.ceiling.now == 40
    server.ask(1, wanted=30)
    assert (server.refused, server.ceiling.now) == (2, 20)


@pytest.mark.parametrize("told", [0, -5, 0.3])
def test_one_may_always_be_asked_for(told: float) -> None:
    ceiling = Ceiling(2048)
    ceiling.refuse(told, 0.0)
    assert ceiling.now == 1
