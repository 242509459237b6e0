"""`fallow login`."""

from __future__ import annotations

import asyncio
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.cli.account_key import KeyFile
from fallow.cli.profiles import Profile, client_of, profile_path, read_ca, save
from fallow.cli.show import Json, say, show_json, tell
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed
from fallow.domain.pins import PIN_PREFIX, read_pin
from fallow.sdk.sync import Client
from fallow.sdk.trust import fetch_ca

PATIENCE_S = 5.0
"""Who mistyped the address wants to hear it soon."""

Ca = Annotated[
    str, Parameter(help="The network's own certificate authority: its pin, sha256:..., or its certificate's PEM file.")
]


def login(url: str, key: str | None = None, /, *, ca: Ca = "", account_key: KeyFile = None, json: Json = False) -> int:
    """Remember a network and your API key, once the network has accepted it.

    Without KEY you are asked for it, so that it does not stay in your shell's history. An account that keeps its own
    key signs with it, once, that this machine signs its orders and receipts.
    """
    url = url.rstrip("/")
    authority = _authority(url, ca) if ca else ""
    profile = Profile(url, key or _asked_key(), authority)
    with client_of(profile, patience_s=PATIENCE_S) as client:
        network = client.network()
        signing_key = _delegated(client, account_key) if _buys(client) else ""
    profile = profile._replace(signing_key=signing_key)
    path = profile_path()
    save(profile, path)
    if json:
        show_json({"url": profile.url, "net": network.net, "profile": str(path)})
    else:
        say(f"Logged in to {network.net} ({network.preset}). The key is in {path}.")
        if signing_key:
            say("It signs your orders, and receipts for what comes: see `fallow key signing`.")
    return 0


def _asked_key() -> str:
    if not sys.stdin.isatty():
        raise InvalidInput("login.key", "There is no API key, and nobody to ask for it.", "fallow login URL KEY")
    return getpass("API key: ").strip()


def _authority(url: str, ca: str) -> str:
    """Return the certificate that `--ca` names."""
    if not ca.startswith(PIN_PREFIX):
        return read_ca(Path(ca))
    return asyncio.run(fetch_ca(url, read_pin(ca)))


def _buys(client: Client) -> bool:
    """Whether the network knows the key, and lets it buy: an operator's need not be able to."""
    try:
        client.balance()
    except NotAllowed as error:
        if error.code.startswith("auth."):
            raise
        return False
    return True


def _delegated(client: Client, account_key: Path | None) -> str:
    """Make a key on this machine that signs for the account; none where the account's own key is elsewhere."""
    try:
        return client.delegate().text
    except Conflict as error:
        if error.code != "delegation.account":
            raise
    if account_key is None:
        tell("Your account keeps its own key: nothing signs your orders here. To change that: --account-key FILE")
        return ""
    from fallow.bootstrap.account_key import signs_texts  # noqa: PLC0415 - not installed with every part of Fallow

    return client.delegate(by=signs_texts(account_key)).text
