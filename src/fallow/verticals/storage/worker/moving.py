"""Moves one piece over one stream, to this node's disk or from it, and keeps the orders that pay for it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput, NotAllowed, Unavailable
from fallow.domain.signing import Sign
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream
from fallow.ports.vertical.worker import Closed
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.orders import (
    ORDER_BYTES,
    BeyondLimit,
    NotNow,
    OrderLimit,
    PieceReceipt,
    check_limit,
)
from fallow.verticals.storage.core.serving import GETS, Bytes, Claimed, Event, GetSide, Ordered, PutSide
from fallow.verticals.storage.worker.book import Book
from fallow.verticals.storage.worker.clock import NetworkTime
from fallow.verticals.storage.worker.outgoing import Outgoing
from fallow.verticals.storage.worker.store import PieceStore
from fallow.verticals.storage.worker.threads import in_thread
from fallow.verticals.storage.worker.writing import Incoming

PORTION_BYTES_MAX: Final = 1 << 20
"""So much goes to the disk or comes from it at a time: handing work to a thread costs as much as moving 256 KiB."""
PORTION_BYTES_MIN: Final = 256 << 10
PORTIONS_BYTES_MAX: Final = 64 << 20
"""Of all that move at a time; where many do, portions are smaller."""
STALL_S: Final = 60.0
STALL_BYTES: Final = 64 << 10
"""A stream that moves less than that in that time is given up: it would hold its place, and set room aside, for hours.

Who brings eighty pieces at a time over a line of 1 MBit/s is faster.
"""
GET_STALLS: Final = ORDER_BYTES // STALL_BYTES
"""Of what is read, a node hears as it is paid: as slow a line makes it wait so many times as long."""

SHUT: Final = frozenset({"owner.paused", "owner.leaving", "owner.metered", "owner.data_budget"})
"""Why an owner wants nothing moved at all: the machine or the line is his alone now.

