#!/usr/bin/env bash
# Proves on this machine's GPU that the job fills it: our own server, with batches shared by all requests and with one
# request a batch, a large model and a small one; one request at a time, the guide's 8 x 512, auto; and the model alone.
#
#   bash scripts/gpu_proof.sh [--wheels DIR] [OPTION...]      --help lists the options
#
# Needs a Python with PyTorch (PYTHON=… names one), and takes all else from the registry or, where there is none, from
# a folder of wheels: then it says which are missing and how to get them. What it finds stands in ./gpu_proof: table.md,
# results.json, and the report of each auto run. What is there already is not measured again.
#
# Time, with nothing set: installing 60 s; for each model 15 s to make it, 30 s alone, 15 s for its servers; for each
# server auto 100 s (20 s to start and stop, 20 s of ramp, 60 s measured), the others 85 s each. One model is 10 minutes,
# both are 20. --minutes counts from when all is installed, and begins no cell that would end later. On a machine that
# is lent for 15 minutes, 10 minutes a command:
#   bash scripts/gpu_proof.sh --models 24x1024 --minutes 8.5                                              4 to 6 cells
#   bash scripts/gpu_proof.sh --models small --servers dynamic --seconds 15 --ramp 10 --minutes 3         3 cells
# Without a GPU: --device cpu --models small 2x64 --texts 2000 --seconds 20.
#
# Where what is carried there is limited to 64 MiB (with the checkout): `python3 scripts/gpu_proof_wheels.py slim
# RAY.whl DIR` makes 30 MB of Ray's 79, and the small model's 83 MB are 45 as `python3 scripts/gpu_proof_models.py
# DIR small` writes it here, for --model-folder DIR there; carry them in two calls.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${RAYEMBED_VENV:-$root/.venv-gpu}
wheels=
if [ "${1:-}" = --wheels ]; then
  wheels=$(cd "${2:?--wheels needs a folder}" && pwd)
  shift 2
fi
say() { printf '\n== %s\n' "$*" >&2; }

python=
for candidate in ${PYTHON:-python3 python}; do
  if "$candidate" -c 'import sys, torch; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(command -v "$candidate")
    break
  fi
done
if [ -z "$python" ]; then
  echo "no Python 3.11 or newer with PyTorch found; name one with PYTHON=…" >&2
  exit 2
fi

say "$python with PyTorch $("$python" -c 'import torch; print(torch.__version__, "CUDA", torch.version.cuda)'), environment in $venv"
# Without pip, which a bare Python cannot put there; and what is beside PyTorch, which may be in a venv itself.
[ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages --without-pip "$venv"
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' >"$packages/machine.pth"
pip=("$python" -m pip --python "$venv/bin/python" --quiet --disable-pip-version-check install)
if [ -n "$wheels" ]; then
  chosen=$("$venv/bin/python" "$root/scripts/gpu_proof_wheels.py" choose "$wheels")
  # shellcheck disable=SC2086
  [ -z "$chosen" ] || "${pip[@]}" --no-index --no-deps $chosen
else
  "$venv/bin/python" "$root/scripts/gpu_proof_wheels.py" needed >"$venv/needed.txt"
  "${pip[@]}" -r "$venv/needed.txt"
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$venv/bin/python" "$root/scripts/gpu_proof.py" "$@"
