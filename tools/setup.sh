#!/bin/sh
# Makes .venv and installs Fallow with locked dependencies: `run` what the network needs, `dev` what tests need too.
set -eu
cd "$(dirname "$0")/.."
kind=$1
python=${PYTHON:-python3}

apt_install() {
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    else
        echo "Please have installed: $*   (apt-get install $*)" >&2
        return 1
    fi
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Fallow needs Python 3.11 or newer; $python is $("$python" -V). Try: make PYTHON=python3.12" >&2
    exit 1
}
# Debian splits what a virtual environment needs from Python; where it is not there, others can make one, too.
make_venv() {
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .venv
    elif command -v virtualenv >/dev/null; then
        virtualenv --quiet --python "$python" .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip .venv
        "$python" -m pip --disable-pip-version-check --python .venv/bin/python install --quiet pip
    elif command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$python" .venv
    else
        apt_install python3-venv && "$python" -m venv .venv
    fi
}

command -v bwrap >/dev/null 2>&1 || apt_install bubblewrap || echo "Without bubblewrap, Python programs are left out." >&2

podman_works() { command -v podman >/dev/null 2>&1 && { command -v runc || command -v crun; } >/dev/null 2>&1; }
podman_works || apt_install podman runc uidmap || echo "Without podman, containers are left out." >&2
if [ "$kind" = dev ]; then
    command -v busybox >/dev/null 2>&1 || apt_install busybox-static ||
        echo "Without busybox, the tests of containers are left out." >&2
    command -v qemu-x86_64 >/dev/null 2>&1 || apt_install qemu-user ||
        echo "Without qemu-user, programs are not compared on several processors." >&2
    { command -v ip && command -v iptables; } >/dev/null 2>&1 || apt_install iproute2 iptables ||
        echo "Without iproute2 and iptables, the test behind a router is left out." >&2
    command -v npm >/dev/null 2>&1 || apt_install nodejs npm ||
        echo "Without nodejs and npm, contracts and console are not built and tested." >&2
    command -v chromium >/dev/null 2>&1 || apt_install chromium ||
        echo "Without chromium, the console is not tested in a browser." >&2
fi

[ -x .venv/bin/pip ] || make_venv

# Out of its package, not by installing that: Debian's starts a server.
refresh() { if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo -n apt-get update -qq; fi; }
take_promtool() {
    folder=$(mktemp -d)
    taken=1
    (cd "$folder" && { apt-get download -qq prometheus || { refresh && apt-get download -qq prometheus; }; } && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1 &&
        cp "$folder/usr/bin/promtool" .venv/bin/promtool && taken=0
    rm -rf "$folder"
    return $taken
}
if [ "$kind" = dev ]; then
    command -v promtool >/dev/null 2>&1 || [ -x .venv/bin/promtool ] || take_promtool ||
        echo "Without promtool, the alert rules are not tested." >&2
fi
lock=requirements.lock
[ "$kind" = dev ] && lock=requirements-dev.lock
echo "Installing dependencies into .venv (once) ..."
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
[ "$kind" = dev ] && touch .venv/run.stamp
touch ".venv/$kind.stamp"
