"""What every adapter of the bus port does: the same tests against NATS and against the twin in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from fallow.adapters.clock import SystemClock
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.client import keeping_cancellation
from fallow.adapters.nats.dial import BusState
from fallow.adapters.nats.nkeys import KeySigner, Kind, encode_public
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.nats.server_config import nats_auth_config
from fallow.adapters.nats.tunnel import PATH, BusTunnels
from fallow.adapters.streams.asgi import with_links
from fallow.bootstrap.http_server import serving
from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.ports.bus import MESSAGE_BYTES_MAX, Message
from fallow.ports.mishaps import MISHAPS
from tests.nats_server import nats_server
from tests.network import until
from tests.streams_world import no_app

AnyBus = NatsBus | MemoryBus
Connect = Callable[[], Awaitable[AnyBus]]

CORE = KeySigner.from_seed(b"the test's key".ljust(32))
LONG_S = 60.0
SHORT_S = 0.05


def config() -> str:
    return nats_auth_config(
        core_public_keys={"test": encode_public(Kind.USER, CORE.public_key)},
        callout_public_key=encode_public(Kind.USER, os.urandom(32)),
        system_public_key=encode_public(Kind.USER, os.urandom(32)),
        callout_issuer_public=encode_public(Kind.ACCOUNT, os.urandom(32)),
    )


def dial_core(url: str, **options: Any) -> AbstractAsyncContextManager[NatsBus]:
    prefix = inbox_prefix(CORE.public_key)
    return connect_nats(url, signer=CORE, name="test", tls=None, inbox_prefix=prefix, **options)


@pytest.fixture(params=["memory", "nats", "tunnel"])
async def connect(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Connect]:
    """Makes connections of several parties to the same bus."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            hub = MemoryHub()

            async def in_memory() -> AnyBus:
                return hub.connect()

            yield in_memory
        else:
            server = await stack.enter_async_context(nats_server(tmp_path, config()))

            url = server.url
            if request.param == "tunnel":

                async def tell(nonce: str, address: str) -> None:
                    assert len(nonce) >= 11
                    assert address == "127.0.0.1"

                links = with_links(no_app, {PATH: BusTunnels(server.url, None, tell).attend}, SystemClock())
                url = f"ws://127.0.0.1:{await stack.enter_async_context(serving(links, '127.0.0.1', 0))}{PATH}"

            async def over_nats() -> AnyBus:
                return await stack.enter_async_context(dial_core(url))

            yield over_nats


async def echo(message: Message) -> bytes:
    return message.subject.encode() + b":" + message.data


async def take(messages: AsyncIterator[Message], count: int) -> list[Message]:
    async with asyncio.timeout(LONG_S):
        return [await anext(messages) for _ in range(count)]


async def test_a_message_reaches_every_subscriber(connect: Connect) -> None:
    sender, first, second = [await connect() for _ in range(3)]
    async with first.subscribe("a.b") as here, second.subscribe("a.b") as there:
        await sender.publish("a.b", b"x")
        assert await take(here, 1) == [Message("a.b", b"x")]
        assert await take(there, 1) == [Message("a.b", b"x")]


async def test_messages_of_one_sender_keep_their_order(connect: Connect) -> None:
    sender, receiver = await connect(), await connect()
    async with receiver.subscribe("a.b") as messages:
        for number in range(200):
            await sender.publish("a.b", str(number).encode())
        assert [int(each.data) for each in await take(messages, 200)] == list(range(200))


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("a.*.c", ["a.b.c", "a.x.c"], ["a.c", "a.b.d", "a.b.c.d"]),
        ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
        ("*", ["a"], ["a.b"]),
        (">", ["a", "a.b.c"], []),
    ],
)
async def test_wildcards(connect: Connect, pattern: str, hits: list[str], misses: list[str]) -> None:
    bus = await connect()
    async with bus.subscribe(pattern) as messages, bus.subscribe("end.of.test") as end:
        for subject in [*misses, *hits, "end.of.test"]:
            await bus.publish(subject, b"")
        await take(end, 1)
        assert [each.subject for each in await take(messages, len(hits))] == hits


async def test_a_queue_group_gets_each_message_once(connect: Connect) -> None:
    sender, *workers = [await connect() for _ in range(4)]
    seen: list[int] = []
    complete = asyncio.Event()

    async def work(message: Message) -> bytes:
        seen.append(int(message.data))
        if len(seen) >= 300:
            complete.set()
        return b""

    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.serve("jobs", work, queue="workers"))
        everything = await stack.enter_async_context(sender.subscribe("jobs"))
        for number in range(300):
            await sender.publish("jobs", str(number).encode())
        await take(everything, 300)
        async with asyncio.timeout(LONG_S):
            await complete.wait()
    assert sorted(seen) == list(range(300))


