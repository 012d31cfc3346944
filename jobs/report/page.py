"""The pages' template: one style for all of them, and every value in it is text."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from jobs.report.wording import compact, count, duration, minute, percent, short_url

Facts = Mapping[str, Mapping[str, str]]  # title -> what -> value, as a page lists them


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The page that the template of this name in this folder makes of `values`."""
    environment = Environment(
        loader=FunctionLoader(lambda name: files(__package__).joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {word.__name__: word for word in (count, compact, percent, duration, short_url, minute)}
    return environment.get_template(template).render(values)
