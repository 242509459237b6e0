#!/bin/sh
# Installs the agent of a Fallow network on this machine, and joins the network with it:
#
#     sh install.sh URL TOKEN [options of `fallow agent join`]
#
# Who runs this has checked its hash, which came with the token. The hash below then vouches for the wheel that the
# network serves, and the wheel's own list of hashes for the packages that it needs; these come from the package index
# that pip is set up for. So it does not matter that the download is not encrypted to anybody in particular.
# FALLOW_PREFIX and FALLOW_AGENT_HOME name other folders for the program and for what it keeps.
set -eu
wheel=@WHEEL@
sha256=@SHA256@

fail() {
    echo "$1" >&2
    exit 1
}

as_root() { [ "$(id -u)" = 0 ]; }

find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is missing. Install it (Debian and Ubuntu: apt-get install python3), and try again."
}

# Debian splits what a virtual environment needs from Python.
make_venv() {
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "$prefix"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$prefix"
        "$python" -m pip --disable-pip-version-check --python "$prefix/bin/python" install --quiet pip
    elif as_root && command -v apt-get >/dev/null; then
        echo "Installing Debian's package python3-venv ..."
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
        "$python" -m venv "$prefix"
    else
        fail "Python's venv module is missing. Install it (Debian and Ubuntu: apt-get install python3-venv), and try again."
    fi
}

install() { "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"; }

link_command() {
    if [ -n "$bin" ] && mkdir -p "$bin" && { [ ! -e "$bin/fallow" ] || [ "$(readlink "$bin/fallow")" = "$command" ]; }; then
        ln -sf "$command" "$bin/fallow"
        echo "The command to look after it: $bin/fallow"
    else
        echo "The command to look after it: $command"
    fi
}

[ $# -ge 2 ] || fail "usage: sh install.sh URL TOKEN [options of fallow agent join]"
url=$1 token=$2
shift 2
if as_root; then
    prefix=/opt/fallow-agent bin=/usr/local/bin scope=--system systemctl="systemctl"
else
    prefix=${XDG_DATA_HOME:-$HOME/.local/share}/fallow-agent bin=$HOME/.local/bin
    scope=--user systemctl="systemctl --user"
fi
[ -z "${FALLOW_PREFIX:-}" ] || prefix=$FALLOW_PREFIX bin=
command=$prefix/bin/fallow

echo "This installs Fallow's agent into $prefix: $wheel from $url,"
echo "and the packages that it needs from your package index. It does not join or run before you agree."
python=$(find_python)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
curl -fsSk --max-filesize 67108864 "$url/install/$wheel" -o "$folder/$wheel" || fail "$url does not hand out $wheel."
echo "$sha256  $folder/$wheel" | sha256sum -c --status || fail "$wheel is not the one that was announced. It was not used."
"$python" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("fallow/agent/requirements.lock"))' \
    "$folder/$wheel" >"$folder/requirements.lock"
make_venv
install --require-hashes -r "$folder/requirements.lock"
install --no-deps --no-index --force-reinstall "$folder/$wheel"
# Python 3.11 puts it into each environment; nothing here uses its 10 MB.
"$prefix/bin/python" -m pip uninstall -qq --disable-pip-version-check --yes setuptools
rm -rf "$folder"

FALLOW_TOKEN=$token "$command" agent join "$url" --no-start "$@"
link_command
if $systemctl show-environment >/dev/null 2>&1; then
    "$command" agent service "$scope"
    $systemctl daemon-reload && $systemctl enable --now fallow-agent.service
    echo "It serves now, and from each start of the machine on. See: fallow agent status"
else
    echo "There is no systemd here: the agent serves in the foreground, until Ctrl-C. Later: fallow agent run"
    exec "$command" agent run
fi
