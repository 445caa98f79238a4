#!/usr/bin/env bash
# Sets up .venv: Python, torch (CPU), Horovod (compiled once, cached), everything else pinned.
#   scripts/setup.sh          what the product needs
#   scripts/setup.sh dev      and what its tests need
# Environment: PYTHON=python3.12  VENV=.venv  TORCH_INDEX=https://…/whl/cu126 (another torch build)
set -euo pipefail
cd "$(dirname "$0")/.."

extra=${1:-}
venv=${VENV:-.venv}
cpu_index=https://download.pytorch.org/whl/cpu

die() { printf 'error: %s\n' "$1" >&2; exit 1; }
say() { printf '\033[1m==>\033[0m %s\n' "$1" >&2; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Python 3.11 or 3.12 not found. Install with: sudo apt-get install -y python3 python3-venv python3-dev (or set PYTHON=/path/to/python3.11)"
}

check_machine() {
  local missing=() tool version
  for tool in gcc g++ make; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  [ ${#missing[@]} = 0 ] || die "${missing[*]} not found (Horovod is compiled once). Install with: sudo apt-get install -y build-essential"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "Python's venv module is missing. Install with: sudo apt-get install -y python$version-venv"
  "$python" -c 'import pathlib, sys, sysconfig; sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").exists())' ||
    die "Python's headers are missing. Install with: sudo apt-get install -y python$version-dev"
}

torch_arguments() {
  if [ -n "${TORCH_INDEX:-}" ]; then
    echo "--index-url $TORCH_INDEX"
  elif "$python" -c "import urllib.request as u; u.urlopen('$cpu_index/torch/', timeout=3)" 2>/dev/null; then
    echo "--index-url $cpu_index"
  fi
}

pip_install() { "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --constraint constraints.txt "$@"; }

python=$(find_python)
stamp="$venv/.ready-$(cat pyproject.toml constraints.txt scripts/setup.sh scripts/horovod_wheel.py | sha256sum | cut -c1-16)"
if [ -f "$stamp" ] && { [ "$extra" != dev ] || [ -f "$stamp-dev" ]; }; then exit 0; fi
check_machine

started=$SECONDS
if [ ! -x "$venv/bin/python" ]; then
  say "1/4 virtual environment in $venv ($("$python" --version))"
  "$python" -m venv "$venv"
fi
say "2/4 torch and build tools"
# shellcheck disable=SC2046  # zero or two words
"$venv/bin/python" -c 'import torch' 2>/dev/null || pip_install $(torch_arguments) torch
pip_install setuptools wheel packaging cloudpickle psutil pyyaml cffi cmake
say "3/4 Horovod"
"$venv/bin/python" scripts/horovod_wheel.py --if-needed
say "4/4 PulseRing and what it needs"
pip_install --no-build-isolation --editable ".${extra:+[$extra]}"
rm -f "$venv"/.ready-*
touch "$stamp"
if [ "$extra" = dev ]; then touch "$stamp-dev"; fi
say "ready after $((SECONDS - started)) s"
