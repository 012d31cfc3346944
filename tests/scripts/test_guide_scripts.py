"""The guide's commands, as it writes them: each starts, and asks `rayembed` for what it should."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from jobs.__main__ import cli
from tests.jobs.bench.made import save_three

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


def script(name: str, *arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python scripts/NAME …` as from the project root, with nothing on the path but what the script puts there."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("mode", ["async", "sync", "both"])
@pytest.mark.parametrize("concurrent", ["4", "8", "16"])
def test_the_guides_flags_are_those_of_bench(mode: str, concurrent: str) -> None:
    parsed = cli.commands["bench"].make_context("bench", ["--mode", mode, "--concurrent", concurrent])
    assert (parsed.params["mode"], parsed.params["concurrent"]) == (mode, int(concurrent))


def test_test_async_performance_is_bench() -> None:
    ran = script("test_async_performance.py", "--mode", "both", "--concurrent", "8", "--endpoint", "no-url")
    assert ran.returncode == 2
    assert ran.stderr.startswith("rayembed: --endpoint is 'no-url'; expected an http:// or https:// URL")


def test_pytest_finds_no_test_in_it() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "scripts"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode in (4, 5), "no tests were collected"
    assert "::" not in ran.stdout


def test_compare_results_is_compare(tmp_path: Path) -> None:
    save_three(tmp_path / "quick_test_results")
    ran = script("compare_results.py", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "3 results" in ran.stdout
    assert (tmp_path / "comparison_report.html").read_text("utf-8").endswith("</html>")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--batch", "1"], ["run", "--sync", "--batch", "1"]),
        (["--async", "--batch", "1"], ["run", "--async", "--batch", "1"]),
        (["--batch", "1", "--async"], ["run", "--batch", "1", "--async"]),
        (
            ["--async", "--async-preset", "aggressive", "--batch", "2"],
            ["run", "--async", "--async-preset", "aggressive", "--batch", "2"],
        ),
    ],
)
def test_run_phase1_is_run_and_synchronous_without_async(
    monkeypatch: pytest.MonkeyPatch, given: list[str], wanted: list[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from run_phase1 import translated  # type: ignore[import-not-found]

    assert translated(given) == wanted
    parsed = cli.commands["run"].make_context("run", wanted[1:])
    assert parsed.params["use_async"] is ("--async" in given)
    assert parsed.params["batch"] == int(given[given.index("--batch") + 1])


def test_run_phase1_says_what_is_missing(tmp_path: Path) -> None:
    ran = script("run_phase1.py", "--async", "--batch", "1", folder=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("rayembed: no input: ")
    assert "input.paths in the config file" in ran.stderr
    ran = script("run_phase1.py", "--async-preset", "recommended", folder=tmp_path)
    assert ran.returncode == 2
    assert "add --async" in ran.stderr


def test_a_python_without_what_is_needed_hands_over_to_the_one_that_has_it(tmp_path: Path) -> None:
    bare = [sys.executable, "-E", "-S", str(SCRIPTS / "compare_results.py"), "--help"]
    asked: dict[str, str] = {**os.environ, "RAYEMBED_VENV": str(tmp_path / "none")}
    ran = subprocess.run(bare, env=asked, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "run scripts/quick_async_test.sh, which installs it" in ran.stderr
    _fake_python(tmp_path / "venv", tmp_path / "log")
    asked["RAYEMBED_VENV"] = str(tmp_path / "venv")
    ran = subprocess.run(bare, env=asked, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "log").read_text() == "-m jobs compare --help\n"


def _fake_python(venv: Path, log: Path, code: int = 0) -> None:
    """One that writes down what it is asked for, and ends with `code` when it is to measure."""
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {shlex.quote(str(log))}\ncase "$*" in "-m jobs bench"*) exit {code};; esac\n'
    )
    python.chmod(0o755)


def quick(tmp_path: Path, *arguments: str, code: int = 0) -> tuple[int, list[str]]:
    """Exit code of `quick_async_test.sh`, and the command lines of `python -m jobs` that it came to."""
    _fake_python(tmp_path / "venv", tmp_path / "log", code)
    ran = subprocess.run(
        [str(SCRIPTS / "quick_async_test.sh"), *arguments],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "RAYEMBED_VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    log = tmp_path / "log"
    asked = log.read_text().splitlines() if log.exists() else []
    return ran.returncode, [line.removeprefix("-m jobs ") for line in asked if line.startswith("-m jobs")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("arguments", "wanted", "folder"),
    [
        ([], "bench --mode async", "quick_test_results"),
        (["async"], "bench --mode async", "quick_test_results"),
        (["sync"], "bench --mode sync", "quick_test_results"),
        (["both"], "bench --mode both", "quick_test_results"),
        (["both", "--seconds", "30"], "bench --mode both --seconds 30", "quick_test_results"),
        (["--seconds", "30"], "bench --mode async --seconds 30", "quick_test_results"),
        (["both", "--results", "there"], "bench --mode both --results there", "there"),
        (["both", "--results=there", "--json"], "bench --mode both --results=there --json", "there"),
    ],
)
def test_the_quick_test(tmp_path: Path, arguments: list[str], wanted: str, folder: str) -> None:
    assert quick(tmp_path, *arguments) == (0, [wanted, f"compare {folder}"])
    cli.commands["bench"].make_context("bench", shlex.split(wanted)[1:])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_the_quick_test_ends_as_the_measurement_did(tmp_path: Path) -> None:
    assert quick(tmp_path / "a", "fast") == (2, [])
    assert quick(tmp_path / "b", code=3) == (3, ["bench --mode async", "compare quick_test_results"])
    assert quick(tmp_path / "c", code=130) == (130, ["bench --mode async"])


def test_the_quick_test_for_windows() -> None:
    """It cannot be run here: its parts are looked at."""
    content = (SCRIPTS / "quick_async_test.bat").read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n"), "goto misses labels in files with other ends of lines"
    lines = [line for line in content.decode("ascii").splitlines() if line and not line.startswith("rem ")]
    labels = {line[1:] for line in lines if line.startswith(":")}
    assert {found for line in lines for found in re.findall(r"goto (\w+)", line)} <= labels
    assert {found for line in lines for found in re.findall(r'"%MODE%"=="(\w+)"', line)} == {
        "async",
        "sync",
        "both",
    }
    commands = [found[1].split() for line in lines if (found := re.search(r"python\.exe -m jobs (.*)", line))]
    assert [command[0] for command in commands] == ["bench", "compare"]
    for name, *arguments in commands:
        command: click.Command = cli.commands[name]
        command.make_context(name, [each.replace("%MODE%", "both") for each in arguments])
    assert all((ROOT / path).exists() for path in ("constraints.txt", "config/phase1_config.yaml"))
    assert lines[-1] == "exit /b %STATUS%"