async def test_request_and_reply(connect: Connect) -> None:
    client, server = await connect(), await connect()
    async with server.serve("echo.*", echo):
        assert await client.request("echo.1", b"hello", timeout_s=LONG_S) == b"echo.1:hello"


async def test_concurrent_requests_get_their_own_answers(connect: Connect) -> None:
    client, server = await connect(), await connect()
    async with server.serve("echo.*", echo, concurrency=8), asyncio.TaskGroup() as group:
        asked = [group.create_task(client.request(f"echo.{n}", b"x", timeout_s=LONG_S)) for n in range(200)]
    assert [task.result() for task in asked] == [f"echo.{n}:x".encode() for n in range(200)]


async def test_nobody_serves(connect: Connect) -> None:
    bus = await connect()
    async with asyncio.timeout(LONG_S / 2):
        with pytest.raises(Unavailable) as caught:
            await bus.request("nobody.here", b"", timeout_s=LONG_S)
    assert caught.value.code == "bus.no_responders"


async def test_nobody_answers_in_time(connect: Connect) -> None:
    client, server = await connect(), await connect()
    forever = asyncio.Event()

    async def never(_message: Message) -> bytes:
        await forever.wait()
        return b""

    async with server.serve("slow", never):
        with pytest.raises(Unavailable) as caught:
            await client.request("slow", b"", timeout_s=SHORT_S)
        forever.set()
    assert caught.value.code == "bus.timeout"


async def test_a_payload_may_be_large_but_not_too_large(connect: Connect) -> None:
    client, server = await connect(), await connect()

    async def length(message: Message) -> bytes:
        return str(len(message.data)).encode()

    async with server.serve("length", length):
        most = bytes(MESSAGE_BYTES_MAX)
        assert int(await client.request("length", most, timeout_s=LONG_S)) == MESSAGE_BYTES_MAX
        for send in (client.publish("length", most + b"x"), client.request("length", most + b"x", timeout_s=1)):
            with pytest.raises(TooMuch) as caught:
                await send
            assert caught.value.code == "bus.payload"


@pytest.mark.parametrize("subject", ["", "a..b", ".a", "a b", "a\r\nPUB b 0", "a.*", "a.>", "x" * 256])
async def test_a_malformed_subject_is_refused(connect: Connect, subject: str) -> None:
    bus = await connect()
    with pytest.raises(InvalidInput):
        await bus.publish(subject, b"")
    with pytest.raises(InvalidInput):
        await bus.request(subject, b"", timeout_s=1)


async def test_a_slow_reader_loses_messages_and_counts_them(connect: Connect) -> None:
    sender, reader = await connect(), await connect()
    async with reader.subscribe("fast", pending_max=10) as messages, reader.subscribe("end") as end:
        for number in range(50):
            await sender.publish("fast", str(number).encode())
        await sender.publish("end", b"")
        await take(end, 1)
        assert [int(each.data) for each in await take(messages, 10)] == list(range(10))
        assert reader.dropped == 40
        await sender.publish("fast", b"again")
        assert (await take(messages, 1))[0].data == b"again"


async def test_no_more_handlers_than_agreed_run_at_once(connect: Connect) -> None:
    client, server = await connect(), await connect()
    running, most = 0, 0
    full, go = asyncio.Event(), asyncio.Event()

    async def work(_message: Message) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await go.wait()
        running -= 1
        return b"done"

    async with asyncio.timeout(LONG_S), server.serve("work", work, concurrency=3), asyncio.TaskGroup() as group:
        asked = [group.create_task(client.request("work", b"", timeout_s=LONG_S)) for _ in range(20)]
        await full.wait()
        go.set()
    assert [task.result() for task in asked] == [b"done"] * 20
    assert most == 3


async def test_leaving_serve_waits_for_the_handlers(connect: Connect) -> None:
    client, server = await connect(), await connect()
    begun, go = asyncio.Event(), asyncio.Event()

    async def work(_message: Message) -> bytes:
        begun.set()
        await go.wait()
        return b"done"

    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as group:
        async with server.serve("work", work):
            asked = group.create_task(client.request("work", b"", timeout_s=LONG_S))
            await begun.wait()
            asyncio.get_running_loop().call_soon(go.set)
        assert await asked == b"done"
        with pytest.raises(Unavailable):
            await client.request("work", b"", timeout_s=LONG_S)


