"""What the network's side of storage and a node's worker say to each other, over the bus. Pure.

The worker tells its `Stock` every few seconds. Answers to questions are as their docstrings say, in msgpack.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput
from fallow.domain.records import Count
from fallow.verticals.storage.core.orders import PieceId
from fallow.verticals.storage.core.tariff import DAY_MS

CLOCK: Final = "storage.clock"
"""How a node's trouble begins where its clock is wrong: its owner is told of that, wherever he looks."""
PIECES_AT_ONCE: Final = 1000
TRASH_MS: Final = 7 * DAY_MS
"""How long a node keeps what it was told to put into the trash."""

Pieces = Annotated[list[PieceId], Meta(min_length=1, max_length=PIECES_AT_ONCE)]


class Stock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a node lends and what it has: bytes of its disk. `trouble` says why it takes nothing new; empty: it does.

    There is no zero byte in it: PostgreSQL keeps none, and all nodes are written together. `wish` is its sealed
    ExitWish, from when it leaves with what it lends; `receipt` its sealed ExitReceipt, once it has left and was started
    anew: for a network whose database was restored since, and does not know.
    """

    limit_bytes: Count
    used_bytes: Count
    room_bytes: Count
    trash_bytes: Count
    pieces: Count
    trouble: Annotated[str, Meta(max_length=200, pattern="^[^\\x00]*$")] = ""
    wish: Annotated[bytes, Meta(max_length=400)] = b""
    receipt: Annotated[bytes, Meta(max_length=1000)] = b""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is asked."""


class Trash(Question, frozen=True, tag="trash"):
    """These pieces are not wanted any more; they can be taken back for seven days. Answered with nothing."""

    pieces: Pieces


class TakeBack(Question, frozen=True, tag="take_back"):
    """Take these pieces out of the trash. Answered with the ids of those that are here."""

    pieces: Pieces


class Purge(Question, frozen=True, tag="purge"):
    """Overwrite and forget these pieces at once. Answered with nothing."""

    pieces: Pieces


class Held(Question, frozen=True, tag="held"):
    """Which of these pieces are here, and not in the trash? Answered with their ids."""

    pieces: Pieces


class Page(Question, frozen=True, tag="page"):
    """Pieces behind an id (empty: from the first), the trash left out, that were stored before a time (ms since 1970).

    Answered with up to `PIECES_AT_ONCE` ids, in their order.
    """

    after: bytes
    before_ms: Count


class Prove(Question, frozen=True, tag="prove"):
    """Show one chunk (of BLAKE3's 1,024 bytes) of a piece. Answered with `Proof`."""

    piece: PieceId
    chunk: Count


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chunk, the chaining values beside its way to the root from below, and the sealed PieceClaim of the piece."""

    data: Annotated[bytes, Meta(max_length=1024)]
    beside: Annotated[list[Annotated[bytes, Meta(min_length=32, max_length=32)]], Meta(max_length=54)]
    claim: Annotated[bytes, Meta(max_length=1024)]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An audit that did not succeed: the chunk that was asked for at a time (ms since 1970), and what came of it.

    `found` is the outcome and what is wrong (`failed: bytes`); `answer` is what the node said, or its error, cut short.
    """

    piece: Annotated[bytes, Meta(max_length=32)]
    chunk: Count
    asked_ms: Count
    took_ms: Count
    found: Annotated[str, Meta(max_length=200)]
    answer: Annotated[bytes, Meta(max_length=4096)] = b""


class Note(Question, frozen=True, tag="note"):
    """What the network has to say of this node to its owner, and why. Answered with nothing.

    `kind` is "warning", "suspended", "reinstated" or "disqualified"; `code` says of what, `text` says it in words.
    """

    kind: Annotated[str, Meta(max_length=20)]
    code: Annotated[str, Meta(max_length=60)]
    text: Annotated[str, Meta(max_length=400)]
    at_ms: Count
    evidence: Annotated[list[Evidence], Meta(max_length=20)] = []


class ShowClaim(Question, frozen=True, tag="claim"):
    """What was claimed when a piece was brought? Answered with the sealed PieceClaim."""

    piece: PieceId


class ExitSays(Question, frozen=True, kw_only=True, tag="exit"):
    """How far a node is that leaves, for its owner. Answered with nothing.

    `waiting` pieces are known that are still to be moved; while not `counted`, there may be more. `reason` says what
    was in the way last. `receipt`: the sealed ExitReceipt, in the end.
    """

    moved: Count
    moved_bytes: Count
    failed: Count
    gone: Count
    waiting: Count
    counted: bool
    reason: Annotated[str, Meta(max_length=300)] = ""
    receipt: Annotated[bytes, Meta(max_length=2048)] = b""


class Tell(Question, frozen=True, tag="statement"):
    """A sealed Statement of this node, for its owner. Answered with nothing."""

    statement: Annotated[bytes, Meta(max_length=2048)]


AnyQuestion = Trash | TakeBack | Purge | Held | Page | Prove | ShowClaim | Note | ExitSays | Tell


def read_question(data: bytes) -> AnyQuestion:
    """Read a question.

    Raises:
        InvalidInput: malformed (`storage.question`).
    """
    try:
        question: AnyQuestion = msgspec.msgpack.decode(data, type=AnyQuestion)
    except UNREADABLE as error:
        raise InvalidInput("storage.question", f"The question makes no sense: {error}.") from error
    return question
