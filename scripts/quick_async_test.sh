#!/usr/bin/env bash
# The guide's one-step test: quick_async_test.sh [sync|async|both] [options of `rayembed bench`], async by default.
# Installs rayembed into .venv, measures for about two minutes, and draws what was saved. With no endpoint in
# config/phase1_config.yaml or after --endpoint it is a local server that is tested.
set -euo pipefail

mode=${1:-async}
case $mode in
  sync | async | both) shift $(($# > 0)) ;;
  -*) mode=async ;;
  *)
    echo "quick_async_test.sh: no mode '$mode'; choose sync, async or both" >&2
    exit 2
    ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

results=quick_test_results
before=
for each in "$@"; do
  case $before$each in
    --results=*) results=${each#--results=} ;;
    --results?*) results=$each ;;
  esac
  before=
  [ "$each" = --results ] && before=--results
done

install
say "measuring: $mode"
status=0
"$python" -m jobs bench --mode "$mode" "$@" || status=$?
# 3: some rows were rejected; 1: the vectors differ, or nothing was saved
case $status in
  0 | 1 | 3) "$python" -m jobs compare "$results" >&2 || true ;; # stdout is for what `--json` prints
esac
exit "$status"
