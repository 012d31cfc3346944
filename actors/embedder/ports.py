"""Whom an embedder talks to, as it sees them: in a job these are Ray actors, in a unit test plain objects."""

from __future__ import annotations

from typing import Protocol

from actors.messages import Claim, Grant, Orders, Report


class QueuePort(Protocol):
    async def claim(self, claim: Claim) -> Grant:
        """Does not give up while the queue restarts; raises UserError when it stays away."""
        ...


class DriverPort(Protocol):
    async def report(self, report: Report) -> Orders | None:
        """None when the driver cannot be reached just now."""
        ...
