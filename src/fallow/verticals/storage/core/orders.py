"""How bytes are paid for as they move: the network limits, the client orders, the node keeps the largest order. Pure.

The network signs a limit: one client may move so many bytes of one piece, to or from one node, until then. While they
move the client signs orders, each of which says how many bytes in all. Who reads orders what has come, twice a step,
and never what has not; the node goes a step beyond the last order, so that bytes do not wait for words, and cannot lose
more. Who puts orders, twice a step, what it is about to send: nobody pays for that (the scheme is Storj's, storj/common
`pb/orders.proto`). Nodes hand the largest order of each limit in, and are paid by it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta

from fallow.domain.errors import Conflict, InvalidInput, NotAllowed
from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.domain.signing import Signed

STEP_BYTES: Final = 512 << 10
"""What a node sends beyond the last order, at most (Storj's: 256 to 550 KiB, uplink `private/piecestore`)."""
ORDER_BYTES: Final = STEP_BYTES // 2
"""A client orders each time that so much more has come, or goes: a step's other half comes while the order goes.

What is put, a node takes no further than this beyond the last order.
"""
LIMIT_MS: Final = 3_600_000
"""How long a limit can be used."""
PIECE_ID_BYTES: Final = 32
SERIAL_BYTES: Final = 16

Action = Literal["put", "get", "repair_put", "repair_get"]
PieceId = Annotated[bytes, Meta(min_length=PIECE_ID_BYTES, max_length=PIECE_ID_BYTES)]
Serial = Annotated[bytes, Meta(min_length=SERIAL_BYTES, max_length=SERIAL_BYTES)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class OrderLimit(Signed, frozen=True, kw_only=True):
    """The network lets the holder of the key `client` move at most `bytes_max` bytes of one piece.

    `whose` tells the network, and nobody else, who pays; times are milliseconds since 1970.
    """

    tag: ClassVar[str] = "fallow/storage-limit/1"
    net: str
    serial: Serial
    node: NodeId
    client: NodeId
    piece: PieceId
    action: Action
    bytes_max: Count
    made_ms: Count
    expires_ms: Count
    whose: Annotated[bytes, Meta(max_length=128)] = b""


class Order(Signed, frozen=True, kw_only=True):
    """The client has had, or has sent, `bytes_all` bytes under a limit so far."""

    tag: ClassVar[str] = "fallow/storage-order/1"
    serial: Serial
    bytes_all: Count


class PieceClaim(Signed, frozen=True, kw_only=True):
    """What a client says that it has brought: these bytes and no others. The node keeps it for audits."""

    tag: ClassVar[str] = "fallow/storage-claim/1"
    net: str
    piece: PieceId
    length: Count
    hash: Hash


class PieceReceipt(Signed, frozen=True, kw_only=True):
    """The node has the piece: on its disk, or, where it is not `durable`, in the cache of its system."""

    tag: ClassVar[str] = "fallow/storage-receipt/1"
    net: str
    node: NodeId
    piece: PieceId
    length: Count
    hash: Hash
    durable: bool


class NotNow(NotAllowed):
    """A limit is good, and does not hold at this time: `storage.limit`."""


class BeyondLimit(InvalidInput):
    """The client has signed (`sealed`) that it had more than a limit allows: `storage.order`."""

    def __init__(self, sealed: bytes, limit: OrderLimit, bytes_all: int) -> None:
        super().__init__("storage.order", f"The limit allows {limit.bytes_max} bytes, not {bytes_all}.")
        self.sealed = sealed
        self.limit = limit


def check_limit(sealed: bytes, *, net: str, network_key: bytes, node: bytes, now_ms: int) -> OrderLimit:
    """Open a limit that was shown to a node.

    Raises:
        InvalidInput: malformed.
        NotAllowed: not by the network (`signing.signature`), or for another node (`storage.limit`).
        NotNow: the same code; it has expired, or is of a later time.
    """
    limit = OrderLimit.open(sealed, network_key)
    if limit.net != net or limit.node != node:
        raise NotAllowed("storage.limit", "The order limit is for another node.")
    if now_ms >= limit.expires_ms:
        raise NotNow("storage.limit", "The order limit has expired.", "Ask the network for a new one.")
    if limit.expires_ms > now_ms + 2 * LIMIT_MS:
        raise NotNow("storage.limit", "The order limit is of a later time than it is here.", "Take another node.")
    return limit


def check_order(sealed: bytes, limit: OrderLimit, before: int) -> Order:
    """Open an order under a limit, of which `before` bytes were ordered until now.

    Raises:
        BeyondLimit: signed as it should be, and beyond the limit.
        InvalidInput: malformed.
        NotAllowed: not by the limit's client, or under another limit.
        Conflict: it says less than an earlier one (`storage.order`).
    """
    order = Order.open(sealed, limit.client)
    if order.serial != limit.serial:
        raise NotAllowed("storage.order", "The order is under another limit.")
    if order.bytes_all > limit.bytes_max:
        raise BeyondLimit(sealed, limit, order.bytes_all)
    if order.bytes_all < before:
        raise Conflict("storage.order", "An earlier order says more.")
    return order


def overstated_limit(net: str, network_key: bytes, client: bytes, limit: bytes, order: bytes) -> OrderLimit:
    """Open a limit of the network's for a client, beyond which he signed an order.

    Raises:
        FallowError: the two do not show that (`storage.not_overstated`, or malformed, or signed by others).
    """
    opened = OrderLimit.open(limit, network_key)
    if (opened.net, opened.client) != (net, client):
        raise NotAllowed("storage.not_overstated", "The limit is another client's.")
    try:
        check_order(order, opened, 0)
    except BeyondLimit as error:
        return error.limit
    raise InvalidInput("storage.not_overstated", "The order is within its limit.")
