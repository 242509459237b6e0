"""The ports of a network's processes: those that are set, else those that it had before, else free ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from fallow.adapters.engines.folders import write_private
from fallow.bootstrap.listening import free_port, is_free, listen
from fallow.bootstrap.settings import PUBLIC, Settings
from fallow.bootstrap.verticals import gateway_roles, read_ports

FILE: Final = "ports.json"
FREE_S: Final = 3.0
"""A `fallow up` that was killed a moment ago may still hold its port."""
POLL_S: Final = 0.05


def ports_of(data: Path, settings: Settings) -> dict[str, int]:
    """Set ports; where a setting is 0, the last one, since agents and buyers remember it, or a free one."""
    file = data / FILE
    kept: dict[str, int] = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
    given = {"http": settings.http_port, "bus": settings.bus_port, "chain": settings.chain_port}
    given |= dict.fromkeys(gateway_roles(), 0) | read_ports(settings.gateway_ports)
    ports = {name: port or kept.get(name, 0) for name, port in given.items()}
    for name, port in ports.items():
        ports[name] = port or free_port(settings.host, set(ports.values()))
    return ports


def keep_ports(data: Path, ports: Mapping[str, int]) -> None:
    """Keep them for the next start."""
    write_private(data / FILE, msgspec.json.encode(ports).decode() + "\n")


async def wait_free(settings: Settings, ports: Mapping[str, int]) -> None:
    """Make sure of all ports that this network listens on, before anything is started.

    Raises:
        Unavailable: somebody else has one; it names the setting that chooses another.
    """
    await _free(settings.host, ports["http"], "--port")
    if not settings.nats_url:
        await _free(settings.host, ports["bus"], "--bus-port")
    if settings.preset == PUBLIC and not settings.chain_rpc:
        await _free(settings.host, ports["chain"], "chain_port")
    for role in gateway_roles():
        await _free(settings.host, ports[role], "gateway_ports")


async def _free(host: str, port: int, option: str) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(FREE_S):
            while not is_free(host, port):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(POLL_S)
    listen(host, port, option=option).close()
