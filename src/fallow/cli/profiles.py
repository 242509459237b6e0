"""Which network the commands talk to, and with which key."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.cli.show import clean, tell
from fallow.domain.errors import FallowError
from fallow.sdk.patience import PATIENCE_S
from fallow.sdk.profile import Profile, known_authority, load, profile_path, read_ca
from fallow.sdk.signing import BuyerKey
from fallow.sdk.sync import Client
from fallow.sdk.trust import trusting

__all__ = [
    "Authority",
    "From",
    "Profile",
    "client_at",
    "client_of",
    "connect",
    "load",
    "profile_at",
    "profile_path",
    "read_ca",
    "save",
    "write_private",
]

From = Annotated[str, Parameter(name="--from", help="The network; left out, the one in your profile.")]
Authority = Annotated[Path | None, Parameter(help="Certificate file (PEM) of the network's own authority.")]


def save(profile: Profile, path: Path) -> None:
    """Write the profile, readable by its owner only, completely or not at all."""
    # A JSON string of printable ASCII is a TOML string.
    write_private("".join(f"{name} = {json.dumps(value)}\n" for name, value in profile._asdict().items()), path)


def write_private(text: str, path: Path) -> None:
    """Write a file, readable by its owner only, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Made with mode 0600: at no moment can others read it.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def client_of(profile: Profile, *, patience_s: float = PATIENCE_S) -> Client:
    """Return a client of a network, which says so when it waits for it; the caller closes it."""

    def say_that_it_waits(error: FallowError) -> None:
        tell(f"Waiting for the network at {profile.url} (Ctrl-C ends it): {clean(error.message)}")

    return Client(
        profile.url,
        profile.api_key,
        ca=trusting(profile.ca) if profile.ca else None,
        patience_s=patience_s,
        on_wait=say_that_it_waits,
        signing_key=BuyerKey.read(profile.signing_key) if profile.signing_key else None,
    )


def connect() -> Client:
    """Return a client of the network in use; the caller closes it."""
    return client_of(load())


def profile_at(url: str, ca: Path | None) -> Profile:
    """Return the network at `url` without a key, or where that is "", the one in use with its key.

    `ca` is the file of that network's own authority (PEM), which the one in use needs not.
    """
    return Profile(url, "", read_ca(ca) if ca else known_authority(url)) if url else load()


def client_at(url: str, ca: Path | None) -> Client:
    """Return a client of `profile_at`; the caller closes it."""
    return client_of(profile_at(url, ca))
