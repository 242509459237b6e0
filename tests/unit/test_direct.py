"""Who may be knocked at, what an owner may open, and how many come through a door."""

# ruff: noqa: D102 - a link's and a stream's methods are what the ports say

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.adapters.streams.framed import WAITING_BYTES_MAX, FramedLink
from fallow.agent.consent import consent_text
from fallow.agent.enrol import Wishes, read_direct
from fallow.agent.home import Settings
from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.domain.resources import Resources, Terms
from fallow.domain.streams import may_probe
from fallow.ports import door as doors
from fallow.ports.door import Door
from fallow.ports.lines import MESSAGE_BYTES_MAX, StreamLink
from fallow.ports.places import Places
from fallow.ports.sessions import Sessions
from tests.unit.agent_fakes import FakeClock

PUBLIC = ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"]
PRIVATE = ["10.0.0.1", "192.168.1.1", "172.16.0.9", "fd00::1", "::ffff:10.0.0.1"]
LOOPBACK = ["127.0.0.1", "127.0.3.1", "::1", "::ffff:127.0.0.1"]
NOWHERE = [
    "169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "0.0.0.0",
    "::",
    "100.64.0.1",
    "",
    "memory",
    "::ffff:169.254.169.254",
]


@given(
    st.sampled_from(PUBLIC + PRIVATE + LOOPBACK + NOWHERE), st.sampled_from(PUBLIC + PRIVATE + LOOPBACK + ["", "name"])
)
def test_a_network_knocks_at_no_address_that_is_nearer_than_it_is_itself(address: str, network: str) -> None:
    allowed = address in PUBLIC or (
        (address in PRIVATE and network in PRIVATE + LOOPBACK) or (address in LOOPBACK and network in LOOPBACK)
    )
    assert may_probe(address, network) == allowed


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", ""),
        ("8440", "0.0.0.0:8440"),
        (":8440", "0.0.0.0:8440"),
        ("192.0.2.7:8440", "192.0.2.7:8440"),
        ("[2001:db8::1]:8440", "2001:db8::1:8440"),
    ],
)
def test_an_owner_says_where_buyers_may_dial(text: str, meant: str) -> None:
    assert read_direct(text) == meant


@pytest.mark.parametrize("text", ["22", "0", "65536", "x", "host:8440", "8440:", "-1", "1.2.3:8440"])
def test_what_is_no_such_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no port that buyers could dial"):
        read_direct(text)


def test_the_owner_agrees_to_an_open_port_and_else_there_is_none() -> None:
    def text(direct: str) -> str:
        total = Resources(cpu_milli=1000, memory_mib=1024, disk_mib=1024)
        terms = Terms(price_microusd_per_core_hour=1, price_microusd_per_gpu_hour=0)
        settings = Settings(total=total, terms=terms, direct=direct)
        return consent_text(url="https://n", net="n", home="/h", verticals={}, settings=settings)

    assert Wishes().direct == ""
    assert "Nothing listens here." in text("")
    assert "This machine listens at 0.0.0.0:8440" in text("0.0.0.0:8440")
    assert "learn its address" in text("0.0.0.0:8440")
    assert "Nothing listens" not in text("0.0.0.0:8440")


