#!/usr/bin/env bash
# Installs the distribution's packages named as arguments that are missing (package:command pairs).
#   scripts/system_packages.sh mosquitto:mosquitto chromium:chromium
set -euo pipefail
missing=()
for pair in "$@"; do
  command -v "${pair#*:}" >/dev/null || compgen -G "/usr/sbin/${pair#*:}" >/dev/null ||
    compgen -G "/usr/lib/*/*/bin/${pair#*:}" >/dev/null || missing+=("${pair%%:*}")
done
[ ${#missing[@]} = 0 ] && exit 0
install() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; }; then
  echo "error: tests need ${missing[*]}. Install with: sudo apt-get install -y ${missing[*]}" >&2
  exit 1
fi
echo "Installing for the tests: ${missing[*]}" >&2
install apt-get update -qq
DEBIAN_FRONTEND=noninteractive install apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
