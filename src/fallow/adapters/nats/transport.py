"""Connections to a bus that begin as we want: from an address of our choice, and with `tls://` encrypted at once."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport


class OwnTransport(TcpTransport):
    """nats-py's transport, but TLS (`context`) comes before the server's greeting instead of after it.

    `local_address` is where it connects from; "" leaves that to the system.
    """

    def __init__(self, context: ssl.SSLContext | None, local_address: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.context = context
        self._local = (local_address, 0) if local_address else None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, and check that the other end is who it should be.

        Raises:
            OSError: it cannot be reached; ssl.SSLCertVerificationError where it is somebody else.
        """
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(
                uri.hostname,
                uri.port,
                limit=buffer_size,
                ssl=self.context,
                server_hostname=uri.hostname if self.context else None,
                local_addr=self._local,
            ),
            connect_timeout,
        )
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Encrypt once the server has greeted, unless it is encrypted already."""
        if self.context is None:
            await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
