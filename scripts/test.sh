#!/usr/bin/env bash
# Installs what the tests need into .venv and runs the whole suite; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

install test
say "running the tests"
"$python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"  # they mostly wait
