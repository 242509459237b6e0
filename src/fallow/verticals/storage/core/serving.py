"""A node's side of moving a piece, without I/O: what a client says goes in, what is to be done comes out. Pure.

A client's limit has been checked (`orders.check_limit`). What it may not do raises: the stream is given up with that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.orders import ORDER_BYTES, STEP_BYTES, OrderLimit, PieceClaim, check_order

PUTS: Final = frozenset({"put", "repair_put"})
GETS: Final = frozenset({"get", "repair_get"})


class Bytes(NamedTuple):
    """More of the piece."""

    data: memoryview


class Ordered(NamedTuple):
    """A sealed Order: no earlier one says more."""

    sealed: bytes


class Claimed(NamedTuple):
    """All bytes have come, and this is the client's sealed claim of them, whose hash is still to be checked."""

    sealed: bytes
    claim: PieceClaim


Event = Bytes | Ordered | Claimed


class Frames:
    """Cuts what comes into messages and the raw bytes that follow `Data`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._raw = 0

    def feed(self, data: bytes) -> list[wire.Any_ | memoryview]:
        """Take in what came.

        Raises:
            InvalidInput: malformed, or a message is too long (`storage.message`).
        """
        found: list[wire.Any_ | memoryview] = []
        rest = memoryview(data)
        while rest:
            if self._raw:
                part = rest[: self._raw]
                found.append(part)
                rest, self._raw = rest[len(part) :], self._raw - len(part)
            else:
                rest = self._gather(rest)
                message = self._message()
                if message is not None:
                    found.append(message)
                    self._raw = message.size if isinstance(message, wire.Data) else 0
        return found

    def _gather(self, data: memoryview) -> memoryview:
        """Buffer what the frame under way still lacks, and return the rest."""
        taken = self._lacks()
        self._buffer += data[:taken]
        if len(self._buffer) == wire.LENGTH_BYTES and not 0 < self._size() <= wire.FRAME_BYTES_MAX:
            raise InvalidInput("storage.message", f"A message has at most {wire.FRAME_BYTES_MAX} bytes, and some.")
        return data[taken:]

    def _lacks(self) -> int:
        if len(self._buffer) < wire.LENGTH_BYTES:
            return wire.LENGTH_BYTES - len(self._buffer)
        return wire.LENGTH_BYTES + self._size() - len(self._buffer)

    def _size(self) -> int:
        return int.from_bytes(self._buffer[: wire.LENGTH_BYTES])

    def _message(self) -> wire.Any_ | None:
        if len(self._buffer) < wire.LENGTH_BYTES or self._lacks():
            return None
        message = wire.read(bytes(self._buffer[wire.LENGTH_BYTES :]))
        self._buffer.clear()
        return message


class PutSide:
    """Takes a piece.

    Raises:
        NotAllowed: the limit is for something else (`storage.limit`).
        InvalidInput: it allows less (`storage.order`).
    """

    def __init__(self, put: wire.Put, limit: OrderLimit) -> None:
        _check_action(limit, PUTS)
        _check_size(put.length, limit)
        self._limit = limit
        self._length = put.length
        self._frames = Frames()
        self._announced = 0
        self._ordered = 0
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        """Take in what the client sent.

        Raises:
            InvalidInput: it makes no sense, more or less comes than was announced (`storage.piece_length`), or what is
                claimed is something else (`storage.claim`).
            NotAllowed: more than half a step comes beyond the last order (`storage.unpaid`), or as for Conflict.
            Conflict: as `orders.check_order`.
        """
        events: list[Event] = []
        for item in self._frames.feed(data):
            if self._over:
                raise _out_of_turn(item)
            match item:
                case memoryview():
                    events.append(Bytes(item))
                case wire.Data():
                    self._announce(item.size)
                case wire.Pay():
                    events.append(self._order(item.order))
                case wire.Done():
                    events += self._done(item)
                case _:
                    raise _out_of_turn(item)
        return events

    def _announce(self, size: int) -> None:
        if self._announced + size > self._length:
            raise _length(self._announced + size, self._length)
        if self._announced + size > self._ordered + ORDER_BYTES:
            raise NotAllowed("storage.unpaid", f"More than {ORDER_BYTES} bytes come beyond the last order.")
        self._announced += size

    def _order(self, sealed: bytes) -> Ordered:
        self._ordered = check_order(sealed, self._limit, self._ordered).bytes_all
        return Ordered(sealed)

    def _done(self, done: wire.Done) -> list[Event]:
        if self._announced != self._length:
            raise _length(self._announced, self._length)
        ordered = self._order(done.order)
        if self._ordered < self._length:
            raise NotAllowed("storage.unpaid", "The last order does not pay for the whole piece.")
        claim = PieceClaim.open(done.claim, self._limit.client)
        if (claim.net, claim.piece, claim.length) != (self._limit.net, self._limit.piece, self._length):
            raise InvalidInput("storage.claim", "The claim is of another piece.")
        self._over = True
        return [ordered, Claimed(done.claim, claim)]


class GetSide:
    """Sends bytes of a piece. Raises as `PutSide`."""

    def __init__(self, get: wire.Get, limit: OrderLimit) -> None:
        _check_action(limit, GETS)
        if get.start > get.stop:
            raise InvalidInput("storage.range", "The range ends before it begins.")
        self.size = get.stop - get.start
        _check_size(self.size, limit)
        self._limit = limit
        self._frames = Frames()
        self._ordered = 0

    @property
    def allowed(self) -> int:
        """How many bytes may have been sent by now, in all."""
        return min(self.size, self._ordered + STEP_BYTES)

    @property
    def paid(self) -> bool:
        """Whether the whole range is paid for."""
        return self._ordered >= self.size

    def feed(self, data: bytes) -> list[Ordered]:
        """Take in what the client sent.

        Raises:
            InvalidInput: it makes no sense.
            NotAllowed, Conflict: as `orders.check_order`.
        """
        events: list[Ordered] = []
        for item in self._frames.feed(data):
            if not isinstance(item, wire.Pay):
                raise _out_of_turn(item)
            self._ordered = check_order(item.order, self._limit, self._ordered).bytes_all
            events.append(Ordered(item.order))
        return events


def _check_action(limit: OrderLimit, actions: frozenset[str]) -> None:
    if limit.action not in actions:
        raise NotAllowed("storage.limit", f"The order limit is for something else: {limit.action}.")


def _check_size(size: int, limit: OrderLimit) -> None:
    if size > limit.bytes_max:
        raise InvalidInput("storage.order", f"The limit allows {limit.bytes_max} bytes, not {size}.")


def _length(came: int, announced: int) -> InvalidInput:
    return InvalidInput("storage.piece_length", f"{came} bytes of the piece came, {announced} were announced.")


def _out_of_turn(item: wire.Any_ | memoryview) -> InvalidInput:
    return InvalidInput("storage.message", f"{type(item).__name__} is said out of turn.")
