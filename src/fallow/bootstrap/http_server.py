"""An ASGI application on a port, inside our own event loop and lifecycle."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from fallow.adapters.streams.dialling import MESSAGE_BYTES_MAX
from fallow.bootstrap.handshakes import listening
from fallow.bootstrap.http_protocol import bounded
from fallow.bootstrap.listening import listen
from fallow.bootstrap.proxies import NO_PROXIES, Proxies

KEEP_ALIVE_S = 75
STOP_S = 3


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to us and says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(
    app: Any,  # noqa: ANN401 - any ASGI application
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    proxies: Proxies = NO_PROXIES,
) -> AsyncIterator[int]:
    """Serve while the context is open, and yield the port; at the end open requests get a moment to finish.

    Without `tls` it is plain HTTP. What `proxies` say of their clients' addresses is believed.

    Raises:
        Unavailable: the port cannot be had.
    """
    listener = listening(listen(host, port), proxies)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies.networks),
        forwarded_allow_ips=proxies.names,
        http=bounded(proxies, listener.handshakes),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        await server.ready.wait()
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
