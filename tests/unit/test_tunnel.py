"""The bus through the gateway's port: who has shown no key yet takes a bounded number of places."""

# ruff: noqa: D102 - a link's methods are what the port says

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fallow.adapters.nats import tunnel
from fallow.adapters.nats.tunnel import BusTunnels

GREETING = b'INFO {"nonce":"n"}\r\n'


class SilentLink:
    """A client that connects and then says nothing."""

    def __init__(self) -> None:
        self.greeted = asyncio.Event()

    async def send(self, data: bytes) -> None:
        assert data == GREETING
        self.greeted.set()

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("it never speaks")


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A bus that greets, and is gone with its client."""
    writer.write(GREETING)
    with suppress(OSError):
        await reader.read()
    writer.transport.abort()


async def nobody_is_told(_: str, __: str) -> None:
    return


async def test_one_address_takes_its_part_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "TUNNELS_PER_ADDRESS_MAX", 2)
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        tunnels = BusTunnels(f"nats://127.0.0.1:{port}", None, nobody_is_told)
        async with asyncio.TaskGroup() as group:
            held = []
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
                link = SilentLink()
                held.append(group.create_task(tunnels.attend(link, address)))
                await link.greeted.wait()
            refused = SilentLink()
            await tunnels.attend(refused, "192.0.2.1")
            assert not refused.greeted.is_set()
            gone = held.pop(0)
            gone.cancel()
            await asyncio.wait([gone])
            again = SilentLink()
            held.append(group.create_task(tunnels.attend(again, "192.0.2.1")))
            await again.greeted.wait()
            for task in held:
                task.cancel()
