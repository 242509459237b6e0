"""Calls about segments, and where their pieces are."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.domain.streams import DirectAddress
from fallow.verticals.storage.core.calls.base import Call, Id, Part, Sealed
from fallow.verticals.storage.core.layout import SEGMENT_BYTES

SEGMENTS_AT_ONCE: Final = 8

PLACES_AT_ONCE: Final = 360
"""With 2.8 kB each, 2 KiB of which are a certificate that the node chooses, they go over the bus in one answer."""

Payload = Annotated[int, Meta(ge=1, le=SEGMENT_BYTES)]
Pieces = Annotated[int, Meta(ge=1, le=255)]


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where piece `number` of a segment is, or may be brought to.

    `limit` is a sealed OrderLimit for the asked client, `ticket` a sealed StreamTicket. `direct` is where the node can
    be dialled itself, if it can.
    """

    number: int
    node: NodeId
    limit: bytes
    ticket: bytes
    direct: DirectAddress | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a segment is to be stored: as `pieces` pieces of which any `needed` suffice; at least `enough` must be."""

    segment: Id
    needed: Pieces
    pieces: Pieces
    enough: Pieces
    places: list[Place]


class BeginSegment(Call[Plan], frozen=True, kw_only=True):
    """Begin to store a segment of `payload` bytes in a bucket; `client` is the key that will sign orders and claims.

    The places are on distinct owners and networks, and where the bucket says so in its countries. There may be more
    than `pieces`: those with a `number` beyond are spare, for any piece whose own place is slow or fails (a limit is
    for one node and one piece id, which follows from segment and node, whatever the piece's number). Of the same
    (stream, part, index) anew the earlier one is dropped.

    Unavailable: `storage.too_few_nodes`, `storage.gateway_stake`. InsufficientFunds: `storage.no_subscription`,
    `storage.suspended`. TooMuch: `storage.too_much_begun`.
    """

    name: ClassVar[str] = "segment.begin"
    reply: ClassVar[Any] = Plan
    bucket: str
    stream: Id
    part: Part = 0
    index: Count = 0
    payload: Payload
    client: NodeId
    key: Annotated[bytes, Meta(max_length=128)]


class MorePlaces(Call[list[Place]], frozen=True, kw_only=True):
    """Further places for pieces whose nodes failed: others than those that the segment's plan had.

    Unavailable: `storage.too_few_nodes`, `storage.gateway_stake`.
    """

    name: ClassVar[str] = "segment.more"
    reply: ClassVar[Any] = list[Place]
    segment: Id
    numbers: Annotated[list[int], Meta(min_length=1, max_length=255)]


class EndSegment(Call[None], frozen=True, kw_only=True):
    """A segment is stored: the sealed PieceReceipts of its pieces, by number.

    InvalidInput: `storage.receipts` (they do not hold). Conflict: `storage.too_few_pieces`.
    """

    name: ClassVar[str] = "segment.end"
    reply: ClassVar[Any] = None
    segment: Id
    receipts: Annotated[dict[int, Annotated[bytes, Meta(max_length=1024)]], Meta(min_length=1, max_length=255)]


class SegmentRead(msgspec.Struct, frozen=True, kw_only=True):
    """A segment to read: `start` is where its payload begins in the version's bytes."""

    segment: Id
    part: Part
    index: Count
    start: Count
    payload: Payload
    key: bytes
    needed: Pieces
    pieces: Pieces
    places: list[Place]


class ReadSegments(Call[list[SegmentRead]], frozen=True, kw_only=True):
    """How bytes `start` up to `stop` of a version are read: the first segments that hold of them.

    These are `SEGMENTS_AT_ONCE` at most, and as many as have `PLACES_AT_ONCE` together, but for one that has more.
    `version` is the one that is read, by its id. Places are those of nodes that seem to be there, data pieces first,
    each limit for what of its piece is needed: some more than it takes, or with `every` all of them, for whom those
    did not suffice (nodes that died seem to be there for a while). NotFound: `storage.no_version`. InsufficientFunds:
    `storage.suspended`. Unavailable: `storage.gateway_stake`.
    """

    name: ClassVar[str] = "segment.read"
    reply: ClassVar[Any] = list[SegmentRead]
    bucket: str
    object: Sealed
    version: Id
    start: Count
    stop: Count
    client: NodeId
    every: bool = False


class SayAltered(Call[None], frozen=True, kw_only=True):
    """Say that a node did not give what was stored as its piece of a segment.

    Nothing follows from that alone: the network reads the piece itself, some time within the hour. It does so once a
    day of each node at most, and for a few nodes of each account; what goes beyond is passed over. InsufficientFunds:
    `storage.suspended`.
    """

    name: ClassVar[str] = "segment.altered"
    reply: ClassVar[Any] = None
    bucket: str
    segment: Id
    node: NodeId
