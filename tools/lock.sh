#!/bin/sh
# Rewrites the lock files from pyproject.toml. They hold versions and hashes, and no address.
set -eu
cd "$(dirname "$0")/.."
compile="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate"
$compile --all-extras --group build pyproject.toml -o requirements.lock
$compile --all-extras --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
# What an agent gets that a network installs: it lies in the wheel, and the packages come from the machine's own index.
agent=src/fallow/agent/requirements.lock
$compile --extra agent -c requirements.lock pyproject.toml -o "$agent"
! grep -nE 'https?://' requirements.lock requirements-dev.lock "$agent"
