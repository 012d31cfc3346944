"""How many examples a property is tried with; `pytest --hypothesis-profile=more --timeout=0` tries many more."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
settings.register_profile("more", max_examples=20 * USUAL)


def examples(count: int) -> settings:
    """So many, unless more are asked for; however long each of them takes."""
    return settings(deadline=None, max_examples=count * settings().max_examples // USUAL)
