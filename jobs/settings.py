"""What a run can be told, as one frozen model, and how it is read from a file and the command line.

`auto` in a file is `None` here: a number that was pinned, or None for "tuned while it runs". The one exception is
`dialect`, whose "auto" is a name like the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from actors.errors import UserError
from jobs.settings_file import Document, Sources, explain, parse_document, refusal

DEFAULT_CONFIG = Path("config/phase1_config.yaml")
PRESET_CONCURRENCY = {"conservative": 4, "recommended": 8, "aggressive": 16}
SYNC_REQUEST_ROWS = 50

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def known_dialects() -> tuple[str, ...]:
    """The names of the wire dialects that this build speaks."""
    from actors.embedder.dialects import DIALECTS

    return tuple(DIALECTS)


def _expected(what: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def _flaw(what: str) -> PydanticCustomError:
    """For a value that must not be shown, or that its flaw already says."""
    return PydanticCustomError("flaw", "{what}", {"what": what})


def _conflict(key: str, value: object, other: str, but: str, remedy: str) -> PydanticCustomError:
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
            raise _expected(f"{what}, in quotes")
        if isinstance(value, str) and accepts(int, value, inner):
            raise _expected(f"{what}, without quotes")
        raise _expected(what)

    return WrapValidator(check)


def _list_of(what: str) -> BeforeValidator:
    def as_tuple(value: object) -> object:
        if value is None:  # `keep:` with nothing after it
            return ()
        if not isinstance(value, list | tuple):
            raise _expected(f"a list of {what}, [in brackets] or one a line after '- '")
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
        raise _expected(_one_of(names))
    return value


def _sink(value: object) -> object:
    from actors.output.sinks import SINKS

    if value not in SINKS:
        raise _expected(_one_of(list(SINKS)))
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
        raise _expected(wanted)
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
        raise _expected(wanted)
    return value.rstrip("/")


def _distinct(items: tuple[object, ...]) -> tuple[object, ...]:
    names = [item.url if isinstance(item, Endpoint) else item for item in items]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _flaw(f"names {name!r} twice; keep one")
    return items


def _endpoint(value: object) -> object:
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Mapping | Endpoint):
        raise _expected("a URL, or a mapping with url and, if need be, its other keys")
    return value


def _block(value: object) -> object:
    # A block all of whose keys are commented out is null in YAML.
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


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Endpoint(_Model):
    """One embedding server; where a field is None the top level's holds.

    `metrics_url`: a Prometheus page with its GPU's utilisation, such as a DCGM exporter's, beside the server's own.
    `requests_per_minute` and `tokens_per_minute` are the most that is asked of it; None: any number. What follows
    them is found out by asking (see `probe`); what is given here holds instead.
    """

    url: BaseUrl
    model: ModelName | None = None
    api_key_env: VariableName | None = None
    dialect: Dialect | None = None
    metrics_url: Location | None = None
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    route: BaseUrl | None = None
    encoding: Text | None = None
    cuts_long_texts: Flag | None = None
    tokens_per_text: Count | None = None
    texts_per_request: Count | None = None
    tokens_per_request: Count | None = None
    bytes_per_request: Count | None = None
    texts_in_flight: Count | None = None
    requests_in_flight: Count | None = None
    tokens_per_gpu_batch: Count | None = None


class Input(_Model):
    """The corpus. `batch` is 1-based, in steps of `rows_per_batch` rows; None for `batch` or `limit` is all.

    `too_long`: what becomes of a text that is longer than the model takes. `text_files`: in a file of plain text,
    its lines are the texts, or the whole of it is one. `reuse`: an earlier output, whose vectors are taken for the
    texts that it has. `unique_ids`: no two rows may have the same id.
    """

    paths: Annotated[tuple[Location, ...], _list_of("paths")] = ()
    text_column: Column = "text"
    id_column: Column | None = None
    keep: Annotated[tuple[Column, ...], _list_of("column names"), AfterValidator(_distinct)] = ()
    rows_per_batch: Count = 1_000_000
    batch: Count | None = None
    limit: Count | None = None
    too_long: TooLong = "truncate"
    text_files: TextFiles = "lines"
    reuse: Location | None = None
    unique_ids: Flag = False


class Output(_Model):
    """`path` is a folder or a URL. `rows_per_part`: None lets the plan choose."""

    path: Location | None = None
    sink: Kind = "parquet"
    dtype: Dtype = "float32"
    rows_per_part: AutoCount = None


class AsyncInference(_Model):
    """How much is asked of a server at once. Callers want `concurrency` and `request_rows`."""

    enabled: Flag = True
    preset: Preset | None = None
    concurrent_requests: AutoCount = None
    batch_size: AutoCount = None
    max_batch_size: Count = 2048
    actors: AutoCount = None

    @property
    def concurrency(self) -> int | None:
        """Requests in flight per endpoint, over all actors; None is tuned. Sync is 1, whatever else is set."""
        if not self.enabled:
            return 1
        return PRESET_CONCURRENCY[self.preset] if self.preset else self.concurrent_requests

    @property
    def request_rows(self) -> int | None:
        """Texts in one request; None is tuned, up to `max_batch_size`."""
        if self.batch_size is None and not self.enabled:
            return min(SYNC_REQUEST_ROWS, self.max_batch_size)
        return self.batch_size

    @model_validator(mode="after")
    def _numbers_agree(self) -> Self:
        if self.batch_size is not None and self.batch_size > self.max_batch_size:
            limit = f"is {self.max_batch_size}"
            raise _conflict(
                "batch_size", self.batch_size, "max_batch_size", limit, "lower the one or raise the other"
            )
        pinned = PRESET_CONCURRENCY[self.preset] if self.preset else None
        if pinned and self.concurrent_requests not in (None, pinned):
            pins = f"{self.preset!r} pins it to {pinned}"
            raise _conflict(
                "concurrent_requests", self.concurrent_requests, "preset", pins, "leave one of them out"
            )
        return self


Endpoints = Annotated[
    tuple[Annotated[Endpoint, BeforeValidator(_endpoint)], ...], _list_of("URLs"), AfterValidator(_distinct)
]


class Vectors(_Model):
    """What the vectors are of and are to be. None leaves it to the model.

    `prompt` goes before each text; `prompt_name` is one of the server's own prompts. `normalize` auto keeps what
    the server sends, yes makes each vector's length 1, no asks the server not to. `allow_mixed`: endpoints whose
    vectors differ write into one output.
    """

    prompt: Text | None = None
    prompt_name: Text | None = None
    dimensions: Count | None = None
    normalize: Normalize = "auto"
    allow_mixed: Flag = False


class RayCluster(_Model):
    """`address`: None leaves it to RAY_ADDRESS, else a local Ray."""

    address: Text | None = None


class Settings(_Model):
    """Every setting of a run. `model` None is asked of the server; `patience_s` is in seconds."""

    endpoints: Endpoints = ()
    model: ModelName | None = None
    dialect: Dialect = "auto"
    api_key_env: VariableName | None = None
    input: Annotated[Input, BeforeValidator(_block)] = Input()
    vectors: Annotated[Vectors, BeforeValidator(_block)] = Vectors()
    output: Annotated[Output, BeforeValidator(_block)] = Output()
    async_inference: Annotated[AsyncInference, BeforeValidator(_block)] = AsyncInference()
    ray: Annotated[RayCluster, BeforeValidator(_block)] = RayCluster()
    patience_s: Seconds = 600.0

    @property
    def servers(self) -> tuple[Endpoint, ...]:
        """`endpoints`, each with the top level's model, API key variable and dialect where it has none."""
        top = {"model": self.model, "api_key_env": self.api_key_env, "dialect": self.dialect}
        return tuple(
            endpoint.model_copy(update={key: value for key, value in top.items() if getattr(endpoint, key) is None})
            for endpoint in self.endpoints
        )


