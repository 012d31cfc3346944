"""What a setting's value may be, and what is said of one that is not: the types of the fields in `settings.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

PRESET_CONCURRENCY = {"conservative": 4, "recommended": 8, "aggressive": 16}
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def known_dialects() -> tuple[str, ...]:
    """The names of the wire dialects that this build speaks."""
    from actors.embedder.dialects import DIALECTS

    return tuple(DIALECTS)


def expected(what: str) -> PydanticCustomError:
    """For a value of another kind."""
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def _flaw(what: str) -> PydanticCustomError:
    """For a value that must not be shown, or that its flaw already says."""
    return PydanticCustomError("flaw", "{what}", {"what": what})


def conflict(key: str, value: object, other: str, but: str, remedy: str) -> PydanticCustomError:
    """For a value that is right by itself."""
    context = {"key": key, "value": value, "other": other, "but": but, "remedy": remedy}
    return PydanticCustomError("conflict", "{key} is {value}, but {other} {but}; {remedy}", context)


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _expects(what: str) -> WrapValidator:
    """Whatever the type's own checks find, the complaint is "expected `what`"."""

    def accepts(kind: type[str] | type[int], value: str | float, inner: ValidatorFunctionWrapHandler) -> bool:
        try:
            inner(kind(value))
        except ValueError:  # a ValidationError is one; so is a number too long to be written out
            return False
        return True

    def check(value: object, inner: ValidatorFunctionWrapHandler) -> object:
        try:
            return inner(value)
        except ValidationError:
            pass
        if isinstance(value, bool | int | float) and accepts(str, value, inner):
            raise expected(f"{what}, in quotes")
        if isinstance(value, str) and accepts(int, value, inner):
            raise expected(f"{what}, without quotes")
        raise expected(what)

    return WrapValidator(check)


def list_of(what: str) -> BeforeValidator:
    """A list becomes a tuple, and a key with nothing after it an empty one."""

    def as_tuple(value: object) -> object:
        if value is None:  # `keep:` with nothing after it
            return ()
        if not isinstance(value, list | tuple):
            raise expected(f"a list of {what}, [in brackets] or one a line after '- '")
        return tuple(value)

    return BeforeValidator(as_tuple)


def _auto_is_none(value: object) -> object:
    return None if value == "auto" else value


def _yes_or_no(value: object) -> object:
    """YAML reads a bare yes as true."""
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


def _dialect(value: object) -> object:
    if value == "auto":
        return value
    names = ("auto", *known_dialects())
    if value not in names:
        raise expected(_one_of(names))
    return value


def _sink(value: object) -> object:
    from actors.output.sinks import SINKS

    if value not in SINKS:
        raise expected(_one_of(list(SINKS)))
    return value


def _variable_name(value: object) -> object:
    if not isinstance(value, str) or not _VARIABLE_NAME.fullmatch(value):
        raise _flaw(
            "is not the name of an environment variable (letters, digits and _; what was given is not shown); "
            "put the key in a variable and name that here"
        )
    return value


def _base_url(value: object) -> str:
    """`value` without its trailing slashes, if it is an http(s) URL that requests can be built on."""
    wanted = "an http:// or https:// URL with a host, such as http://127.0.0.1:8080"
    if not isinstance(value, str):
        raise expected(wanted)
    # Looked for as characters: a password with a slash in it hides its @ from any parser.
    if any(mark in value for mark in "@?#"):
        raise _flaw(
            "has a user, password, query or fragment in its URL; give the base URL, and the key by api_key_env"
        )
    try:
        url = urlsplit(value)
        whole = url.scheme in ("http", "https") and url.hostname is not None and url.port != 0
    except ValueError:
        whole = False
    if not whole or re.search(r"[\s\x00-\x1f\\]", value):
        raise expected(wanted)
    return value.rstrip("/")


def distinct(items: tuple[object, ...]) -> tuple[object, ...]:
    """Names or endpoints, none of them twice."""
    names = [getattr(item, "url", item) for item in items]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _flaw(f"names {name!r} twice; keep one")
    return items


def block(value: object) -> object:
    """A block all of whose keys are commented out is null in YAML."""
    return {} if value is None else value


Text = Annotated[str, Field(min_length=1), _expects("text")]
ModelName = Annotated[str, Field(min_length=1), _expects("a model name")]
Column = Annotated[str, Field(min_length=1), _expects("a column name")]
Location = Annotated[str, Field(min_length=1), _expects("a path")]
VariableName = Annotated[str, BeforeValidator(_variable_name)]
Dialect = Annotated[str, BeforeValidator(_dialect)]
BaseUrl = Annotated[str, BeforeValidator(_base_url)]
Flag = Annotated[bool, _expects("true or false")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), _expects("a number of seconds, at least 0")]
PerMinute = Annotated[float, Field(gt=0, allow_inf_nan=False), _expects("a number above 0")]
Count = Annotated[int, Field(ge=1), _expects("a whole number of at least 1")]
AutoCount = Annotated[
    Annotated[int, Field(ge=1)] | None,
    _expects("auto or a whole number of at least 1"),
    BeforeValidator(_auto_is_none),
]
Kind = Annotated[str, BeforeValidator(_sink)]
Dtype = Annotated[Literal["float32", "float16"], _expects("float32 or float16")]
TooLong = Annotated[Literal["truncate", "reject"], _expects("truncate or reject")]
Normalize = Annotated[Literal["auto", "yes", "no"], BeforeValidator(_yes_or_no), _expects("auto, yes or no")]
TextFiles = Annotated[Literal["lines", "whole"], _expects("lines or whole")]
Preset = Annotated[
    Literal["conservative", "recommended", "aggressive"], _expects(f"null, {_one_of(list(PRESET_CONCURRENCY))}")
]
