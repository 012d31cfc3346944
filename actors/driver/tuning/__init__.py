"""Tuning policies. A new one is a file beside this and a line in `POLICIES`."""

from __future__ import annotations

from collections.abc import Callable

from actors.driver.tuning.base import Bounds, Decision, Observation, Policy, Setting
from actors.driver.tuning.hill_climb import HillClimb

POLICIES: dict[str, Callable[[Bounds], Policy]] = {
    "hill-climb": HillClimb,
}
DEFAULT_POLICY = "hill-climb"

__all__ = ["DEFAULT_POLICY", "POLICIES", "Bounds", "Decision", "Observation", "Policy", "Setting"]
