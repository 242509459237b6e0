"""A connection that is encrypted from its first byte: what `tls://` means here."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport


class EncryptedTransport(TcpTransport):
    """nats-py's transport, but TLS comes before the server's greeting instead of after it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect, and check that the other end is who it should be.

        Raises:
            OSError: it cannot be reached; ssl.SSLCertVerificationError where it is somebody else.
        """
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(
                uri.hostname, uri.port, limit=buffer_size, ssl=self._context, server_hostname=uri.hostname
            ),
            connect_timeout,
        )
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Do nothing: nats-py asks for encryption once the server has greeted, and it is there already."""
