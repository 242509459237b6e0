"""Storage's nodes in memory: honest ones, and some that are not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from blake3 import blake3
from nacl.signing import SigningKey

from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound, Unavailable
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.calls.segments import Place
from fallow.verticals.storage.core.orders import (
    ORDER_BYTES,
    OrderLimit,
    PieceClaim,
    PieceReceipt,
    check_limit,
    check_order,
)
from fallow.verticals.storage.core.serving import GETS, PUTS
from tests.memory_streams import MemoryStream, stream_pair

NET = "lab-1"
NETWORK = SigningKey(b"\1" * 32)
NETWORK_KEY = bytes(NETWORK.verify_key)


def sign_as(key: SigningKey) -> Callable[[bytes], bytes]:
    """Sign with a key."""
    return lambda message: key.sign(message).signature


class MemoryNode:
    """A node that serves pieces honestly. `wants` changes that: see `Wants`."""

    def __init__(self, key: SigningKey, clock: Clock, *, network_key: bytes = NETWORK_KEY) -> None:
        self.key = key
        self._clock = clock
        self._network_key = network_key
        self.id = bytes(self.key.verify_key)
        self.pieces: dict[bytes, bytes] = {}
        self.claims: dict[bytes, bytes] = {}
        """Sealed, by piece."""
        self.serials: set[bytes] = set()
        self.paid = Counter[str]()
        self.moved = Counter[str]()
        self.wants = Wants()

    async def serve(self, stream: Stream, request: bytes) -> None:
        """Serve one stream."""
        asked = wire.read(request)
        assert isinstance(asked, wire.Put | wire.Get)
        limit = check_limit(
            asked.limit, net=NET, network_key=self._network_key, node=self.id, now_ms=self._clock.now_ms()
        )
        if limit.serial in self.serials:
            raise Conflict("storage.serial", "The limit was used before.")
        self.serials.add(limit.serial)
        if self.wants.busy:
            raise Unavailable("owner.paused", "The owner of this machine needs it for himself now.")
        if self.wants.refuses:
            raise Unavailable("storage.full", "Nothing is taken here.")
        await self.wants.pause()
        if isinstance(asked, wire.Put):
            await self._put(stream, asked, limit)
        else:
            await self._get(stream, asked, limit)

    async def _put(self, stream: Stream, asked: wire.Put, limit: OrderLimit) -> None:
        assert limit.action in PUTS
        assert limit.bytes_max >= asked.length
        await stream.write(wire.frame(wire.Go()))
        reader, ordered, length = FrameReader(stream), 0, 0
        data, hashed = list[bytes](), blake3()
        while True:
            message = await reader.message()
            match message:
                case wire.Pay():
                    ordered = check_order(message.order, limit, ordered).bytes_all
                case wire.Data():
                    data.append(await reader.take(message.size))
                    hashed.update(data[-1])
                    length += message.size
                    self.moved["put"] += message.size
                    if length > min(asked.length, ordered + ORDER_BYTES):
                        raise Conflict("storage.unpaid", "More came than was ordered.")
                    await self.wants.after(length)
                case wire.Done():
                    break
                case _:
                    raise InvalidInput("storage.message", "That is out of turn.")
        self.paid["put"] += check_order(message.order, limit, ordered).bytes_all
        claim = PieceClaim.open(message.claim, limit.client)
        assert (claim.piece, claim.length) == (limit.piece, length)
        assert hashed.digest() == claim.hash
        self.claims[limit.piece] = message.claim
        self.pieces[limit.piece] = await asyncio.to_thread(b"".join, data)
        hash_ = b"\0" * 32 if self.wants.lies else claim.hash
        receipt = PieceReceipt(net=NET, node=self.id, piece=limit.piece, length=length, hash=hash_, durable=True)
        await stream.write(wire.frame(wire.Stored(receipt.seal(sign_as(self.key)))))
        stream.end()

    async def _get(self, stream: Stream, asked: wire.Get, limit: OrderLimit) -> None:
        assert limit.action in GETS
        piece = self.pieces.get(limit.piece)
        if piece is None or asked.stop > len(piece):
            raise NotFound("storage.no_piece", "There is no such piece.")
        size = asked.stop - asked.start
        assert limit.bytes_max >= size
        reader, ordered, sent = FrameReader(stream), 0, 0
        while sent < size:
            while sent >= ordered + ORDER_BYTES:
                ordered = await self._paid(reader, limit, ordered)
                assert ordered <= sent, "A client orders what has come. Nodes send further; this one waits, to see it."
            step = min(size - sent, ordered + ORDER_BYTES - sent, 100_000)
            data = self.wants.altered(piece[asked.start + sent : asked.start + sent + step])
            await stream.write(wire.frame(wire.Data(step)) + data)
            sent += step
            self.moved["get"] += step
            await self.wants.after(sent)
        while ordered < size:
            ordered = await self._paid(reader, limit, ordered)
        self.paid["get"] += ordered
        await stream.write(wire.frame(wire.Sent()))
        stream.end()

    async def _paid(self, reader: FrameReader, limit: OrderLimit, ordered: int) -> int:
        message = await reader.message()
        assert isinstance(message, wire.Pay)
        return check_order(message.order, limit, ordered).bytes_all


class Wants:
    """What a node does otherwise.

    It refuses, or is busy in its owner's name; stalls (until the test's end) at the start or behind so many bytes;
    breaks the stream there; flips a bit of what it gives; signs a receipt for something else.
    """

    def __init__(
        self,
        *,
        refuses: bool = False,
        stalls: bool = False,
        stalls_after: int = -1,
        dies_after: int = -1,
        flips: bool = False,
        lies: bool = False,
        busy: bool = False,
    ) -> None:
        self.busy = busy
        self.refuses = refuses
        self.stalls = stalls
        self.stalls_after = stalls_after
        self.dies_after = dies_after
        self.flips = flips
        self.lies = lies

    async def pause(self) -> None:
        """At the start."""
        if self.stalls:
            await asyncio.Event().wait()

    async def after(self, size: int) -> None:
        """When so many bytes have moved."""
        if 0 <= self.stalls_after <= size:
            await asyncio.Event().wait()
        if 0 <= self.dies_after <= size:
            raise Unavailable("stream.lost", "The node is gone.")

    def altered(self, data: bytes) -> bytes:
        """What is sent instead."""
        return bytes([data[0] ^ 1]) + data[1:] if self.flips else data


class FrameReader:
    """Reads frames and raw bytes from a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def take(self, size: int) -> bytes:
        """Return so many bytes."""
        while len(self._buffer) < size:
            chunk = await self._stream.read()
            if not chunk:
                raise Unavailable("stream.lost", "It ended.")
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def message(self) -> wire.Any_:
        """Return a message."""
        return wire.read(await self.take(int.from_bytes(await self.take(wire.LENGTH_BYTES), "big")))


class MemoryReach:
    """Implements `Reach` by nodes in memory. `opened` counts streams by node; `dead` ones cannot be reached."""

    def __init__(self, nodes: list[MemoryNode], group: asyncio.TaskGroup) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.opened = Counter[bytes]()
        self.dead: set[bytes] = set()
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, place: Place, request: bytes) -> Stream:
        """See the Protocol."""
        if place.node in self.dead:
            raise Unavailable("stream.offline", "The node is not connected.")
        self.opened[place.node] += 1
        near, far = stream_pair()
        task = self._group.create_task(self._serve(self.nodes[place.node], far, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    def close(self) -> None:
        """End all streams."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, node: MemoryNode, stream: MemoryStream, request: bytes) -> None:
        try:
            await node.serve(stream, request)
        except FallowError as error:
            stream.reset(error)
