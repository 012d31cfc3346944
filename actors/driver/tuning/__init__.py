"""Tuning policies. A new one is a file beside this and a line in `POLICIES`."""

from __future__ import annotations

from collections.abc import Callable

from actors.driver.tuning.base import Bounds, Decision, Observation, Policy, Setting
from actors.driver.tuning.knee import Knee

POLICIES: dict[str, Callable[[Bounds, Setting | None], Policy]] = {
    "knee": Knee,
}
DEFAULT_POLICY = "knee"

__all__ = ["DEFAULT_POLICY", "POLICIES", "Bounds", "Decision", "Observation", "Policy", "Setting"]
