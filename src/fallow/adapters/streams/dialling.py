"""WebSocket links that this side dials."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from fallow.domain.errors import NotAllowed, Unavailable
from fallow.ports.streams import LINK_BYTES_MAX

PATH: Final = "/v1/streams"
MESSAGE_BYTES_MAX: Final = LINK_BYTES_MAX + (64 << 10)
"""A message may exceed LINK_BYTES_MAX by its last frame's header, and an acknowledgement."""
OPEN_S: Final = 10.0
PING_S: Final = 15.0
WRITE_BYTES_MAX: Final = 256 << 10


class DialledLink:
    """The `Link` port over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """See the port."""
        try:
            await self._socket.send(data)
        except ConnectionClosed as error:
            raise _broken(error) from error

    async def receive(self) -> bytes:
        """See the port."""
        try:
            data = await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise _broken(error) from error
        return bytes(data)


@asynccontextmanager
async def dial(
    url: str, *, tls: ssl.SSLContext | None, path: str = PATH, local_address: str = ""
) -> AsyncIterator[DialledLink]:
    """Connect to a gateway at its HTTP address. `tls` says whom to trust; None is the system's authorities.

    `local_address` is where it connects from; "" leaves that to the system.

    Raises:
        Unavailable: it cannot be reached, or accepts no links.
        NotAllowed: it cannot show that it is who it should be.
    """
    try:
        socket = await connect_socket(socket_url(url, path), tls, local_address=local_address)
    except ssl.SSLCertVerificationError as error:
        raise NotAllowed("tls.untrusted", f"{url} cannot show who it is: {error.verify_message}.") from error
    except InvalidStatus as error:
        raise Unavailable("stream.refused", f"{url} answered {error.response.status_code}.") from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise Unavailable(
            "stream.unreachable", f"{url} cannot be reached: {str(error) or type(error).__name__}."
        ) from error
    try:
        yield DialledLink(socket)
    finally:
        await socket.close()


def socket_url(url: str, path: str) -> str:
    """Return where a gateway at an HTTP address takes links."""
    scheme, _, rest = url.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}{path}"


async def connect_socket(
    url: str, tls: ssl.SSLContext | None, *, open_s: float = OPEN_S, local_address: str = ""
) -> ClientConnection:
    """Open a WebSocket as links use it; raises as `websockets` does. Arguments as for `dial`."""
    encrypted = url.startswith("wss:")
    return await connect(
        url,
        ssl=(tls or ssl.create_default_context()) if encrypted else None,
        local_addr=(local_address, 0) if local_address else None,
        compression=None,
        max_size=MESSAGE_BYTES_MAX,
        max_queue=2,
        write_limit=WRITE_BYTES_MAX,
        open_timeout=open_s,
        close_timeout=1.0,
        ping_interval=PING_S,
        ping_timeout=PING_S,
    )


def _broken(error: ConnectionClosed) -> Unavailable:
    return Unavailable("stream.link", f"The link is broken: {error}.")
