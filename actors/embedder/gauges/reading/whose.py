"""Which of a machine's GPUs are a server's. Pure.

Only the server's own environment counts: CUDA_VISIBLE_DEVICES does not change what NVML shows, and Ray empties
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its number in NVML (that is by PCI bus), its UUID, and the processes that compute on it."""

    index: int
    uuid: str
    pids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Server:
    """The process that listens at an endpoint's port, with its descendants.

    `visible` is CUDA_VISIBLE_DEVICES in its environment, None: it is not set or may not be read; `by_bus`: the
    numbers in there are NVML's.
    """

    pids: frozenset[int]
    visible: str | None = None
    by_bus: bool = False


def cards_of(cards: Sequence[Card], server: Server | None) -> list[Card]:
    """Those on which a process of the server computes; if that cannot be told, those that its environment names;
    else those on which anything computes; else all."""
    if server is not None:
        if computing := [card for card in cards if card.pids & server.pids]:
            return computing
        if server.visible is not None and (named := _named(cards, server)) is not None:
            return named
    return [card for card in cards if card.pids] or list(cards)


def _named(cards: Sequence[Card], server: Server) -> list[Card] | None:
    """By CUDA's rules: UUIDs may be cut short, and the first entry that fits nothing ends the list.

    None where numbers are in CUDA's own order, the fastest first, which NVML does not know.
    """
    named: list[Card] = []
    for entry in (server.visible or "").split(","):
        entry = entry.strip()
        if entry.isdecimal():
            if not server.by_bus and len(cards) > 1:
                return None
            fitting = [card for card in cards if card.index == int(entry)]
        else:
            fitting = [card for card in cards if entry.startswith("GPU-") and card.uuid.startswith(entry)]
        if len(fitting) != 1:
            break
        named += fitting
    return named
