"""Each mistake in settings is told in one line that names it and the remedy, and never repeats a secret."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from actors.errors import USAGE, UserError
from jobs.settings import load_settings
from tests.jobs.settings_files import SECRET, complaint

Cases = list[tuple[str | bytes, str]]


UNKNOWN_KEYS: Cases = [
    (
        "async_inference:\n  concurent_requests: 4",
        "c.yaml line 2: unknown key 'async_inference.concurent_requests'; did you mean 'concurrent_requests'?",
    ),
    ("output:\n  limit: 4", "c.yaml line 2: unknown key 'output.limit'; did you mean 'input.limit'?"),
    ("limit: 4", "c.yaml line 1: unknown key 'limit'; did you mean 'input.limit'?"),
    ("async_inference:\n  batch: 4", "did you mean 'batch_size' or 'input.batch'?"),
    ("input:\n  model: m", "unknown key 'input.model'; did you mean 'model' at the top level?"),
    ("input.limit: 4", "line 1: unknown key 'input.limit'; write 'limit:' indented below 'input:'"),
    ("async_infrence:\n  enabled: true", "line 1: unknown key 'async_infrence'; did you mean 'async_inference'?"),
    ("MODEL: m", "unknown key 'MODEL'; did you mean 'model'?"),
    ("concurrency: 4", "did you mean 'async_inference.concurrent_requests'?"),
    ("url: http://a", "unknown key 'url'; did you mean 'endpoints[].url'?"),
    ("ray:\n  zzz: 4", "line 2: unknown key 'ray.zzz'; the keys of 'ray' are address"),
    ("zzz: 4", "unknown key 'zzz'; the keys at the top level are endpoints, model, "),
    ("endpoints:\n- url: http://a\n  modle: m", "line 3: unknown key 'endpoints[0].modle'; did you mean 'model'?"),
    (f"endpoints:\n- url: http://a\n  api_key: {SECRET}", "line 3: unknown key 'endpoints[0].api_key'; did you"),
    ('"a\\nb": 4', r"unknown key 'a\nb'; the keys"),
    (f"ray:\n  {'x' * 500}: 4", f"unknown key 'ray.{'x' * 55}…; the keys"),
    ("model: m\non: 4", "line 2: unknown key 'on'; a key is one of the settings' names"),
    ("ray:\n  8: 4", "line 2: unknown key 'ray.8'; a key is"),
    ("? [a, b]\n: 4", "line 1: unknown key (a list or mapping); a key is"),
]

ILL_TYPED: Cases = [
    (
        "#\nasync_inference:\n  batch_size: large",
        "c.yaml line 3: async_inference.batch_size is 'large'; expected auto or a whole number of at least 1",
    ),
    (
        "async_inference:\n  batch_size: '8'",
        "batch_size is '8'; expected auto or a whole number of at least 1, without",
    ),
    (
        "async_inference:\n  batch_size: 0",
        "line 2: async_inference.batch_size is 0; expected auto or a whole number",
    ),
    ("async_inference:\n  batch_size: -3", "is -3; expected auto or"),
    ("async_inference:\n  actors: 1.5", "async_inference.actors is 1.5; expected auto or a whole number"),
    (
        "async_inference:\n  actors: yes",
        "async_inference.actors is yes, which YAML reads as true; expected auto or",
    ),
    ("async_inference:\n  actors: true", "async_inference.actors is true; expected"),
    ("async_inference:\n  actors: [1]", "async_inference.actors is a list; expected"),
    ("async_inference:\n  max_batch_size: auto", "max_batch_size is 'auto'; expected a whole number of at least 1"),
    ("async_inference:\n  max_batch_size:", "line 2: async_inference.max_batch_size is empty; expected a whole"),
    ("async_inference:\n  enabled: 'true'", "async_inference.enabled is 'true'; expected true or false"),
    ("async_inference:\n  enabled: 1", "async_inference.enabled is 1; expected true or false"),
    (
        "async_inference:\n  preset: fast",
        "preset is 'fast'; expected null, conservative, recommended or aggressive",
    ),
    ("async_inference: 8", "line 1: async_inference is 8; expected a mapping, its keys indented below it"),
    ("async_inference:\n- batch_size: 8", "async_inference is a list; expected a mapping"),
    ("output:\n  dtype: 32", "line 2: output.dtype is 32; expected float32 or float16"),
    ("output:\n  dtype: on", "line 2: output.dtype is on, which YAML reads as true; expected float32 or float16"),
    ("output:\n  path: ''", "output.path is ''; expected a path"),
    ("output:\n  rows_per_part: 1e6", "output.rows_per_part is '1e6'; expected auto or a whole number"),
    ("model: no", "line 1: model is no, which YAML reads as false; expected a model name, in quotes"),
    ("input:\n  text_column: 5", "line 2: input.text_column is 5; expected a column name, in quotes"),
    (f"input:\n  text_column: 0x{'f' * 5000}", "input.text_column is 0xffff"),
    ("input:\n  text_column: ~", "line 2: input.text_column is ~; expected a column name"),
    ("input:\n  keep: title", "line 2: input.keep is 'title'; expected a list of column names"),
    ("input:\n  keep:\n  - title\n  - 7", "line 4: input.keep[1] is 7; expected a column name, in quotes"),
    ("input:\n  keep: [title, url, title]", "line 2: input.keep names 'title' twice; keep one"),
    ("input:\n  paths: {a: b}", "line 2: input.paths is a mapping; expected a list of paths"),
    ("input:\n  batch: 0", "input.batch is 0; expected a whole number of at least 1"),
    ("input:\n  limit: ten", "input.limit is 'ten'; expected a whole number"),
    ("patience_s: soon", "patience_s is 'soon'; expected a number of seconds, at least 0"),
    ("patience_s: -1", "patience_s is -1; expected a number of seconds"),
    ("patience_s: true", "patience_s is true; expected a number of seconds"),
    ("patience_s: .inf", "patience_s is .inf; expected a number of seconds"),
    (f"patience_s: 1{'0' * 400}", "patience_s is 1000000"),
    ("ray:\n  address: 6379", "line 2: ray.address is 6379; expected text, in quotes"),
    ("dialect: grpc", "line 1: dialect is 'grpc'; expected auto"),
    ("dialect: [openai]", "line 1: dialect is a list; expected auto"),
    (f"model: [{'x' * 500}]", "model is a list; expected a model name"),
    (f"input:\n  limit: {'x' * 500}", f"limit is '{'x' * 59}…; expected"),
]

ENDPOINTS: Cases = [
    ("endpoints: http://a", "line 1: endpoints is 'http://a'; expected a list of URLs"),
    (
        "endpoints:\n- http://a\n- b:8080",
        "line 3: endpoints[1].url is 'b:8080'; expected an http:// or https:// URL",
    ),
    ("endpoints: [ftp://a]", "is 'ftp://a'; expected an http:// or https:// URL with a host"),
    ("endpoints: ['http://']", "is 'http://'; expected"),
    ("endpoints: ['http://:8080']", "is 'http://:8080'; expected"),
    ("endpoints: ['http://a:99999']", "is 'http://a:99999'; expected"),
    ("endpoints: ['http://[::1']", "is 'http://[::1'; expected"),
    ("endpoints: ['http://a b']", "is 'http://a b'; expected"),
    ("endpoints: ['http://a', 'http://a/']", "line 1: endpoints names 'http://a' twice; keep one"),
    ("endpoints: [8080]", "endpoints[0] is 8080; expected a URL, or a mapping with url"),
    ("endpoints:\n-", "endpoints[0] is empty; expected a URL, or a mapping with url"),
    ("endpoints:\n- model: m", "line 2: endpoints[0] has no 'url'"),
    ("endpoints:\n- {url: 5}", "line 2: endpoints[0].url is 5; expected an http:// or https:// URL"),
    ("endpoints:\n- url: http://a\n  dialect: x", "line 3: endpoints[0].dialect is 'x'; expected auto"),
]

CONFLICTS: Cases = [
    (
        "async_inference:\n  max_batch_size: 100\n  batch_size: 101",
        "c.yaml line 3: async_inference.batch_size is 101, but async_inference.max_batch_size is 100; lower",
    ),
    (
        "async_inference:\n  batch_size: 4096",
        "line 2: async_inference.batch_size is 4096, but async_inference.max_bat",
    ),
    (
        "async_inference:\n  preset: aggressive\n  concurrent_requests: 12",
        "c.yaml line 3: async_inference.concurrent_requests is 12, but async_inference.preset 'aggressive' pins it "
        "to 16; leave one of them out",
    ),
]

MALFORMED: Cases = [
    ("model: m\n\tinput: 3", "c.yaml line 2: not valid YAML: "),
    ("input:\n\tlimit: 3", "c.yaml line 2: not valid YAML: a tab where only spaces may stand; indent with spaces"),
    ("a: b: c", "c.yaml line 1: not valid YAML: mapping values are not allowed here"),
    ("model: m\ninput: [a,\nb", "not valid YAML: while parsing a flow sequence (line 2), expected ',' or ']'"),
    ("model: 'm\n\n", "not valid YAML: while scanning a quoted scalar (line 1), found unexpected end"),
    ("input:\n  limit: 1\n ray: 2", "line 3: not valid YAML: "),
    ("model: @m", "line 1: not valid YAML: "),
    ("model: a\n---\nmodel: b", "line 2: not valid YAML: expected a single document in the stream"),
    ("model: *nobody", "line 1: not valid YAML: found undefined alias"),
    ("model: !thing x", "line 1: not valid YAML: could not determine a constructor for the tag"),
    ("model: !!python/object:os.system x", "line 1: not valid YAML: could not determine a constructor for the tag"),
    ("model: !thing [x]", "line 1: not valid YAML: could not determine a constructor for the tag"),
    ("a: 1\ninput:\n  limit: !!int x", "line 3: the value of 'input.limit' is not what its YAML type says"),
    ("input:\n  limit: " + "9" * 5000, "line 2: the value of 'input.limit' is not what its YAML type says"),
    ("<<: 5", "line 1: not valid YAML: while constructing a mapping, expected a mapping or list of mappings"),
    ("- a\n- b", "c.yaml line 1: the top level must be a mapping, lines of the form 'key: value'"),
    ("# c\njust words", "c.yaml line 2: the top level must be a mapping"),
    ("model: m\nray: {}\nmodel: n", "c.yaml line 3: 'model' is given twice, on lines 1 and 3; keep one"),
    ("input:\n  limit: 1\n\n  limit: 2", "line 4: 'input.limit' is given twice, on lines 2 and 4; keep one"),
    ("endpoints:\n- url: http://a\n  url: http://b", "line 3: 'endpoints[0].url' is given twice"),
    (b"model: m\nray: \xe9t\xe9\n", "c.yaml line 2: not UTF-8 text (byte 0xe9); save the file as UTF-8"),
    ("model: m\n".encode("utf-16"), "c.yaml line 1: not UTF-8 text (byte 0xff); save the file as UTF-8"),
    ("model: m\nray: a\x00b", "c.yaml line 2: holds a control character (U+0000); remove it"),
    ("[" * 20000, "c.yaml line 1: not a settings file: it is nested too deeply"),
    ("input: &a [*a]", "line 1: input is a list; expected a mapping"),
    ("input: &a {limit: *a}", "line 1: input.limit is a mapping; expected a whole number"),
]


@pytest.mark.parametrize(
    ("text", "words"),
    UNKNOWN_KEYS + ILL_TYPED + ENDPOINTS + CONFLICTS + MALFORMED,
    ids=lambda case: repr(case)[:40],
)
def test_a_mistake_in_a_file_is_told_in_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    message = complaint(tmp_path, text)
    assert words in message
    assert re.match(r"c\.yaml line \d+: ", message)
    assert len(message) < 300


@pytest.mark.parametrize(
    "text",
    [
        f"api_key_env: {SECRET}",
        f"api_key_env: ['{SECRET}']",
        f'api_key_env: "{SECRET}\\n"',
        'api_key_env: "FINE\\n"',
        f"endpoints:\n- url: http://a\n  api_key_env: {SECRET}",
        f"endpoints: ['http://user:{SECRET}@host']",
        f"endpoints: ['http://{SECRET}@host:port']",
        f"endpoints: ['http://host/v1?key={SECRET}']",
        f"endpoints: http://user:{SECRET}@host",
        f"endpoints: user:{SECRET}@host",
        f"input: {{paths: 's3://key:{SECRET}@bucket'}}",
        f"api_key: {SECRET}",
        "api_key_env: !sk-12 x",
        "api_key_env: *sk-12",
    ],
)
def test_what_may_be_a_key_is_not_repeated(tmp_path: Path, text: str) -> None:
    message = complaint(tmp_path, text)
    for part in ("sk-", "AbC", "456", "FINE"):
        assert part not in message


def test_a_file_whose_aliases_would_unfold_to_billions_of_values_is_told_as_quickly(tmp_path: Path) -> None:
    lists = "".join(f"      - &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]\n" for level in range(1, 30))
    message = complaint(tmp_path, f"input:\n  limit:\n      - &l0 [x]\n{lists}")
    assert message == "c.yaml line 2: input.limit is a list; expected a whole number of at least 1"


def test_a_pasted_key_is_told_what_to_do(tmp_path: Path) -> None:
    message = complaint(tmp_path, f"#\napi_key_env: {SECRET}")
    assert message.startswith("c.yaml line 2: api_key_env is not the name of an environment variable")
    assert "put the key in a variable" in message


def test_of_several_mistakes_the_first_is_told_and_the_others_counted(tmp_path: Path) -> None:
    message = complaint(tmp_path, "patience_s: x\nray:\n  adress: 1\ninput: 5\n")
    assert message.startswith("c.yaml line 1: patience_s is 'x'")
    assert message.endswith(" (and 2 more)")
    assert complaint(tmp_path, "model: a\nmodel: b\nray: 1\nray: 2\n").endswith("keep one (and 1 more)")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"async_inference.batch_size": "x"},
            "--batch-size is 'x'; expected auto or a whole number of at least 1",
        ),
        (
            {"endpoints": ["http://a", "a:1"]},
            "--endpoint is 'a:1'; expected an http:// or https:// URL with a host",
        ),
        ({"endpoints": [f"http://u:{SECRET}@a"]}, "--endpoint has a user, password, query or fragment in its URL"),
        ({"api_key_env": SECRET}, "--api-key-env is not the name of an environment variable"),
        ({"input.limit": True}, "input.limit is true; expected a whole number"),
        ({"input.text_column": ""}, "input.text_column is ''; expected a column name"),
        (
            {"async_inference.batch_size": 4096},
            "--batch-size is 4096, but async_inference.max_batch_size is 1000; lower the one or raise the other",
        ),
        (
            {"async_inference.preset": "aggressive", "async_inference.concurrent_requests": 4},
            "--concurrency is 4, but --async-preset 'aggressive' pins it to 16; leave one of them out",
        ),
        (
            {"async_inference.max_batch_size": 100},
            "c.yaml line 3: async_inference.batch_size is 500, but --max-batch-size is 100; lower the one",
        ),
    ],
    ids=lambda case: repr(case)[:40],
)
def test_a_mistake_on_the_command_line_names_the_option(
    tmp_path: Path, overrides: Mapping[str, object], message: str
) -> None:
    names = {
        "async_inference.batch_size": "--batch-size",
        "async_inference.max_batch_size": "--max-batch-size",
        "async_inference.preset": "--async-preset",
        "async_inference.concurrent_requests": "--concurrency",
        "endpoints": "--endpoint",
        "api_key_env": "--api-key-env",
    }
    path = tmp_path / "c.yaml"
    path.write_text("async_inference:\n  max_batch_size: 1000\n  batch_size: 500\n")
    with pytest.raises(UserError) as caught:
        load_settings(path, overrides, names)
    told = str(caught.value).replace(f"{tmp_path}/", "")
    assert told.startswith(message)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_an_override_does_not_hide_that_its_block_is_no_mapping(tmp_path: Path) -> None:
    assert "line 1: input is 5; expected a mapping" in complaint(tmp_path, "input: 5", {"input.limit": 3})


def test_a_named_file_must_be_there_and_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config file .*nowhere\.yaml; give the path of one") as caught:
        load_settings(tmp_path / "nowhere.yaml", {})
    assert caught.value.exit_code == USAGE
    with pytest.raises(UserError, match=r"cannot read the config file .*: Is a directory"):
        load_settings(tmp_path, {})
