"""Observed networks: from where nodes connect, as the network itself sees it; their own word on that counts nothing."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

V4_BITS, V6_BITS = 24, 64
"""One household, office or rack has addresses from one such block, as a rule; who has two blocks pays for two lines."""


def is_loopback(host: str) -> bool:
    """Whether a host, by its name or an address, is this very machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def line_of(address: str) -> str:
    """Under what an address is counted where places and rates are bounded: itself, or the /64 of an IPv6 one.

    Whoever has one address of IPv6 has a whole /64 of them, as a rule (RFC 6177). What is no address stays as it is.
    """
    try:
        host = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(host, IPv6Address):
        return str(host.ipv4_mapped or ip_network((host, V6_BITS), strict=False))
    return address


def network_of(address: str) -> str:
    """Network of an address, such as `192.0.2.0/24` or `2001:db8::/64`; "" where it is no address.

    No more of the address is kept: what the network needs to know is who shares a line with whom.
    """
    try:
        host = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(host, IPv6Address) and host.ipv4_mapped:
        host = host.ipv4_mapped
    bits = V4_BITS if host.version == 4 else V6_BITS  # noqa: PLR2004 - IPv4
    return str(ip_network((host, bits), strict=False))
