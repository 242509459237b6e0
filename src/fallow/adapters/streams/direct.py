"""Links to a node itself: TLS 1.3, where the node listens with a certificate of its own making.

Who dials learns the certificate from the network, and trusts this one and no other. Over the connection each message
stands behind its length (`fallow.ports.lines`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from fallow.adapters.streams.framed import FramedLink
from fallow.domain.errors import NotAllowed, TooMuch, Unavailable
from fallow.domain.networks import line_of
from fallow.domain.streams import DirectAddress
from fallow.ports.clock import Clock
from fallow.ports.mishaps import MISHAPS
from fallow.ports.places import Places
from fallow.ports.rates import Buckets, Rate
from fallow.ports.streams import Link
from fallow.ports.tasks import background

CONNECTIONS_MAX: Final = 64
CONNECTIONS_PER_ADDRESS_MAX: Final = 16
ARRIVALS_PER_ADDRESS: Final = Rate(2.0, 30)
HANDSHAKE_S: Final = 5.0
CLOSE_S: Final = 1.0
CONNECT_S: Final = 2.0
"""A direct line that takes longer is not worth waiting for: there is the relay."""

BACKLOG: Final = 32
VALID: Final = timedelta(days=825)
PAUSE_S: Final = 0.5
ALIVE_S: Final = 5
SILENT_MS: Final = 10_000
"""A line whose other end has not answered for so long is broken; data links notice as fast."""

_log = logging.getLogger(__name__)

Attend = Callable[[Link, str], Awaitable[None]]


class Listening(NamedTuple):
    """Where a node listens, and the certificate (PEM) that it shows."""

    port: int
    certificate: str


def name_of(node: bytes) -> str:
    """The DNS name that a node's certificate is for; a label has 63 characters at most."""
    return f"{node.hex()[:32]}.node.fallow"


@asynccontextmanager
async def listening(
    host: str, port: int, node: bytes, attend: Attend, clock: Clock, folder: Path
) -> AsyncIterator[Listening]:
    """Listen while the context is open; `attend` works with each link and returns when it is done with it.

    `folder` is where the certificate's key lies for a moment, since a TLS context takes it from a file.

    Raises:
        Unavailable: the port cannot be had (`direct.port`).
    """
    listener = _listener(host, port)
    context, certificate = await asyncio.to_thread(_context, node, folder)
    hall = _Hall(context, attend, clock)
    with listener:
        async with background(hall.receive(listener)):
            yield Listening(int(listener.getsockname()[1]), certificate)


@asynccontextmanager
async def dial_direct(at: DirectAddress, node: bytes) -> AsyncIterator[FramedLink]:
    """Connect to a node.

    Raises:
        Unavailable: it cannot be reached (`stream.unreachable`).
        NotAllowed: it does not show the certificate that it should (`tls.untrusted`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=at.certificate)
        async with asyncio.timeout(CONNECT_S):
            transport, link = await asyncio.get_running_loop().create_connection(
                FramedLink, at.host, at.port, ssl=context, server_hostname=name_of(node)
            )
    except ssl.SSLCertVerificationError as error:
        raise NotAllowed("tls.untrusted", f"The node at {at.host} port {at.port} is another one.") from error
    except (OSError, TimeoutError, ValueError) as error:
        why = str(error) or f"no answer within {CONNECT_S:g} s"
        raise Unavailable(
            "stream.unreachable", f"The node at {at.host} port {at.port} cannot be reached: {why}."
        ) from (error)
    _watch(transport.get_extra_info("socket"))
    try:
        yield link
    finally:
        link.abort()


class _Hall:
    """Takes connections in, so many and no more: before anything is read of them, and before TLS begins."""

    def __init__(self, context: ssl.SSLContext, attend: Attend, clock: Clock) -> None:
        self._context = context
        self._attend = attend
        self._clock = clock
        self._places = Places(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX)
        self._arrivals = Buckets(ARRIVALS_PER_ADDRESS, clock, senders_max=1000)

    async def receive(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    connection, address = await loop.sock_accept(listener)
                except OSError as error:  # no descriptor is free, or who came has gone
                    _log.warning("a connection could not be accepted: %s", error)
                    await self._clock.sleep(PAUSE_S)
                    continue
                connection.setblocking(False)
                group.create_task(self._take(connection, str(address[0])))

    async def _take(self, connection: socket.socket, address: str) -> None:
        try:
            self._arrivals.take(line_of(address))
            with self._places.one_for(address):
                await self._serve(connection, address)
        except TooMuch as error:
            _log.info("a connection of %s is not taken: %s", address, error)
        except (OSError, TimeoutError) as error:
            _log.info("a connection of %s failed: %s", address, error)
        except Exception as error:  # noqa: BLE001 - one connection's trouble must not close the door to all
            MISHAPS.note("direct", error)
        finally:
            connection.close()

    async def _serve(self, connection: socket.socket, address: str) -> None:
        link = FramedLink()
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: link, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
        )
        _watch(connection)
        try:
            await self._attend(link, address)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):  # for the last word, such as why nobody is let in
                    await link.close()
            link.abort()


def _listener(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise Unavailable(
            "direct.port", f"{host} port {port} cannot be listened on: {error.strerror}.", "Choose another one."
        ) from error
    listener.setblocking(False)
    return listener


def _context(node: bytes, folder: Path) -> tuple[ssl.SSLContext, str]:
    from fallow.adapters.certificates import self_signed  # noqa: PLC0415 - large, and only for who is dialled

    issued = self_signed(name_of(node), datetime.now(UTC), VALID)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    descriptor, path = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(issued.certificate + issued.key)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context, issued.certificate


def _watch(connection: socket.socket) -> None:
    """Have the system notice within seconds that the other end is gone, where it can."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", ALIVE_S),
        ("TCP_KEEPINTVL", ALIVE_S),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", SILENT_MS),
    ):
        with suppress(OSError, AttributeError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
