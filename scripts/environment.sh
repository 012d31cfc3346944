# Sourced by the other scripts: makes .venv beside them and installs what they ask for. Safe to run again.
# RAYEMBED_VENV names another place for it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${RAYEMBED_VENV:-$root/.venv}
python=$venv/bin/python

say() { printf '\n== %s\n' "$*" >&2; }

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "no Python 3.11 or newer found on the PATH; install one and run this again" >&2
  return 1
}

# install GROUP...: this checkout with its dependencies, and these dependency groups, at the versions of constraints.txt
install() {
  local wanted=(-c "$root/constraints.txt" -e "$root") group
  for group in "$@"; do wanted+=(--group "$root/pyproject.toml:$group"); done
  if command -v uv >/dev/null; then
    say "installing into $venv with uv"
    [ -x "$python" ] || uv venv --quiet --python '>=3.11' "$venv"
    # compiled now, else every Ray worker compiles for itself: starting takes three times as long
    uv pip install --quiet --compile-bytecode --python "$python" "${wanted[@]}"
  else
    say "installing into $venv with pip (uv would be quicker)"
    [ -x "$python" ] || "$(find_python)" -m venv "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
    PYTHONDONTWRITEBYTECODE= "$python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}"
  fi
}
