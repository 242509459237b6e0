"""`fallow job forward`: a port of this machine that leads into the sandbox of a running item."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fallow.adapters.clock import SystemClock
from fallow.bootstrap.paths import Paths, Way, paths
from fallow.domain.errors import FallowError
from fallow.domain.streams import Port
from fallow.ports.splicing import ConnectionStream, splice
from fallow.sdk.client import AsyncClient

HOST = "127.0.0.1"

_log = logging.getLogger(__name__)

Told = Callable[[Way], None]
"""Hears of each connection which way its bytes go."""


class Forward:
    """Connects what comes in with `port` in the sandbox of an item. Each connection finds the lease that runs then."""

    def __init__(self, ways: Paths, port: int, told: Told) -> None:
        self._ways = ways
        self._port = port
        self._told = told
        self._clock = SystemClock()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            opened = await self._ways.open(Port(self._port))
            self._told(opened.way)
            await splice(ConnectionStream(reader, writer), opened.stream, self._clock)
        except FallowError as error:
            _log.warning("a connection was not carried: %s", error)
            writer.transport.abort()
        finally:
            writer.close()


@asynccontextmanager
async def forwarding(
    client: AsyncClient,
    url: str,
    tls: ssl.SSLContext | None,
    job_id: str,
    item: int,
    port: int,
    local_port: int,
    told: Told = lambda _: None,
) -> AsyncIterator[int]:
    """Forward while the context is open; yields the port of this machine, on loopback only (`local_port` 0: any).

    Raises:
        FallowError: the item does not run, or the account may not reach it.
        OSError: the local port cannot be had.
    """
    async with paths(client, url, tls, job_id, item, "port") as ways:
        server = await asyncio.start_server(Forward(ways, port, told).accept, HOST, local_port)
        async with server:
            yield int(server.sockets[0].getsockname()[1])
