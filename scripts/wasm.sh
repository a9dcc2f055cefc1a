#!/bin/sh
# Build the planner for wasm32, which proves that it needs no clock, no files and no network.
#
# The toolchain of the repository has no wasm32 standard library and rustup may be out of reach, so this borrows Debian's
# newest Rust (rustc-web, from bookworm-security) with its matching library sources, and builds std from those, offline.
# Packages are installed only when missing; the repository's own toolchain is not touched.
set -eu
cd "$(dirname "$0")/.."

compiler=/usr/bin/rustc
target=wasm32-unknown-unknown

if ! dpkg-query -W -f '${Status}\n' rustc-web rust-web-src 2>/dev/null | grep -c 'ok installed' | grep -qx 2; then
    root=
    [ "$(id -u)" -eq 0 ] || root=sudo
    $root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends rustc-web rust-web-src >/dev/null
fi

# RUSTC_BOOTSTRAP lets a stable compiler build its own standard library; nothing of ours uses an unstable feature.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/wasm RUSTC=$compiler RUSTC_BOOTSTRAP=1 \
    cargo build --quiet --locked --package grove-tree --lib --target $target -Z build-std=std,panic_abort
echo "grove-tree builds for $target with $($compiler --version)"
