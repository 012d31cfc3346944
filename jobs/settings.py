"""What a run can be told, as one frozen model, and how it is read from a file and the command line.

`auto` in a file is `None` here: a number that was pinned, or None for "tuned while it runs". The one exception is
`dialect`, whose "auto" is a name like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)

from actors.errors import UserError
from jobs.setting_kinds import (
    PRESET_CONCURRENCY,
    AutoCount,
    BaseUrl,
    Column,
    Count,
    Dialect,
    Dtype,
    Flag,
    Kind,
    Location,
    ModelName,
    Normalize,
    PerMinute,
    Preset,
    Seconds,
    Text,
    TextFiles,
    TooLong,
    VariableName,
    block,
    conflict,
    distinct,
    expected,
    list_of,
)
from jobs.settings_file import Document, Sources, explain, parse_document, refusal

DEFAULT_CONFIG = Path("config/phase1_config.yaml")
SYNC_REQUEST_ROWS = 50


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
    texts_merged: Count | None = None


def _endpoint(value: object) -> object:
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Mapping | Endpoint):
        raise expected("a URL, or a mapping with url and, if need be, its other keys")
    return value


class Input(_Model):
    """The corpus. `batch` is 1-based, in steps of `rows_per_batch` rows; None for `batch` or `limit` is all.

    `too_long`: what becomes of a text that is longer than the model takes. `text_files`: in a file of plain text,
    its lines are the texts, or the whole of it is one. `reuse`: an earlier output, whose vectors are taken for the
    texts that it has. `unique_ids`: no two rows may have the same id.
    """

    paths: Annotated[tuple[Location, ...], list_of("paths")] = ()
    text_column: Column = "text"
    id_column: Column | None = None
    keep: Annotated[tuple[Column, ...], list_of("column names"), AfterValidator(distinct)] = ()
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
            raise conflict(
                "batch_size", self.batch_size, "max_batch_size", limit, "lower the one or raise the other"
            )
        pinned = PRESET_CONCURRENCY[self.preset] if self.preset else None
        if pinned and self.concurrent_requests not in (None, pinned):
            pins = f"{self.preset!r} pins it to {pinned}"
            raise conflict("concurrent_requests", self.concurrent_requests, "preset", pins, "leave one of them out")
        return self


Endpoints = Annotated[
    tuple[Annotated[Endpoint, BeforeValidator(_endpoint)], ...], list_of("URLs"), AfterValidator(distinct)
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
    """`address`: None leaves it to RAY_ADDRESS, else a local Ray. `skip_bad_nodes`: go on without nodes that cannot
    take part, instead of not beginning."""

    address: Text | None = None
    skip_bad_nodes: Flag = False


class Settings(_Model):
    """Every setting of a run. `model` None is asked of the server; `patience_s` is in seconds."""

    endpoints: Endpoints = ()
    model: ModelName | None = None
    dialect: Dialect = "auto"
    api_key_env: VariableName | None = None
    input: Annotated[Input, BeforeValidator(block)] = Input()
    vectors: Annotated[Vectors, BeforeValidator(block)] = Vectors()
    output: Annotated[Output, BeforeValidator(block)] = Output()
    async_inference: Annotated[AsyncInference, BeforeValidator(block)] = AsyncInference()
    ray: Annotated[RayCluster, BeforeValidator(block)] = RayCluster()
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
