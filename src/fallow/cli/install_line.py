"""The one line that makes another machine a node: it installs the agent that the network hands out, and joins."""

from __future__ import annotations

import shlex

from fallow.domain.pins import split_token


def install_line(url: str, token: str, script_sha256: str) -> str:
    """Return the line for the other machine's shell (POSIX, with curl).

    Nothing is run that was not authenticated: the line came with the token, and holds the hash of the script. Only for
    that reason may curl download it without knowing the network's own certificate authority.
    """
    get = "curl -fsSk" if split_token(token).pin else "curl -fsS"
    check = f'echo "{script_sha256}  $f" | sha256sum -c --quiet'
    where = shlex.quote(f"{url}/install.sh")
    return f'f=$(mktemp) && {get} {where} -o "$f" && {check} && sh "$f" {shlex.quote(url)} {shlex.quote(token)}'
