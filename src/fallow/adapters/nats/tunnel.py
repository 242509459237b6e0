"""The bus through the gateway's port: NATS's own bytes in the binary messages of a WebSocket.

The gateway carries them and nothing else: it is still the bus that asks each client for its key's signature.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import ParseResult, urlsplit

import msgspec
from nats.aio.transport import Transport
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from fallow.adapters.streams.dialling import connect_socket
from fallow.domain.errors import FallowError, TooMuch
from fallow.ports.places import Places
from fallow.ports.streams import Link

PATH: Final = "/v1/bus"
TUNNELS_MAX: Final = 8192
TUNNELS_PER_ADDRESS_MAX: Final = 1024
"""Many nodes may share a router; but nobody, who has shown no key yet, takes all places."""

READ_BYTES: Final = 64 << 10

_log = logging.getLogger(__name__)


Told = Callable[[str, str], Awaitable[None]]
"""Learns of a client before it can answer: the nonce that the bus greeted it with, and the address it comes from."""


class BusTunnels:
    """Carries links to the bus at `url`; `tls` as the network's own processes reach it."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, told: Told) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._tls = tls
        self._told = told
        self._places = Places(TUNNELS_MAX, TUNNELS_PER_ADDRESS_MAX)

    async def attend(self, link: Link, address: str) -> None:
        """Carry one link until either end is gone; at once where there are too many."""
        try:
            with self._places.one_for(address):
                await self._connected(link, address)
        except TooMuch as error:
            _log.info("no tunnel to the bus for %s: %s", address, error)

    async def _connected(self, link: Link, address: str) -> None:
        try:
            reader, writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
            )
        except OSError:
            return  # the client finds its link closed, and comes again
        await self._carry(link, address, reader, writer)

    async def _carry(
        self, link: Link, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async def inward() -> None:
            while True:
                writer.write(await link.receive())
                await writer.drain()

        async def outward() -> None:
            greeting = await reader.readline()
            await self._told(_nonce(greeting), address)
            await link.send(greeting)
            while data := await reader.read(READ_BYTES):
                await link.send(data)

        try:
            async with asyncio.TaskGroup() as group:
                both = {group.create_task(inward()), group.create_task(outward())}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for task in both:
                    task.cancel()
        except* (FallowError, OSError, ValueError) as ended:
            _log.info("a tunnel to the bus ended: %s", ended.exceptions[0])
        finally:
            writer.transport.abort()


class _Greeting(msgspec.Struct):
    nonce: str


def _nonce(line: bytes) -> str:
    """Read the nonce in the bus's greeting; msgspec's error (a ValueError) when there is none."""
    return msgspec.json.decode(line.removeprefix(b"INFO "), type=_Greeting).nonce


class TunnelTransport(Transport):
    """nats-py's transport through a gateway; `context` says whom to trust where the address is `wss`.

    `local_address` is where it connects from; "" leaves that to the system.
    """

    def __init__(self, context: ssl.SSLContext | None, local_address: str) -> None:
        self._context = context
        self._local_address = local_address
        self._socket: ClientConnection | None = None
        self._pending: list[bytes] = []
        self._rest = b""
        self._ended = False

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:  # noqa: ARG002
        """Connect, and check that the other end is who it should be.

        Raises:
            OSError: it cannot be reached; ssl.SSLCertVerificationError where it is somebody else.
        """
        try:
            self._socket = await connect_socket(
                uri.geturl(), self._context, open_s=connect_timeout, local_address=self._local_address
            )
        except WebSocketException as error:
            raise ConnectionError(str(error)) from error

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Do nothing: the WebSocket is encrypted, and so is the gateway's way to the bus."""

    def write(self, payload: bytes) -> None:
        """See nats-py."""
        self._pending.append(bytes(payload))

    def writelines(self, payload: Iterable[bytes]) -> None:
        """See nats-py."""
        self._pending.extend(map(bytes, payload))

    async def drain(self) -> None:
        """Send what was written; waits while the other side is slow."""
        pending, self._pending = b"".join(self._pending), []
        for at in range(0, len(pending), READ_BYTES):
            try:
                await self._there().send(pending[at : at + READ_BYTES])
            except ConnectionClosed as error:
                raise ConnectionError(str(error)) from error

    async def read(self, buffer_size: int) -> bytes:  # noqa: ARG002 - what a message holds comes at once
        """Return what comes next; empty at the end."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        try:
            return bytes(await self._there().recv(decode=False))
        except ConnectionClosed:
            self._ended = True
            return b""

    async def readline(self) -> bytes:
        """Return a line, or what there is before the end."""
        data = b""
        while b"\n" not in data and (more := await self.read(READ_BYTES)):
            data += more
        line, end, self._rest = data.partition(b"\n")
        return line + end

    async def wait_closed(self) -> None:
        """See nats-py."""
        if self._socket is not None:
            await self._socket.wait_closed()

    def close(self) -> None:
        """See nats-py."""
        self._ended = True
        if self._socket is not None:
            self._socket.transport.abort()  # a broken link never takes what is left

    def at_eof(self) -> bool:
        """See nats-py."""
        return self._ended

    def __bool__(self) -> bool:
        return self._socket is not None

    def _there(self) -> ClientConnection:
        if self._socket is None:
            raise ConnectionError("not connected")
        return self._socket
