"""The files in config/: each is what its reader takes, and speaks to our command line as it is."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.__main__ import cli
from tests.conftest import ROOT

CONFIG = ROOT / "config"
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"


def read(name: str) -> Any:
    return yaml.safe_load((CONFIG / name).read_text())


def options(command: str) -> set[str]:
    return {option for param in cli.commands[command].params for option in (*param.opts, *param.secondary_opts)}


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each `rayembed COMMAND …` or `python -m jobs COMMAND …` in a text, with its options."""
    joined = re.sub(r"\\\n#?\s+", " ", text)
    found = re.findall(r"(?:python -m jobs|rayembed) (run|serve|probe|bench|verify) ([^\n`]*)", joined)
    return [(command, re.findall(r"(?<=\s)--?[a-z][a-z-]*", f" {rest}")) for command, rest in found]


@pytest.mark.parametrize("name", ["ray_up.yaml", "runtime_env.yaml"])
def test_every_option_that_is_used_exists(name: str) -> None:
    found = commands((CONFIG / name).read_text())
    for command, used in found:
        assert set(used) <= options(command), used
    assert found


def test_the_rayjob_has_the_fields_of_its_kind() -> None:
    """Names from KubeRay's API reference; whoever misspells one is told by nobody else."""
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec.keys() <= {
        *("entrypoint", "submissionMode", "backoffLimit", "submitterConfig", "shutdownAfterJobFinishes"),
        *("ttlSecondsAfterFinished", "activeDeadlineSeconds", "runtimeEnvYAML", "rayClusterSpec"),
    }
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    command = shlex.split(spec["entrypoint"])
    assert command[:4] == ["python", "-m", "jobs", "run"]
    assert {each for each in command[4:] if each.startswith("-")} <= options("run")
    key = command[command.index("--api-key-env") + 1]
    (waits,) = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"].items()
    assert waits == (STOP_WAIT, read("runtime_env.yaml")["env_vars"][STOP_WAIT])
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() <= {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["headGroupSpec"].keys() <= {"rayStartParams", "template"}
    (workers,) = cluster["workerGroupSpecs"]
    assert workers.keys() <= {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for template in (cluster["headGroupSpec"]["template"], workers["template"]):
        pod = template["spec"]
        (container,) = pod["containers"]
        assert container.keys() <= {"name", "image", "envFrom", "resources", "volumeMounts", "env", "ports"}
        assert container["envFrom"] == [{"secretRef": {"name": "rayembed-keys"}}], "so keys are in each node's Ray"
        (mount,) = container["volumeMounts"]
        assert mount["name"] in [volume["name"] for volume in pod["volumes"]]
        for place in (command[4], command[command.index("-o") + 1]):
            assert place.startswith(mount["mountPath"])
    assert f"--from-literal={key}=" in (CONFIG / "rayjob.yaml").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_up_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read("ray_up.yaml")
    jsonschema.validate(config, json.loads(files("ray.autoscaler").joinpath("ray-schema.json").read_text()))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["max_workers"] == len(config["provider"]["worker_ips"])
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in start[-1]
        _starts_with_known_options(start[-1])


def _starts_with_known_options(command: str) -> None:
    from ray.scripts.scripts import start

    known = {option for param in start.params for option in param.opts}
    used = re.findall(r"(?<=\s)--[a-z-]+", command[command.index("ray start") :])
    assert used
    assert set(used) <= known


def test_compose_brings_a_server_and_a_client_that_waits_for_it() -> None:
    compose = read("compose.yaml")
    server, client = compose["services"]["server"], compose["services"]["client"]
    assert client["depends_on"] == {"server": {"condition": "service_healthy"}}
    arguments = shlex.split(client["command"])
    endpoint = arguments[arguments.index("--endpoint") + 1]
    port = shlex.split(server["command"])[-1]
    assert endpoint == f"http://server:{port}"
    assert f"127.0.0.1:{port}/health" in " ".join(server["healthcheck"]["test"])
    assert {each for each in arguments if each.startswith("-")} <= options("run")
    mounted = [each.removesuffix(":ro").rpartition(":")[2] for each in client["volumes"]]
    assert {"/rayembed", arguments[0], str(Path(arguments[arguments.index("-o") + 1]).parent)} <= set(mounted)
    assert {each.split(":")[0] for each in server["volumes"]} <= compose["volumes"].keys()
    assert not any(re.match(r"[^/]+\.[a-z]+/", each["image"]) for each in (server, client))


@pytest.mark.parametrize("name", ["runtime_env.yaml", "runtime_env_uv.yaml"])
def test_ray_takes_the_runtime_env(name: str) -> None:
    from ray.runtime_env import RuntimeEnv

    environment = read(name)
    RuntimeEnv(**environment)
    assert float(environment["env_vars"][STOP_WAIT]) > 5


def test_the_runtime_env_installs_what_we_depend_on() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert read("runtime_env_uv.yaml")["uv"]["packages"] == [each for each in wanted if not each.startswith("ray")]
