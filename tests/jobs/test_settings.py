"""Reading settings: what is accepted, and who wins."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from actors.errors import UserError
from jobs.setting_kinds import known_dialects
from jobs.settings import Settings, load_settings
from jobs.settings_file import parse_document
from tests.jobs.settings_files import complaint, load

SHIPPED = Path(__file__).parents[2] / "config" / "phase1_config.yaml"


def key_paths(value: object, path: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {path}
    return {leaf for key, inner in value.items() for leaf in key_paths(inner, f"{path}.{key}".strip("."))}


# --- what is accepted -------------------------------------------------------------------------------------------


def test_shipped_file_shows_every_key_and_changes_nothing() -> None:
    assert load_settings(SHIPPED, {}) == Settings()
    assert key_paths(parse_document(SHIPPED.read_bytes(), "").values) == key_paths(Settings().model_dump())


@pytest.mark.parametrize(
    "text",
    ["", "\n", "# only a comment\n", "---\n", "null\n", "{}", b"\xef\xbb\xbf", "input:\nray:\nendpoints:\n"],
    ids=repr,
)
def test_a_file_that_says_nothing_means_the_defaults(tmp_path: Path, text: str | bytes) -> None:
    assert load(tmp_path, text) == Settings()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("model: BAAI/bge-m3", "model", "BAAI/bge-m3"),
        (b"\xef\xbb\xbfmodel: m\r\npatience_s: 5\r\n", "patience_s", 5.0),
        ("patience_s: 0.5", "patience_s", 0.5),
        ("dialect: openai", "dialect", "openai"),
        ("api_key_env: _MY_KEY2", "api_key_env", "_MY_KEY2"),
        ("input: {paths: [a.parquet, b/]}", "input.paths", ("a.parquet", "b/")),
        ("input: {keep: [title, url]}", "input.keep", ("title", "url")),
        ("input:\n  id_column: 2024-01-01\n", "input.id_column", "2024-01-01"),
        ("input: {text_column: 'yes'}", "input.text_column", "yes"),
        ("input: {limit: 1_000}", "input.limit", 1000),
        ("output: {rows_per_part: 5000}", "output.rows_per_part", 5000),
        ("output: {rows_per_part: auto}", "output.rows_per_part", None),
        ("output: {dtype: float16}", "output.dtype", "float16"),
        ("async_inference: {enabled: off}", "async_inference.enabled", False),
        ("async_inference: {batch_size: 2048}", "async_inference.batch_size", 2048),
        ("ray: {address: auto}", "ray.address", "auto"),
        ("input: &i {limit: 3}\nray: {}\n", "input.limit", 3),
    ],
)
def test_values_read_from_a_file(tmp_path: Path, text: str | bytes, key: str, value: object) -> None:
    found: object = load(tmp_path, text)
    for name in key.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://gpu.example.com/v1/", "https://gpu.example.com/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("HTTP://host/a/b//", "HTTP://host/a/b"),
    ],
)
def test_an_endpoint_keeps_its_path_but_no_trailing_slash(tmp_path: Path, url: str, kept: str) -> None:
    assert load(tmp_path, f"endpoints: ['{url}']").endpoints[0].url == kept


def test_servers_fall_back_to_the_top_level(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        model: m
        dialect: openai
        api_key_env: TOP_KEY
        endpoints:
          - http://a:1
          - {url: http://b:2, model: other, api_key_env: B_KEY, dialect: auto}
        """,
    )
    first, second = settings.servers
    assert (first.model, first.dialect, first.api_key_env) == ("m", "openai", "TOP_KEY")
    assert (second.model, second.dialect, second.api_key_env) == ("other", "auto", "B_KEY")
    assert settings.endpoints[0].model is None


