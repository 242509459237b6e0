"""`fallow job forward`: a port of this machine that leads into the sandbox of a running item."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.adapters.clock import SystemClock
from fallow.bootstrap.opener import opener
from fallow.domain.errors import FallowError
from fallow.domain.streams import Opening, Port
from fallow.ports.dialling import DialledSession
from fallow.ports.splicing import ConnectionStream, splice
from fallow.sdk.client import AsyncClient

HOST = "127.0.0.1"

_log = logging.getLogger(__name__)


class Forward:
    """Connects what comes in with `port` in the sandbox of an item. Each connection finds the lease that runs then."""

    def __init__(self, client: AsyncClient, session: DialledSession, job_id: str, item: int, port: int) -> None:
        self._client = client
        self._session = session
        self._job_id = job_id
        self._item = item
        self._port = port
        self._clock = SystemClock()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            grant = await self._client.reach(self._job_id, self._item, "port")
            stream = self._session.open(Opening(grant.ticket, Port(self._port)).write())
            await splice(ConnectionStream(reader, writer), stream, self._clock)
        except FallowError as error:
            _log.warning("a connection was not carried: %s", error)
            writer.transport.abort()
        finally:
            writer.close()


@asynccontextmanager
async def forwarding(
    client: AsyncClient, url: str, tls: ssl.SSLContext | None, job_id: str, item: int, port: int, local_port: int
) -> AsyncIterator[int]:
    """Forward while the context is open; yields the port of this machine, on loopback only (`local_port` 0: any).

    Raises:
        FallowError: the item does not run, or the account may not reach it.
        OSError: the local port cannot be had.
    """
    await client.reach(job_id, item, "port")  # so that what is wrong is said at once
    async with opener(client, url, tls) as session:
        forward = Forward(client, session, job_id, item, port)
        server = await asyncio.start_server(forward.accept, HOST, local_port)
        async with server:
            yield int(server.sockets[0].getsockname()[1])