class SilentLink:
    """Somebody who connects and then says nothing."""

    def __init__(self) -> None:
        self.heard = asyncio.Queue[bytes]()

    async def send(self, data: bytes) -> None:
        self.heard.put_nowait(data)

    async def receive(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("it never speaks")


async def test_who_has_shown_no_key_takes_a_bounded_part_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they claim to be nodes or not: it counts while they greet, where they come from."""
    monkeypatch.setattr(doors, "LINKS_PER_ADDRESS_MAX", 2)

    async def nobody(*_: object) -> None:
        raise AssertionError("nobody speaks")

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        door = Door(
            "lab-1",
            Sessions(lambda _, __: None),
            FakeClock(),
            random_bytes=bytes,
            spawn=group.create_task,
            admit=nobody,
            begun=lambda _: None,
        )
        held = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            link = SilentLink()
            held.append(group.create_task(door.attend(link, address)))
            assert b"hello" in await link.heard.get()
        refused = SilentLink()
        await door.attend(refused, "192.0.2.1")
        said = await refused.heard.get()
        assert b"refusal" in said
        assert b"rate.connections" in said
        gone = held.pop(0)
        gone.cancel()
        await asyncio.wait([gone])
        again = SilentLink()
        held.append(group.create_task(door.attend(again, "192.0.2.1")))
        assert b"hello" in await again.heard.get()
        for task in held:
            task.cancel()


class Bytes:
    """A stream that gives what it was made with, piece by piece, and keeps what is written."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.written = b""

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, data: bytes | memoryview) -> None:
        self.written += data

    def end(self) -> None:
        """Nothing is ended here."""

    def reset(self, error: Exception) -> None:
        """Nothing is given up here."""


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_messages_come_whole_however_their_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    async def there_and_back() -> list[bytes]:
        out = Bytes([])
        for message in messages:
            await StreamLink(out).send(message)
        link = StreamLink(Bytes(pieces_of(out.written, cuts)))
        got = [await link.receive() for _ in messages]
        with pytest.raises(Unavailable):
            await link.receive()
        return got

    assert asyncio.run(there_and_back()) == messages


async def test_a_message_larger_than_any_is_refused_before_it_is_held() -> None:
    announced = (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big")
    framed = FramedLink()
    feed(framed, announced)
    for link in (StreamLink(Bytes([announced])), framed):
        with pytest.raises(InvalidInput, match="larger than any"):
            await link.receive()


class Wire(asyncio.Transport):
    """A connection that keeps what is written, and knows whether it is read from."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


def feed(link: FramedLink, data: bytes) -> None:
    while data:
        room = link.get_buffer(-1)
        taken, data = data[: len(room)], data[len(room) :]
        room[: len(taken)] = taken
        link.buffer_updated(len(taken))


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_messages_of_a_connection_come_whole_however_their_bytes_are_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    async def there_and_back() -> list[bytes]:
        wire, link, other = Wire(), FramedLink(), StreamLink(out := Bytes([]))
        link.connection_made(wire)
        for message in messages:
            await link.send(message)
            await other.send(message)
        assert wire.written == out.written
        for piece in pieces_of(wire.written, cuts):
            feed(link, piece)
        link.connection_lost(None)
        got = [await link.receive() for _ in messages]
        with pytest.raises(Unavailable):
            await link.receive()
        with pytest.raises(Unavailable):
            await link.send(b"more")
        return got

    assert asyncio.run(there_and_back()) == messages


async def test_a_connection_is_not_read_while_its_messages_wait() -> None:
    wire, link = Wire(), FramedLink()
    link.connection_made(wire)
    message = bytes(WAITING_BYTES_MAX // 4 - 4)
    framed = len(message).to_bytes(4, "big") + message
    for number in range(5):
        assert wire.reads, number
        feed(link, framed)
    assert not wire.reads
    await link.receive()
    assert wire.reads
    for _ in range(4):
        await link.receive()
    feed(link, bytes(4 * (WAITING_BYTES_MAX // 4 + 1)))
    assert not wire.reads, "messages without a byte take memory, too"
    link.pause_writing()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(link.send(b"waits"))
        await asyncio.sleep(0)
        assert not sending.done()
        link.resume_writing()


def test_who_has_an_address_of_ipv6_has_them_all() -> None:
    places = Places(9, 1)
    with places.one_for("2001:db8::1"), places.one_for("2001:db8:0:1::1"), places.one_for("192.0.2.1"):
        for same in ("2001:db8::ffff:2", "::ffff:192.0.2.1"):
            with pytest.raises(TooMuch), places.one_for(same):
                pass
        with places.one_for("192.0.2.2"):
            pass
    assert places.taken == 0


def test_places_are_given_back() -> None:
    places = Places(2, 1)
    with places.one_for("a"):
        with pytest.raises(TooMuch), places.one_for("a"):
            pass
        with places.one_for("b"), pytest.raises(TooMuch), places.one_for("c"):
            pass
    assert places.taken == 0
    with places.one_for("a"):
        assert places.taken == 1
