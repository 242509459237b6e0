"""Ports and addresses of this machine."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Final

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.networks import is_loopback

PORT_MIN: Final = 10_000
"""Above what services are known by (IANA's registered ports end much higher, but few of those are in use)."""
PORT_TRIES: Final = 100


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL of a host, which may be an IPv6 address."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def loopback_of(host: str) -> str:
    """Return where this machine reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it listens on none


def refuse_outside(host: str) -> None:
    """Raise InvalidInput when `host` is no loopback address: keys and tokens would cross a line in plain text."""
    if not is_loopback(host):
        raise InvalidInput(
            "up.no_tls",
            f"{host} can be reached from outside, and that is never done without encryption.",
            f"Use TLS, which is made for you: fallow up --listen {host}:PORT",
        )


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Take a port (0: a free one). `option` is how an operator chooses another.

    Raises:
        Unavailable: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small pieces without delay (TCP_NODELAY) only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            "http.port",
            f"Cannot listen on {host} port {port}: {error.strerror}.",
            f"Stop what uses it, or choose another: {option} N",
        ) from error
    return listener


def address_of(host: str) -> str:
    """Return an address that a host is reached at, itself if it is one; "" where its name is unknown here."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""


def is_free(host: str, port: int) -> bool:
    """Whether a port could be taken now."""
    try:
        listen(host, port).close()
    except Unavailable:
        return False
    return True


def free_port(host: str, but: Container[int] = ()) -> int:
    """A port that is free now, below those that the system gives to connections: these may be anybody's at any time.

    It is none of `but`. Somebody else may take it before it is used; then listening says so.
    """
    for _ in range(PORT_TRIES):
        port = PORT_MIN + secrets.randbelow(_connections_from() - PORT_MIN)
        if port not in but and is_free(host, port):
            return port
    with listen(host, 0) as listener:
        return int(listener.getsockname()[1])


def _connections_from() -> int:
    """The lowest port that the system gives to connections by itself; Linux says so, and 32768 is its default."""
    with suppress(OSError, ValueError, IndexError):
        return max(PORT_MIN + 1, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0]))
    return 32_768
