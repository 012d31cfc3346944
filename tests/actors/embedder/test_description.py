"""Of the ways in which a server can be asked, the one that takes what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from actors.embedder.dialects import Description, Way
from actors.messages import Wanted

FAST = Description(
    server="S",
    route="/fast",
    encodings=("bytes", "base64"),
    counted="base64",
    cuts_long_texts=True,
    takes=frozenset({"dimensions"}),
    others=(
        Way("/raw", ("float",), takes=frozenset({"dimensions", "raw", "truncate"})),
        Way("/prompt", ("float", "base64"), "float", frozenset({"prompt_name", "truncate"})),
    ),
)


@pytest.mark.parametrize(
    ("wanted", "route"),
    [
        ({}, "/fast"),
        ({"dimensions": 8}, "/fast"),
        ({"raw": True}, "/raw"),
        ({"truncate": False}, "/raw"),
        ({"dimensions": 8, "truncate": False}, "/raw"),
        ({"prompt_name": "p"}, "/prompt"),
        ({"prompt_name": "p", "truncate": False}, "/prompt"),
        # not all of it is to be had
        ({"prompt_name": "p", "raw": True, "dimensions": 8}, "/prompt"),
    ],
)
def test_the_first_way_that_takes_what_is_wanted(wanted: dict[str, Any], route: str) -> None:
    assert FAST.suiting(Wanted(**wanted)).route == route


def test_all_of_a_way_is_taken_over_and_nothing_else_changes() -> None:
    chosen = FAST.suiting(Wanted(prompt_name="p"))
    assert chosen.encodings == ("float", "base64")
    assert chosen.counted == "float"
    assert chosen.takes == {"prompt_name", "truncate"}
    assert (chosen.server, chosen.cuts_long_texts, chosen.others) == ("S", True, ())
    same = FAST.suiting(Wanted())
    assert (same.encodings, same.counted, same.takes) == (FAST.encodings, FAST.counted, FAST.takes)


@pytest.mark.parametrize("cuts", [True, False, None])
@pytest.mark.parametrize("truncate", [True, False])
def test_a_server_has_to_be_asked_to_cut_or_not_unless_it_does_so_by_itself(
    cuts: bool | None, truncate: bool
) -> None:
    way = Way("/asked", (), takes=frozenset({"truncate"}))
    server = Description("S", "/by-itself", (), cuts_long_texts=cuts, others=(way,))
    assert server.suiting(Wanted(truncate=truncate)).route == ("/by-itself" if cuts is truncate else "/asked")


def test_a_server_with_one_way_is_asked_in_that() -> None:
    only = Description("S", "/only", ("base64",))
    assert only.suiting(Wanted(8, "p", raw=True, truncate=False)).route == "/only"
