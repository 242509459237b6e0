"""`fallow login`."""

from __future__ import annotations

from getpass import getpass

from fallow.cli.profiles import Profile, profile_path, save
from fallow.cli.show import Json, say, show_json
from fallow.sdk.sync import Client


def login(url: str, key: str | None = None, /, *, json: Json = False) -> int:
    """Remember a network and your API key, once the network has accepted it.

    Without KEY you are asked for it, so that it does not stay in your shell's history.
    """
    profile = Profile(url.rstrip("/"), key or getpass("API key: ").strip())
    with Client(*profile) as client:
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


def _known(client: Client) -> None:
    from fallow.domain.errors import NotAllowed  # noqa: PLC0415 - beside its only use

    try:
        client.balance()
    except NotAllowed as error:
        if error.code.startswith("auth."):
            raise