# Two keys for one number: on the command line either of them replaces both of the file's.
_RIVALS = {
    "async_inference.preset": "async_inference.concurrent_requests",
    "async_inference.concurrent_requests": "async_inference.preset",
}


def load_settings(
    config_path: Path | None,
    overrides: Mapping[str, object],
    option_names: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of a file with `overrides` over it, and the defaults under it.

    `config_path` None is DEFAULT_CONFIG in the current directory, if there is one. `overrides` maps dotted keys to
    values typed as in a file (8, not "8"; "auto" or None for auto), only for what was given; `option_names` maps
    dotted keys to what the user typed for them, for the messages.

    Raises UserError, one line that names the file and line or the option, for whatever is wrong.
    """
    document = _read(config_path)
    try:
        return Settings.model_validate(_merged(document.values, overrides))
    except ValidationError as error:
        sources = Sources(document, overrides, option_names or {})
        problems = [explain(detail, sources, _blocks()) for detail in error.errors(include_url=False)]
    # Outside the handler: the ValidationError holds the input, which may be a key, and must not travel along.
    raise refusal(document.name, problems)


def _read(config_path: Path | None) -> Document:
    path = config_path or DEFAULT_CONFIG
    try:
        return parse_document(path.read_bytes(), str(path))
    except FileNotFoundError:
        if config_path is None:
            return Document(str(path), {}, None)
        raise UserError(f"no config file {path}; give the path of one, or leave --config out") from None
    except OSError as error:
        raise UserError(f"cannot read the config file {path}: {error.strerror}") from None


def _merged(values: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for dotted_key, value in overrides.items():
        block, _, key = dotted_key.rpartition(".")
        if block and merged.get(block) is None:
            merged[block] = {}
        target = merged[block] if block else merged
        if not isinstance(target, dict):
            continue  # the file's block is no mapping: that is the error to tell
        target[key] = value
        rival = _RIVALS.get(dotted_key)
        if rival and rival not in overrides:
            target.pop(rival.rpartition(".")[2], None)
    return merged


def _blocks() -> dict[str, tuple[str, ...]]:
    """Every block's keys, "" for the top level."""
    models: dict[str, type[BaseModel]] = {
        "": Settings,
        "input": Input,
        "vectors": Vectors,
        "output": Output,
        "async_inference": AsyncInference,
        "ray": RayCluster,
        "endpoints": Endpoint,
    }
    return {block: tuple(model.model_fields) for block, model in models.items()}
