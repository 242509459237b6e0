#!/bin/sh
# Build pathtracer.wasm: build.sh [OUTPUT]. The same bytes come out on every machine with the same ziglang.
# PYTHON names the interpreter that has ziglang (default: python3). Nothing is written outside OUTPUT and a temp folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
output=$(realpath -m "${1:-$here/pathtracer.wasm}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$work/global}" ZIG_LOCAL_CACHE_DIR="$work/local" HOME="$work"
cp "$here/pathtracer.c" "$work/"
cd "$work" # relative names only, so that no path of this machine gets into the file
"${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -mcpu=generic -O2 -ffp-contract=off -fno-fast-math \
    -Wall -Wextra -Werror -s -Wl,-z,stack-size=262144 -o program.wasm pathtracer.c
cp program.wasm "$output"
