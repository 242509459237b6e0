"""Where a running network's parts find each other: `<data>/run.json`, readable by its owner alone."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import msgspec

from fallow.adapters.engines.folders import write_private
from fallow.bootstrap.tls import Tls
from fallow.domain.errors import NotFound

FILE = "run.json"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of a network's engines and gateway. `postgres_dsn` holds a password.

    `url` and `bus_public_url` are what others use, `bus_url` is how its own processes reach the bus. With `any_host`
    it listens on every address: others reach the bus where they reach the gateway.
    """

    net: str
    postgres_dsn: str
    bus_url: str
    bus_public_url: str
    url: str
    http_host: str
    http_port: int
    any_host: bool = False
    tls: Tls | None = None


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
