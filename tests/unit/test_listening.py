"""The ports that we listen on."""

from __future__ import annotations

import asyncio
import socket

from fallow.bootstrap.listening import listen


async def test_answers_are_sent_without_delay() -> None:
    accepted: asyncio.Queue[int] = asyncio.Queue()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours: socket.socket = writer.get_extra_info("socket")
        accepted.put_nowait(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(serve, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await accepted.get()
        writer.close()
