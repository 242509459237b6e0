"""How many connections the server holds, from whom, and for how long without a word."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fallow.adapters.certificates import issue, new_authority, new_key
from fallow.adapters.clock import SystemClock
from fallow.adapters.streams import asgi
from fallow.adapters.streams.asgi import with_links
from fallow.adapters.streams.dialling import dial
from fallow.bootstrap import handshakes, http_protocol
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.proxies import NO_PROXIES, read_proxies
from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.ports.rates import Rate
from fallow.ports.streams import Link
from tests.network import until_async

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Answer everything, with the address that it came from."""
    assert scope["type"] == "http"
    body = scope["client"][0].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def hold(link: Link, _: str) -> None:
    """Keep a link until the other side closes it."""
    await link.receive()


@asynccontextmanager
async def server(tls: ssl.SSLContext | None = None, proxies: str = "") -> AsyncIterator[int]:
    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)

    served = with_links(without_lifespan, {"/links": hold}, SystemClock())
    async with asyncio.timeout(120), serving(served, HOST, 0, tls, read_proxies(proxies)) as port:
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


async def test_links_of_one_address_come_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "ARRIVALS_PER_ADDRESS", Rate(0.001, 2))

    async def come(address: str) -> None:
        async with dial(f"http://{HOST}:{port}", tls=None, path="/links", local_address=address):
            pass

    async with server() as port:
        for address in (HOST, HOST, "127.0.0.2"):
            await come(address)
        with pytest.raises(Unavailable) as caught:
            await come(HOST)
        assert caught.value.code == "stream.refused"


@pytest.mark.parametrize("said", [b"", b"GET / HT", REQUEST + b"GET / HTTP/1.1\r\nx-slow: "])
async def test_who_does_not_say_what_he_wants_is_let_go(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADERS_S", 0.5)  # in which what was said before is read
    async with server() as port, connected(port) as (reader, writer):
        writer.write(said)
        try:
            rest = await reader.read()
        except ConnectionError:
            rest = b""
        assert rest.count(b"200 OK") == said.count(REQUEST), "the connection has ended"


async def test_an_answers_head_leaves_with_its_body_and_waits_for_none_that_comes_later() -> None:
    """A server that is killed behind the head would leave an answer that a client takes for an empty one."""
    more = asyncio.Event()

    async def served(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        assert not select.select([client], [], [], 0.05)[0], "the head has left alone"
        if scope["path"] == "/later":
            await more.wait()
        await send({"type": "http.response.body", "body": b"body"})

    async with asyncio.timeout(60), serving(served, HOST, 0) as port:
        with socket.create_connection((HOST, port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, REQUEST)
            assert (await loop.sock_recv(client, 1 << 16)).endswith(b"\r\n\r\nbody")
            await loop.sock_sendall(client, REQUEST.replace(b"/", b"/later", 1))
            assert (await loop.sock_recv(client, 1 << 16)).endswith(b"\r\n\r\n")
            more.set()
            assert await loop.sock_recv(client, 1 << 16) == b"body"


def own_tls(folder: Path) -> ssl.SSLContext:
    authority = new_authority(new_key(), "test", datetime.now(UTC))
    server = issue(authority, [HOST], datetime.now(UTC))
    pem = folder / "server.pem"
    pem.write_text(server.key + server.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes a connection on which it said nothing."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_one_address_takes_its_part_of_the_handshakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ends his handshake needs no such place any more, and who goes gives it back."""
    monkeypatch.setattr(handshakes, "HANDSHAKES_PER_ADDRESS_MAX", 2)
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    async def served(port: int, address: str) -> bool:
        try:
            reader, writer = await asyncio.open_connection(HOST, port, ssl=client, local_addr=(address, 0))
        except OSError:
            return False
        writer.write(REQUEST)
        said = await reader.readline()
        writer.transport.abort()
        return said.split()[1:2] == [b"200"]

    async with server(own_tls(tmp_path)) as port, AsyncExitStack() as stack:
        assert all([await served(port, HOST) for _ in range(5)])
        for _ in range(2):
            await stack.enter_async_context(connected(port))
        async with connected(port) as (reader, _):
            assert await ends(reader), "there are two who say nothing already"
        assert not await served(port, HOST)
        assert await served(port, "127.0.0.2")
        await stack.aclose()
        await until_async(lambda: served(port, HOST), "places are given back", every=0.01)


async def test_a_connection_that_ends_takes_nothing_from_who_has_its_port_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who breaks off and comes again from the same port would be counted by nothing, and have no time bound."""
    monkeypatch.setattr(handshakes, "HANDSHAKES_PER_ADDRESS_MAX", 1)
    counted, peer, other = handshakes.Handshakes(NO_PROXIES), ("192.0.2.1", 4000), ("192.0.2.1", 4001)
    before = counted.begin(peer, lambda: None)
    now = counted.begin(peer, lambda: None)
    counted.end(peer, before)
    with pytest.raises(TooMuch):
        counted.begin(other, lambda: None)
    counted.end(peer, now)
    counted.end(other, counted.begin(other, lambda: None))


async def test_who_does_not_end_his_handshake_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.1)
    async with server(own_tls(tmp_path)) as port, connected(port) as (reader, _):
        assert await ends(reader)


async def came_from(port: int, address: str, *headers: str) -> str:
    """Where the application thinks that a request of an address comes from."""
    async with connected(port, address) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
        writer.write("".join(f"{header}\r\n" for header in headers).encode() + b"\r\n")
        return (await reader.read()).rpartition(b"\r\n")[2].decode()


async def test_nobodys_word_on_where_a_client_is_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # which the HTTP server would read by itself
    async with server() as port:
        assert await came_from(port, HOST, "X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7") == HOST


async def test_only_a_named_proxys_word_is_believed_and_of_it_only_what_it_saw() -> None:
    async with server(proxies="127.0.0.9 127.0.8.0/24") as port:
        assert await came_from(port, "127.0.0.9", "X-Forwarded-For: 192.0.2.7") == "192.0.2.7"
        assert await came_from(port, "127.0.8.3", "X-Forwarded-For: 10.9.9.9, 192.0.2.7, 127.0.0.9") == "192.0.2.7"
        assert await came_from(port, "127.0.0.9") == "127.0.0.9"
        assert await came_from(port, "127.0.0.8", "X-Forwarded-For: 192.0.2.7") == "127.0.0.8"


async def test_what_is_behind_a_proxy_shares_no_bound_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "CONNECTIONS_PER_ADDRESS_MAX", 1)
    monkeypatch.setattr(handshakes, "HANDSHAKES_PER_ADDRESS_MAX", 1)
    async with server(proxies="127.0.0.9") as port, AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(connected(port, "127.0.0.9"))
        assert await came_from(port, "127.0.0.9", "X-Forwarded-For: 192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize("text", ["*", "proxy.example", "0.0.0.0/0", "::/0", "10.0.0.1/8", "10.0.0.1,10.0.0.2"])
def test_a_proxy_is_named_by_its_own_address(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"settings\.proxies"):
        read_proxies(text)
