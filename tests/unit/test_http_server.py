"""How many connections the server holds, from whom, and for how long without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fallow.adapters.streams.asgi import with_links
from fallow.adapters.streams.dialling import dial
from fallow.bootstrap import http_protocol
from fallow.bootstrap.http_server import serving
from fallow.ports.streams import Link
from tests.network import until_async

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer everything."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def hold(link: Link, _: str) -> None:
    """Keep a link until the other side closes it."""
    await link.receive()


@asynccontextmanager
async def server() -> AsyncIterator[int]:
    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)

    async with asyncio.timeout(20), serving(with_links(without_lifespan, {"/links": hold}), HOST, 0) as port:
        yield port


@asynccontextmanager
async def connected(port: int, address: str = HOST) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status(port: int) -> bytes:
    """The status of an answer to a whole request."""
    async with connected(port) as (reader, writer):
        writer.write(REQUEST)
        return (await reader.readline()).split()[1]


async def test_one_address_takes_its_part_of_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "CONNECTIONS_PER_ADDRESS_MAX", 3)
    monkeypatch.setattr(http_protocol, "CONNECTIONS_MAX", 4)
    async with server() as port, AsyncExitStack() as stack:

        async def answered(address: str) -> bool:
            reader, writer = await stack.enter_async_context(connected(port, address))
            writer.write(REQUEST)
            return (await reader.readline()).split()[1] == b"200"

        assert [await answered(HOST) for _ in range(4)] == [True, True, True, False]
        assert await answered("127.0.0.2")
        assert not await answered("127.0.0.3"), "all places are taken"
        await stack.aclose()

        async def free() -> bool:
            return await status(port) == b"200"

        await until_async(free, "places are given back", every=0.01)


async def test_links_take_no_places_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "CONNECTIONS_MAX", 2)
    async with server() as port, AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(dial(f"http://{HOST}:{port}", tls=None, path="/links"))
        assert await status(port) == b"200"


@pytest.mark.parametrize("said", [b"", b"GET / HT", REQUEST + b"GET / HTTP/1.1\r\nx-slow: "])
async def test_who_does_not_say_what_he_wants_is_let_go(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADERS_S", 0.1)
    async with server() as port, connected(port) as (reader, writer):
        writer.write(said)
        try:
            rest = await reader.read()
        except ConnectionError:
            rest = b""
        assert rest.count(b"200 OK") == said.count(REQUEST), "the connection has ended"
