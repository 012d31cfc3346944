#!/usr/bin/env bash
# Installs rayembed into .venv, embeds a real corpus with a real model on this machine, and searches the vectors.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

install
say "embedding a sample corpus through the whole pipeline"
"$python" -m jobs demo "$@"
say "next: .venv/bin/rayembed run CORPUS -o OUT --endpoint http://your-server:8000"
