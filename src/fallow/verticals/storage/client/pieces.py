"""One piece to a node or from it, over one stream, paid for step by step: see `core.wire`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple, Protocol, TypeVar

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.signing import Sign
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream
from fallow.ports.tasks import within
from fallow.verticals.storage.client.waiting import Watch, Watched
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.calls.segments import Place
from fallow.verticals.storage.core.orders import ORDER_BYTES, Order, OrderLimit, PieceClaim, PieceReceipt

OPEN_S: Final = 10.0

KindT = TypeVar("KindT", bound=wire.Message)


class Reach(Protocol):
    """Opens streams to nodes."""

    async def open(self, place: Place, request: bytes) -> Stream:
        """Open a stream to storage's worker on the node of a place.

        Raises:
            FallowError: it cannot be reached.
        """
        ...


class Mover(NamedTuple):
    """Who moves pieces: with the key `public`, by which it signs orders and claims."""

    net: str
    network_key: bytes
    public: bytes
    sign: Sign
    reach: Reach
    clock: Clock
    watch: Watch

    async def open(self, place: Place, request: wire.Message) -> Watched:
        """Open a stream to a place."""
        stream = await within(self.clock, OPEN_S, self.reach.open(place, wire.write(request)))
        return self.watch.over(stream)

    def limit(self, place: Place) -> OrderLimit:
        """Open a place's limit.

        Raises:
            FallowError: it is none of this network.
        """
        return OrderLimit.open(place.limit, self.network_key)

    def order(self, limit: OrderLimit, bytes_all: int) -> bytes:
        """Sign an order.

        Raises:
            InvalidInput: it is beyond the limit (`storage.order`): for such a word a gateway's stake is taken.
        """
        if bytes_all > limit.bytes_max:
            raise InvalidInput("storage.order", f"The limit allows {limit.bytes_max} bytes, not {bytes_all}.")
        return Order(serial=limit.serial, bytes_all=bytes_all).seal(self.sign)


async def put_piece(
    mover: Mover, place: Place, length: int, parts: AsyncIterator[memoryview], hashed: Callable[[], bytes]
) -> bytes:
    """Bring a piece of `length` bytes to a place and return its sealed receipt, which holds.

    `parts` are at most `ORDER_BYTES` each. `hashed` is its BLAKE3, asked for behind the last part.

    Raises:
        FallowError: the node refuses, fails, stalls, or its receipt is for something else.
    """
    limit = mover.limit(place)
    stream = await mover.open(place, wire.Put(place.limit, length))
    with_node = _Incoming(stream)
    try:
        with_node.expect(await with_node.message(), wire.Go)
        sent = paid = 0
        async for part in parts:
            before: list[bytes | memoryview] = []
            if sent + len(part) > paid + ORDER_BYTES:
                paid = sent + len(part)
                before.append(wire.frame(wire.Pay(mover.order(limit, paid))))
            await stream.write(b"".join([*before, wire.frame(wire.Data(len(part))), part]))
            sent += len(part)
        claim = PieceClaim(net=mover.net, piece=limit.piece, length=length, hash=hashed())
        await stream.write(wire.frame(wire.Done(claim.seal(mover.sign), mover.order(limit, length))))
        stored = with_node.expect(await with_node.message(), wire.Stored)
        _check(stored.receipt, place, claim)
        stream.end()
    except BaseException:
        stream.reset(_given_up())
        raise
    return stored.receipt


class PieceReader:
    """Reads bytes `start` up to `stop` of a piece, in their order. Made by `get_piece`."""

    def __init__(self, mover: Mover, limit: OrderLimit, stream: Watched, size: int) -> None:
        self._mover = mover
        self._limit = limit
        self._stream = stream
        self._incoming = _Incoming(stream)
        self._size = size
        self._received = 0
        self._paid = 0
        self._announced = 0
        self._over = False

    async def take(self, size: int) -> memoryview:
        """Return the next `size` bytes.

        Raises:
            FallowError: the node refuses, fails, stalls, or sends something else.
        """
        taken = memoryview(bytearray(size))
        at = 0
        while at < size:
            if not self._announced:
                self._announced = self._incoming.expect(await self._incoming.message(), wire.Data).size
            step = min(self._announced, size - at)
            await self._incoming.fill(taken[at : at + step])
            at += step
            self._announced -= step
        self._received += size
        await self._pay()
        return taken

    async def end(self) -> None:
        """See the end of it.

        Raises:
            FallowError: as for `take`.
        """
        self._incoming.expect(await self._incoming.message(), wire.Sent)
        self._stream.end()
        self._over = True

    def give_up(self) -> None:
        """Take nothing further; nothing happens once the end was seen."""
        if not self._over:
            self._stream.reset(_given_up())

    async def _pay(self) -> None:
        """Order what has come, where that is half a step more, or all: never what has not."""
        due = self._received
        if due - self._paid >= ORDER_BYTES or (due == self._size and due > self._paid):
            self._paid = due
            await self._stream.write(wire.frame(wire.Pay(self._mover.order(self._limit, due))))


async def get_piece(mover: Mover, place: Place, start: int, stop: int) -> PieceReader:
    """Begin to read bytes of a piece from its place; give the reader up, or see its end.

    Raises:
        FallowError: the node cannot be reached.
    """
    limit = mover.limit(place)
    stream = await mover.open(place, wire.Get(place.limit, start, stop))
    return PieceReader(mover, limit, stream, stop - start)


def _given_up() -> Unavailable:
    return Unavailable("storage.given_up", "The client has given this up.")


def _check(sealed: bytes, place: Place, claim: PieceClaim) -> None:
    receipt = PieceReceipt.open(sealed, place.node)
    said = (receipt.net, receipt.node, receipt.piece, receipt.length, receipt.hash)
    if said != (claim.net, place.node, claim.piece, claim.length, claim.hash):
        raise InvalidInput("storage.receipt", "The node's receipt is for something else.")


class _Incoming:
    """What a node says: messages, and raw bytes between them."""

    def __init__(self, stream: Watched) -> None:
        self._stream = stream
        self._chunk = memoryview(b"")

    async def message(self) -> wire.Any_:
        head = memoryview(bytearray(wire.LENGTH_BYTES))
        await self.fill(head)
        size = int.from_bytes(head)
        if size > wire.FRAME_BYTES_MAX:
            raise InvalidInput("storage.message", f"A message of {size} bytes is larger than any.")
        body = memoryview(bytearray(size))
        await self.fill(body)
        return wire.read(bytes(body))

    def expect(self, message: wire.Any_, kind: type[KindT]) -> KindT:
        if not isinstance(message, kind):
            raise InvalidInput("storage.message", f"The node says {type(message).__name__}, out of turn.")
        return message

    async def fill(self, into: memoryview) -> None:
        """Fill a buffer with what comes next."""
        at = 0
        while at < len(into):
            if not self._chunk:
                self._chunk = memoryview(await self._stream.read())
                if not self._chunk:
                    raise Unavailable("storage.cut", "The node ended in the middle.")
            step = min(len(self._chunk), len(into) - at)
            into[at : at + step] = self._chunk[:step]
            self._chunk = self._chunk[step:]
            at += step
