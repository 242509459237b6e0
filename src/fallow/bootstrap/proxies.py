"""Reverse proxies in front of a gateway: whose word on where a client is is believed. Nobody's, unless it is named."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from fallow.domain.errors import InvalidInput

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies(NamedTuple):
    """The addresses that proxies connect from."""

    networks: Sequence[Network] = ()

    @property
    def names(self) -> list[str]:
        """Each network, for the HTTP server."""
        return [str(network) for network in self.networks]

    def counted_as(self, client: tuple[str, int] | None) -> str:
        """Under which name a connection's places are counted: all of an address under it, each of a proxy's alone.

        What is behind a proxy has places of its own as soon as its requests say where they come from.
        """
        if client is None:
            return ""
        host, port = client
        return f"{host} {port}" if self._trusted(host) else host

    def _trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


NO_PROXIES = Proxies()


def read_proxies(text: str) -> Proxies:
    """Read addresses and networks (10.0.0.0/24) with spaces between them.

    Raises:
        InvalidInput: one is none, or stands for everybody.
    """
    try:
        networks = [ipaddress.ip_network(part) for part in text.split()]
    except ValueError as error:
        raise InvalidInput("settings.proxies", f"{error}.", "Addresses or networks, with spaces between.") from error
    if any(network.prefixlen == 0 for network in networks):
        raise InvalidInput("settings.proxies", "Not everybody is a proxy.", "Name the proxies' own addresses.")
    return Proxies(networks)
