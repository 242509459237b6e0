"""Where a network listens, and under which names others reach it."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from fallow.bootstrap.listening import refuse_outside
from fallow.bootstrap.settings import Settings
from fallow.domain.errors import InvalidInput

DEFAULT_PORT = 8420
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to recognise them
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
# Where nothing is: asking which of our addresses would be used sends nothing (RFC 5737, RFC 3849).
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class Reach(NamedTuple):
    """`bind` is the address to listen on, `host` stands in URLs.

    `names` are what others reach it by, so what a certificate must be for; in plain text a proxy's, too.
    """

    bind: str
    port: int
    host: str
    names: tuple[str, ...]
    tls: bool

    @property
    def everywhere(self) -> bool:
        """Whether it listens on all addresses, so that each client may know it by another name."""
        return self.bind in EVERYWHERE


def reach_of(settings: Settings) -> Reach:
    """Work out where to listen.

    Raises:
        InvalidInput: it would be reachable from outside without TLS, or an address is none.
    """
    tls, given = bool(settings.listen or settings.tls_cert), _given_names(settings)
    if not tls:
        refuse_outside(settings.host)
        names = {*given, *LOOPBACK, settings.host}
        return Reach(settings.host, settings.http_port, settings.host, tuple(sorted(names)), tls=False)
    host, port = split_listen(settings.listen) if settings.listen else (settings.host, settings.http_port)
    bind = _resolve(host)
    names = {*given, *LOOPBACK, *_hostname()}
    names |= set(_own_addresses()) if bind in EVERYWHERE else {host, bind}
    return Reach(bind, port, next(iter(given), "") or _shown(host, bind), tuple(sorted(names)), tls=True)


def split_listen(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`; an IPv6 address stands in brackets, and the port may be left out.

    Raises:
        InvalidInput: it is nothing of that kind.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        host, port = "", 0
    if not host or "@" in text or "/" in text:
        raise InvalidInput("up.listen", f"{text!r} is no address to listen on.", "It looks like 0.0.0.0:8420")
    return _checked_name(host), port


def _given_names(settings: Settings) -> list[str]:
    return [_checked_name(name) for name in settings.names.replace(",", " ").split()]


def _checked_name(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    try:
        plain = name.rstrip(".").lower().encode("idna").decode()
    except UnicodeError:
        plain = ""
    if _NAME.fullmatch(plain) is None:
        raise InvalidInput("up.name", f"{name!r} is no name of a machine.", "It looks like fallow.example.org")
    return plain


def _resolve(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(
            "up.listen",
            f"{host} is no name that this machine knows: {error}.",
            f"Listen everywhere under that name: --listen 0.0.0.0:{DEFAULT_PORT} --name {host}",
        ) from error
    # IPv4 first: where both work it is what all clients can use.
    return str(min(found, key=lambda each: each[0] != socket.AF_INET)[4][0])


def _shown(host: str, bind: str) -> str:
    if bind not in EVERYWHERE:
        return host
    return _outward() or next(iter(_hostname()), "localhost")


def _outward() -> str:
    """The address that this machine would use towards others; "" if it has no way to any."""
    for family, elsewhere in _ELSEWHERE:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((elsewhere, 9))
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return ""


def _hostname() -> list[str]:
    try:
        return [_checked_name(socket.gethostname())]
    except InvalidInput:
        return []


def _own_addresses() -> list[str]:
    import psutil  # noqa: PLC0415 - only where all addresses matter

    families = {socket.AF_INET, socket.AF_INET6}
    found = (
        each.address for addresses in psutil.net_if_addrs().values() for each in addresses if each.family in families
    )
    # An address with a scope means something on one link of this machine only.
    return [str(ip_address(address)) for address in found if "%" not in address]