@pytest.mark.mishaps("work")
async def test_a_message_that_hits_a_bug_ends_nothing_but_itself(connect: Connect) -> None:
    client, server = await connect(), await connect()
    handled = []

    async def broken(message: Message) -> bytes:
        if message.data == b"bad":
            raise LookupError("a bug")
        handled.append(message.data)
        return b"done"

    before = MISHAPS.counts().get("work", 0)
    async with asyncio.timeout(LONG_S), server.serve("work", broken, concurrency=1):
        for _ in range(3):
            await client.publish("work", b"bad")
        assert await client.request("work", b"good", timeout_s=LONG_S) == b"done"
        with pytest.raises(Unavailable):
            await client.request("work", b"bad", timeout_s=0.2)
        await until(lambda: MISHAPS.counts()["work"] >= before + 4, "the last one has come, too")
    assert handled == [b"good"]
    assert MISHAPS.counts()["work"] == before + 4


async def test_a_closed_subscription_ends_its_iterator(connect: Connect) -> None:
    bus = await connect()
    async with bus.subscribe("a") as messages:
        pass
    async with asyncio.timeout(LONG_S):
        assert [each async for each in messages] == []


async def test_memory_bus_can_be_taken_down() -> None:
    hub = MemoryHub()
    bus = hub.connect()
    hub.up = False
    with pytest.raises(Unavailable):
        await bus.publish("a", b"")
    hub.up = True
    await bus.publish("a", b"")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only where everybody waits, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        selector = cast("Any", self)._selector
        select = selector.select

        def jump(timeout: float | None) -> Any:
            assert timeout is not None, "everybody waits for ever"
            self.now += max(timeout, 0)
            return select(0)

        selector.select = jump

    def time(self) -> float:
        """Seconds since the loop began."""
        return self.now


def test_memory_bus_knows_no_time_but_the_loops() -> None:
    async def scenario() -> float:
        hub = MemoryHub()
        client, server = hub.connect(), hub.connect()

        async def work(message: Message) -> bytes:
            await asyncio.sleep(float(message.data))
            return b"done"

        async with server.serve("work", work):
            assert await client.request("work", b"3000", timeout_s=3600) == b"done"
            with pytest.raises(Unavailable):
                await client.request("work", b"4000", timeout_s=3600)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == pytest.approx(3000 + 4000)


async def next_state(states: asyncio.Queue[BusState], wanted: BusState) -> None:
    async with asyncio.timeout(120):
        while await states.get() is not wanted:
            pass


async def test_the_connection_returns_after_the_server_was_killed(tmp_path: Path) -> None:
    states: asyncio.Queue[BusState] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(nats_server(tmp_path, config()))
        bus = await stack.enter_async_context(dial_core(first.url, on_state=states.put_nowait))
        messages = await stack.enter_async_context(bus.subscribe("news"))
        await stack.enter_async_context(bus.serve("echo", echo))
        await first.kill()
        await next_state(states, BusState.DISCONNECTED)
        for send in (bus.publish("news", b""), bus.request("echo", b"", timeout_s=LONG_S)):
            with pytest.raises(Unavailable) as caught:
                await send
            assert caught.value.code == "bus.disconnected"

        await stack.enter_async_context(nats_server(tmp_path, config(), port=first.port))
        await next_state(states, BusState.CONNECTED)
        await bus.publish("news", b"back")
        assert (await take(messages, 1))[0].data == b"back"
        assert await bus.request("echo", b"x", timeout_s=LONG_S) == b"echo:x"


async def test_a_cancellation_that_was_swallowed_is_raised() -> None:
    begun = asyncio.Event()

    async def like_nats_py() -> None:
        with suppress(asyncio.CancelledError):
            begun.set()
            await asyncio.Event().wait()

    async def send() -> None:
        async with keeping_cancellation():
            await like_nats_py()
        raise AssertionError("went on")

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        await begun.wait()
        sending.cancel()
    assert sending.cancelled()


async def test_no_server_is_an_error_of_ours(tmp_path: Path) -> None:
    async with nats_server(tmp_path, config()) as server:
        await server.kill()
        with pytest.raises(Unavailable) as caught:
            async with dial_core(server.url, connect_timeout_s=SHORT_S):
                pass
    assert caught.value.code == "bus.unreachable"


async def test_a_wrong_address_is_an_error_of_ours() -> None:
    with pytest.raises(InvalidInput):
        async with dial_core("nats://:x:y"):
            pass