For his other reasons (he is there, it is hot, it is late) pieces that are here are still read: little is asked of the
machine by that, and others count on them. Nothing new is put then. What moves already ends by itself in a moment, but
goes no step further where all is shut.
"""


class Owner:
    """What the owner lets others do now."""

    def __init__(self, closed: Closed) -> None:
        self._closed = closed

    @property
    def reason(self) -> str:
        """Why nothing new is put here; empty where it is."""
        return next(iter(self._closed()), "")

    def check_moving(self) -> None:
        """Raise Unavailable where nothing at all is to move."""
        shut = [code for code in self._closed() if code in SHUT]
        if shut:
            raise _closed(shut[0])

    def check_new(self) -> None:
        """Raise Unavailable where nothing new is taken."""
        if self.reason:
            raise _closed(self.reason)


class Ground(NamedTuple):
    """What moving stands on."""

    net: str
    node: bytes
    network_key: bytes
    sign: Sign
    clock: Clock
    store: PieceStore
    book: Book
    owner: Owner
    time: NetworkTime


def portion_bytes(streams: int) -> int:
    """How much of each of so many streams is held at a time."""
    return max(PORTION_BYTES_MIN, min(PORTION_BYTES_MAX, PORTIONS_BYTES_MAX // max(1, streams)))


class Moving:
    """A stream that moves a piece, `portion` bytes at a time."""

    def __init__(self, ground: Ground, stream: Stream, portion: Callable[[], int]) -> None:
        self._moved = 0
        self._seen = deque[int](maxlen=1)
        self._ground = ground
        self._stream = stream
        self._portion = portion

    def give_up_if_still(self) -> None:
        """Give it up where hardly anything has come or gone since this was asked before, once or `GET_STALLS` times."""
        if len(self._seen) == self._seen.maxlen and self._moved - self._seen[0] < STALL_BYTES:
            self._stream.reset(Unavailable("storage.stalled", "Next to nothing has moved for minutes."))
        self._seen.append(self._moved)

    async def serve(self, request: bytes, client: bytes) -> None:
        """Do what is asked.

        Raises:
            FallowError: it is not allowed, or went wrong; the stream is given up with that.
        """
        asked = wire.read(request)
        self._ground.owner.check_moving()
        if isinstance(asked, wire.Put):
            self._ground.owner.check_new()
            await self._take(asked, self._limit(asked.limit, client))
        elif isinstance(asked, wire.Get):
            self._seen = deque(maxlen=GET_STALLS)
            await self._give(asked, self._limit(asked.limit, client))
        else:
            raise InvalidInput("storage.message", "A stream begins with a put or a get.")

    def _limit(self, sealed: bytes, client: bytes) -> OrderLimit:
        ground = self._ground
        now_ms = ground.clock.now_ms()
        try:
            limit = check_limit(sealed, net=ground.net, network_key=ground.network_key, node=ground.node, now_ms=now_ms)
        except NotNow as error:
            raise ground.time.blamed(error) from error
        if limit.client != client:
            raise NotAllowed("storage.limit", "The order limit is another client's.")
        return limit

    @asynccontextmanager
    async def _using(self, limit: OrderLimit, sealed: bytes) -> AsyncIterator[None]:
        """Use a limit, once: what is ordered under it is kept, and of what is read an order beyond it, too."""
        book = self._ground.book
        await in_thread(book.begin, limit, sealed)
        try:
            yield
        except BeyondLimit as error:
            if limit.action in GETS:  # nobody is paid for what is brought
                await in_thread(book.accuse, limit, sealed, error.sealed)
            raise
        finally:
            await in_thread(book.end, limit.serial)

    # A put

    async def _take(self, put: wire.Put, limit: OrderLimit) -> None:
        side = PutSide(put, limit)
        async with self._using(limit, put.limit):
            incoming = await in_thread(self._ground.store.receive, limit.piece, put.length)
            try:
                await self._stream.write(wire.frame(wire.Go()))
                claimed = await self._write(side, incoming, limit)
                await in_thread(incoming.commit, claimed.claim.hash, claimed.sealed)
            finally:
                await in_thread(incoming.close)
        await self._stream.write(wire.frame(wire.Stored(self._receipt(put, claimed, limit))))
        self._stream.end()

    async def _write(self, side: PutSide, incoming: Incoming, limit: OrderLimit) -> Claimed:
        """Bring what comes to the disk, up to the claim of it."""
        parts: list[memoryview] = []
        size = 0
        while True:
            events = side.feed(await self._read())
            claimed = self._keep(events, parts, limit)
            size = sum(map(len, parts))
            if size >= self._portion() or (claimed and parts):
                self._ground.owner.check_moving()
                await in_thread(incoming.write, b"".join(parts))
                parts.clear()
            if claimed is not None:
                return claimed

    def _keep(self, events: list[Event], parts: list[memoryview], limit: OrderLimit) -> Claimed | None:
        claimed = None
        for event in events:
            match event:
                case Bytes():
                    parts.append(event.data)
                    self._moved += len(event.data)
                case Ordered():
                    self._ground.book.note(limit.serial, event.sealed)
                case Claimed():
                    claimed = event
        return claimed

    def _receipt(self, put: wire.Put, claimed: Claimed, limit: OrderLimit) -> bytes:
        ground = self._ground
        return PieceReceipt(
            net=ground.net,
            node=ground.node,
            piece=limit.piece,
            length=put.length,
            hash=claimed.claim.hash,
            durable=ground.store.durable,
        ).seal(ground.sign)

    # A get

    async def _give(self, get: wire.Get, limit: OrderLimit) -> None:
        side = GetSide(get, limit)
        piece = await in_thread(self._ground.store.find, limit.piece)
        if get.stop > piece.length:
            raise InvalidInput("storage.range", f"The piece has {piece.length} bytes.")
        async with self._using(limit, get.limit):
            outgoing = await in_thread(self._ground.store.give, limit.piece)
            try:
                await self._send(side, get, limit, outgoing)
            finally:
                await in_thread(outgoing.close)
            await self._stream.write(wire.frame(wire.Sent()))
            self._stream.end()
            while not side.paid and (said := await self._stream.read()):
                self._order(side, said, limit)

    async def _send(self, side: GetSide, get: wire.Get, limit: OrderLimit, outgoing: Outgoing) -> None:
        sent, read = 0, memoryview(b"")
        while sent < side.size:
            while sent == side.allowed:
                self._order(side, await self._read(), limit)
            self._ground.owner.check_moving()
            if not read:
                start = get.start + sent
                read = memoryview(await in_thread(outgoing.read, start, min(get.stop, start + self._portion())))
            part, read = read[: side.allowed - sent], read[side.allowed - sent :]
            await self._stream.write(wire.frame(wire.Data(len(part))))
            await self._stream.write(part)
            sent += len(part)
            self._moved += len(part)

    def _order(self, side: GetSide, said: bytes, limit: OrderLimit) -> None:
        for ordered in side.feed(said):
            self._ground.book.note(limit.serial, ordered.sealed)

    async def _read(self) -> bytes:
        said = await self._stream.read()
        if not said:
            raise InvalidInput("storage.cut", "The client ended in the middle.")
        return said


def _closed(code: str) -> Unavailable:
    return Unavailable(code, "The owner of this machine needs it for himself now.", "Take another node.")
