"""Where a running network's parts find each other: `<data>/run.json`, readable by its owner alone."""

from __future__ import annotations

import json
import secrets
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fallow.adapters.engines.folders import write_private
from fallow.bootstrap.tls import Tls, own_context
from fallow.domain.errors import InvalidInput, NotFound

FILE = "run.json"


class ChainPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a network's chain is. Others reach it at `url`, or where that is "" at an address of their own choice.

    `own_url` is how the network's processes reach it, `id` its number, and what lies `depth` blocks deep is for good.
    An `embedded` one is run by the network itself.
    """

    url: str
    own_url: str
    id: int
    depth: int = 1
    embedded: bool = True


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of a network's engines and gateway. `postgres_dsn` holds a password.

    `url` and `bus_public_url` are what others use, `bus_url` is how its own processes reach the bus. With `any_host`
    it listens on every address: others reach the bus where they reach the gateway. `names` are all that are its own
    (`fallow.bootstrap.tls.own_names`). A bus that is not its `own` shows
    a certificate of the authority in the file `bus_ca`, or of one of the system's. `gateways` are the URLs that buyers
    reach verticals' gateways by, by role.
    """

    net: str
    postgres_dsn: str
    bus_url: str
    bus_public_url: str
    url: str
    http_host: str
    http_port: int
    any_host: bool = False
    names: list[str] = []
    tls: Tls | None = None
    own_bus: bool = True
    bus_ca: str = ""
    chain: ChainPlace | None = None
    gateways: dict[str, str] = {}

    def port_of(self, role: str) -> int:
        """Return the port of a vertical's gateway.

        Raises:
            NotFound: there is no such role.
        """
        if role not in self.gateways:
            raise NotFound("serve.role", f"This network has no gateway {role}.")
        return urlsplit(self.gateways[role]).port or 0


def bus_context(place: Place) -> ssl.SSLContext | None:
    """Return what the network's own processes connect to the bus with; None where it is in plain text.

    Raises:
        InvalidInput: the file of its authority cannot be used.
    """
    if place.own_bus:
        return own_context(place.tls)
    if urlsplit(place.bus_url).scheme != "tls":
        return None
    try:
        return ssl.create_default_context(cafile=place.bus_ca or None)
    except (OSError, ValueError) as error:
        raise InvalidInput("nats.ca", f"{place.bus_ca} cannot be used: {error}.") from error


def write_place(data: Path, place: Place) -> None:
    """Keep it for the other processes."""
    write_private(data / FILE, msgspec.json.encode(place).decode() + "\n")


def read_place(data: Path) -> Place:
    """Read it.

    Raises:
        NotFound: no network was ever started with this data folder.
    """
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Place)
    except FileNotFoundError as error:
        raise NotFound("place.none", f"No network runs on {data}.", "Start one: fallow up --data FOLDER") from error


def network_id(data: Path, preset: str) -> str:
    """Return the network's id, drawn once: it is in every signature, so it never changes."""
    file = data / "network.json"
    if not file.exists():
        write_private(file, json.dumps({"net": f"{preset}-{secrets.token_hex(4)}"}) + "\n")
    return str(json.loads(file.read_text("utf-8"))["net"])
