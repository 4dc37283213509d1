#!/usr/bin/env bash
# A new user's first quarter of an hour, from the docs alone: fresh clone, the example, then a model of their own on data
# that the repository does not hold. Prints a table of steps and seconds, and ends with 1 when it took too long.
#
#   bash bench/newcomer.sh [SOURCE]     SOURCE: what is cloned; by default this repository
#
# The clone has what is committed; a folder that is no repository is copied, without .venv and var.
#
# MAX_S: seconds that all steps may take together (900). KEEP=1 leaves the clone.
set -euo pipefail

source=$(cd "${1:-$(dirname "$0")/..}" && pwd)
max_s=${MAX_S:-900}
place=$(mktemp -d "${TMPDIR:-/tmp}/newcomer-XXXXXX")
clone=$place/insitu
log=$place/log.txt
steps=()
total_ms=0

finish() {
  [ -n "${KEEP:-}" ] && echo "left: $place" || rm -rf "$place"
}
trap finish EXIT

step() { # NAME COMMAND...
  local name=$1 start end
  shift
  printf '%s ...\n' "$name" >&2
  start=$(date +%s%3N)
  if ! "$@" >>"$log" 2>&1; then
    echo "failed: $name ($*)" >&2
    tail -n 40 "$log" >&2
    exit 1
  fi
  end=$(date +%s%3N)
  steps+=("$(printf '%-52s %8.1f' "$name" "$(awk "BEGIN { print ($end - $start) / 1000 }")")")
  total_ms=$((total_ms + end - start))
}

get_it() {
  if git -C "$source" rev-parse --git-dir >/dev/null 2>&1; then
    git clone --quiet "$source" "$clone"
  else
    mkdir "$clone" && tar -C "$source" --exclude=./.venv --exclude=./var -cf - . | tar -C "$clone" -xf -
  fi
}

write_data() {
  .venv/bin/python -c '
from sklearn.datasets import load_breast_cancer

load_breast_cancer(as_frame=True).frame.to_csv("cancer.csv", index=False)'
}

unset INSITU_PROJECT PREFECT_API_URL
step "clone" get_it
cd "$clone"
step "make retrain: install, and the example" make retrain
step "data of one's own" write_data
step "insitu init cancer --data cancer.csv" .venv/bin/insitu init cancer --data cancer.csv
step "insitu plan cancer" .venv/bin/insitu plan cancer
step "insitu retrain cancer" .venv/bin/insitu retrain cancer
step "insitu score cancer" .venv/bin/insitu score cancer
step "insitu history cancer" .venv/bin/insitu history cancer
.venv/bin/insitu show cancer 1 --json | grep -q '"reference": "oci:' || { echo "nothing was published" >&2; exit 1; }

printf '\n%-52s %8s\n' "step" "seconds"
printf '%s\n' "${steps[@]}"
total=$(awk "BEGIN { printf \"%.1f\", $total_ms / 1000 }")
printf '%-52s %8s   of at most %s\n' "together" "$total" "$max_s"
awk "BEGIN { exit !($total <= $max_s) }"
