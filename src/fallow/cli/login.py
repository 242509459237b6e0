"""`fallow login`."""

from __future__ import annotations

import asyncio
from getpass import getpass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.cli.profiles import Profile, client_of, profile_path, read_ca, save
from fallow.cli.show import Json, say, show_json
from fallow.domain.pins import PIN_PREFIX, read_pin
from fallow.sdk.sync import Client
from fallow.sdk.trust import fetch_ca

PATIENCE_S = 5.0
"""Who mistyped the address wants to hear it soon."""

Ca = Annotated[
    str, Parameter(help="The network's own certificate authority: its pin, sha256:..., or its certificate's PEM file.")
]


def login(url: str, key: str | None = None, /, *, ca: Ca = "", json: Json = False) -> int:
    """Remember a network and your API key, once the network has accepted it.

    Without KEY you are asked for it, so that it does not stay in your shell's history.
    """
    url = url.rstrip("/")
    authority = _authority(url, ca) if ca else ""
    profile = Profile(url, key or getpass("API key: ").strip(), authority)
    with client_of(profile, patience_s=PATIENCE_S) as client:
        network = client.network()
        # An operator's key need not be able to buy: what is asked here only tells whether the key is known.
        _known(client)
    path = profile_path()
    save(profile, path)
    if json:
        show_json({"url": profile.url, "net": network.net, "profile": str(path)})
    else:
        say(f"Logged in to {network.net} ({network.preset}). The key is in {path}.")
    return 0


def _authority(url: str, ca: str) -> str:
    """Return the certificate that `--ca` names."""
    if not ca.startswith(PIN_PREFIX):
        return read_ca(Path(ca))
    return asyncio.run(fetch_ca(url, read_pin(ca)))


def _known(client: Client) -> None:
    from fallow.domain.errors import NotAllowed  # noqa: PLC0415 - beside its only use

    try:
        client.balance()
    except NotAllowed as error:
        if error.code.startswith("auth."):
            raise
