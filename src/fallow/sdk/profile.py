"""The network that a person uses and his key there, as `fallow login` keeps them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.pins import der_of, pem_of


class Profile(NamedTuple):
    """A network and the buyer's or operator's key there.

    `ca` is the certificate (PEM) of the network's own authority, which alone is then trusted; "" is the system's.
    `signing_key` signs orders and receipts for the account of this API key; "" is none. `chain` is the number of the
    chain of others that its wallet may sign for, and `rpc` where that is asked; "" is none but the network's own.
    """

    url: str
    api_key: str
    ca: str = ""
    signing_key: str = ""
    chain: str = ""
    rpc: str = ""


def profile_path(env: Mapping[str, str] = os.environ) -> Path:
    """Where the profile is kept."""
    return Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fallow" / "profile.toml"


def load(env: Mapping[str, str] = os.environ) -> Profile:
    """Return the profile to use: FALLOW_URL, FALLOW_API_KEY and FALLOW_CA (a PEM file) before the stored one.

    A stored key is only ever sent to the network that it was stored with, and a stored authority is of that one only.

    Raises:
        NotAllowed: there is none.
        InvalidInput: a file is damaged or cannot be read.
    """
    stored = _stored(profile_path(env))
    url = env.get("FALLOW_URL") or stored.url
    api_key = env.get("FALLOW_API_KEY") or (stored.api_key if url == stored.url else "")
    if not url or not api_key:
        missing = "URL of a network" if not url else f"API key for {url}"
        raise NotAllowed(
            "cli.profile",
            f"There is no {missing}.",
            "Run `fallow login URL KEY`, or set FALLOW_URL and FALLOW_API_KEY.",
        )
    ca = known_authority(url, env)
    signing_key = stored.signing_key if (url, api_key) == (stored.url, stored.api_key) else ""
    chain, rpc = (stored.chain, stored.rpc) if url == stored.url else ("", "")
    return Profile(
        url, api_key, ca, signing_key, env.get("FALLOW_WALLET_CHAIN") or chain, env.get("FALLOW_WALLET_RPC") or rpc
    )


def known_authority(url: str, env: Mapping[str, str] = os.environ) -> str:
    """Return the certificate (PEM) that the network at `url` is trusted by, where it is the one in use; else "".

    Raises:
        InvalidInput: a file is damaged or cannot be read.
    """
    stored = _stored(profile_path(env))
    if env.get("FALLOW_CA") and url == (env.get("FALLOW_URL") or stored.url):
        return read_ca(Path(env["FALLOW_CA"]))
    return stored.ca if url == stored.url else ""


def read_ca(path: Path) -> str:
    """Read an authority's certificate from a PEM file.

    Raises:
        InvalidInput: it cannot be read, or is not one certificate.
    """
    try:
        return pem_of(der_of(path.expanduser().read_text("ascii")))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("tls.ca_file", f"{path} cannot be read: {error}.", "It is a PEM file.") from error


def _stored(path: Path) -> Profile:
    try:
        fields = tomllib.loads(path.read_text())
        optional = (str(fields.get(name, "")) for name in ("ca", "signing_key", "chain", "rpc"))
        return Profile(str(fields["url"]), str(fields["api_key"]), *optional)
    except FileNotFoundError:
        return Profile("", "")
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise InvalidInput("cli.profile", f"{path} is damaged.", "Run `fallow login URL KEY` again.") from error
