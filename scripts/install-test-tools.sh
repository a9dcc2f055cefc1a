#!/usr/bin/env bash
# Installs what `make test` needs and this machine lacks: browsers, an audio server for Firefox, cargo-nextest.
# Quiet when everything is there; safe to run again. Needs Debian or Ubuntu, and root or sudo, only when something
# is missing.
set -euo pipefail

declare -A package_of=(
  [chromium]=chromium
  [firefox-esr]=firefox-esr
  [pulseaudio]=pulseaudio
  [pactl]=pulseaudio-utils
  [taskset]=util-linux
)

missing=()
for command in "${!package_of[@]}"; do
  command -v "$command" >/dev/null || missing+=("${package_of[$command]}")
done

if ((${#missing[@]})); then
  if ! command -v apt-get >/dev/null; then
    echo "Please install: ${missing[*]} (this machine has no apt-get, so it cannot be done from here)." >&2
    exit 1
  fi
  as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "Please install as root: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "Installing ${missing[*]} ..."
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! { "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "The packages could not be installed; the lines above say why. Needed: ${missing[*]}" >&2
    exit 1
  fi
fi

if ! cargo nextest --version >/dev/null 2>&1; then
  echo "Installing cargo-nextest (a few minutes, once) ..."
  cargo install --locked --quiet cargo-nextest
fi