@pytest.mark.parametrize(
    ("block", "concurrency", "request_rows"),
    [
        ("{}", None, None),
        ("{concurrent_requests: 3, batch_size: 7}", 3, 7),
        ("{preset: conservative}", 4, None),
        ("{preset: recommended}", 8, None),
        ("{preset: aggressive}", 16, None),
        ("{preset: aggressive, concurrent_requests: 16}", 16, None),
        ("{preset: null, concurrent_requests: 5}", 5, None),
        ("{enabled: false}", 1, 50),
        ("{enabled: false, preset: aggressive}", 1, 50),
        ("{enabled: false, concurrent_requests: 9, batch_size: 128}", 1, 128),
        ("{enabled: false, max_batch_size: 32}", 1, 32),
    ],
)
def test_what_is_asked_of_a_server(
    tmp_path: Path, block: str, concurrency: int | None, request_rows: int | None
) -> None:
    block_settings = load(tmp_path, f"async_inference: {block}").async_inference
    assert block_settings.concurrency == concurrency
    assert block_settings.request_rows == request_rows


def test_merge_keys_and_aliases_work_and_keep_their_lines(tmp_path: Path) -> None:
    text = "endpoints:\n- &a\n  url: http://a:1\n  model: m\n- <<: *a\n  url: http://b:2\n"
    assert [(e.url, e.model) for e in load(tmp_path, text).endpoints] == [("http://a:1", "m"), ("http://b:2", "m")]
    assert "c.yaml line 6: endpoints[1].url is 'b:2'" in complaint(tmp_path, text.replace("http://b", "b"))


def test_settings_are_frozen_and_travel_to_another_process() -> None:
    settings = Settings.model_validate({"endpoints": ["http://a:1"]})
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(ValidationError):
        settings.model = "other"


# --- who wins ---------------------------------------------------------------------------------------------------


def test_command_line_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    text = "model: file\ninput:\n  text_column: file\n  limit: 5\nendpoints: [http://file]\n"
    overrides = {
        "input.text_column": "body",
        "endpoints": ("http://a/", "http://b"),
        "async_inference.enabled": False,
        "async_inference.batch_size": "auto",
        "input.limit": None,
    }
    settings = load(tmp_path, text, overrides)
    assert (settings.model, settings.input.text_column, settings.input.limit) == ("file", "body", None)
    assert [endpoint.url for endpoint in settings.endpoints] == ["http://a", "http://b"]
    assert (settings.async_inference.enabled, settings.async_inference.max_batch_size) == (False, 2048)


@pytest.mark.parametrize(
    ("overrides", "concurrency"),
    [
        ({"async_inference.preset": "aggressive"}, 16),
        ({"async_inference.concurrent_requests": 3}, 3),
        ({"async_inference.concurrent_requests": "auto"}, None),
    ],
)
def test_either_way_to_say_the_concurrency_replaces_what_the_file_says(
    tmp_path: Path, overrides: Mapping[str, object], concurrency: int | None
) -> None:
    file = "async_inference: {preset: recommended, concurrent_requests: 8}"
    assert load(tmp_path, file, overrides).async_inference.concurrency == concurrency


def test_without_a_named_file_the_one_in_the_current_directory_is_read_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}) == Settings()
    assert load_settings(None, {"model": "m"}).model == "m"
    Path("config").mkdir()
    Path("config/phase1_config.yaml").write_text("\n\nmodle: here\n")
    with pytest.raises(UserError) as caught:
        load_settings(None, {})
    message = "config/phase1_config.yaml line 3: unknown key 'modle'; did you mean 'model'?"
    assert str(caught.value) == message


def test_dialects_are_those_of_the_registry() -> None:
    assert "openai" in known_dialects()
    for name in known_dialects():
        assert Settings.model_validate({"dialect": name}).dialect == name


def test_every_model_refuses_unknown_keys_and_change() -> None:
    blocks = [Settings(), *(value for _, value in Settings() if isinstance(value, BaseModel))]
    assert len(blocks) == 6
    for block in blocks:
        assert block.model_config.get("extra") == "forbid"
        assert block.model_config.get("frozen") is True
