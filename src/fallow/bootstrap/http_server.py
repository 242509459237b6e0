"""An ASGI application on a port, inside our own event loop and lifecycle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from fallow.domain.errors import Unavailable

CONNECTIONS_MAX = 2048
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
async def serving(app: Any, host: str, port: int) -> AsyncIterator[None]:  # noqa: ANN401 - any ASGI application
    """Serve while the context is open; at the end open requests get a moment to finish.

    Raises:
        Unavailable: the port cannot be had.
    """
    listener = listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        ws="none",
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        await server.ready.wait()
        try:
            yield
        finally:
            server.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Take a port (0: a free one).

    Raises:
        Unavailable: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            "http.port",
            f"Cannot listen on {host} port {port}: {error.strerror}.",
            "Stop what uses it, or choose another: --port N",
        ) from error
    return listener


def free_port(host: str) -> int:
    """A port that is free now. Somebody else may take it before it is used; then listening says so."""
    with listen(host, 0) as listener:
        return int(listener.getsockname()[1])
