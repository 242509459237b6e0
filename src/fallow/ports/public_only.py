"""A way to the public internet and to nowhere else: what a stranger names must not lead into somebody's own network.

A name is resolved here, once for each connection, and the connection is made to the address that was checked: it
cannot become another one in between. Redirects are requests like any other, so they pass here too.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import httpx2

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]

PORTS: Final = frozenset({443, *range(1024, 65536)})
_ASSIGNED: Final = ip_network("2000::/3")
"""Where all IPv6 addresses of the internet are (RFC 4291, IANA's registry of the IPv6 address space).

Not so those of sites, or those that stand for IPv4 ones: which of them `is_global` knows differs between Pythons.
"""
_NEVER: Final = (ip_network("100.64.0.0/10"), ip_network("2002::/16"), ip_network("2001::/32"))
"""Carriers' own networks, and IPv6 addresses among those that stand for IPv4 ones (RFC 6598, 3056, 4380)."""

_LOOKUPS: Final = ThreadPoolExecutor(32, thread_name_prefix="names")
"""Looking up a name goes on when nobody waits any more: strangers' slow servers must not take everybody's threads."""


def is_public(address: Address) -> bool:
    """Whether an address is somewhere on the internet, and neither here nor in a network of somebody's own."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv6Address) and address not in _ASSIGNED:
        return False
    inside = any(address in network for network in _NEVER if network.version == address.version)
    return address.is_global and not address.is_multicast and not inside


async def resolve(host: str, port: int) -> list[Address]:
    """Addresses of a host. Raises OSError when it has none, UnicodeError when it can have none."""
    asked = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, asked)
    return [ip_address(where[0]) for *_, where in found]


class PublicOnly(httpx2.AsyncBaseTransport):
    """Carries requests over TLS to public addresses.

    `allowed` says which addresses may be asked; with `plain` also without TLS, and at any port.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
        allowed: Callable[[Address], bool] = is_public,
        plain: bool = False,
    ) -> None:
        self._inner = httpx2.AsyncHTTPTransport(verify=tls or True, trust_env=False, retries=0)
        self._resolve = resolve
        self._allowed = allowed
        self._plain = plain

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises ConnectError where it may not go."""
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        if not self._plain and (url.scheme != "https" or port not in PORTS):
            raise httpx2.ConnectError(f"{url.scheme} to port {port} is not allowed")
        try:
            addresses = await self._resolve(url.host, port)
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"{url.host} has no address") from error
        public = [address for address in addresses if self._allowed(address)]
        if not public or len(public) < len(addresses):
            raise httpx2.ConnectError(f"{url.host} is not on the public internet")
        # The certificate is checked against the name, and the one that asks is told of the name.
        return await self._inner.handle_async_request(
            httpx2.Request(
                request.method,
                url.copy_with(host=str(public[0])),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._inner.aclose()
