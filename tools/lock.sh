#!/bin/sh
# Rewrites both lock files from pyproject.toml. They hold versions and hashes, and no address.
set -eu
cd "$(dirname "$0")/.."
compile="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate"
$compile --all-extras --group build pyproject.toml -o requirements.lock
$compile --all-extras --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
! grep -nE 'https?://' requirements.lock requirements-dev.lock
