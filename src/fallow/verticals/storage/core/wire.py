"""What clients and nodes say to each other over one stream, which moves one piece. Pure.

The stream's opening carries a `Put` or `Get`. Then each side sends frames: four bytes of length (big-endian), and a
message of msgpack. Behind a `Data` frame come as many raw bytes as it says, so that bytes of pieces are not copied.

    put:  Put ▸ ◂ Go   (Data ▸ bytes ▸ … Pay ▸ before each further half step) Done ▸ ◂ Stored
    get:  Get ▸ (Pay ▸ twice for each step that came)  ◂ Data ◂ bytes …  ◂ Sent

A node sends at most a step beyond the last order (`orders.STEP_BYTES`), and takes at most half of one. For a put the
client pays for what it is about to send; for a get, a client that has received n bytes orders n, and no more. What is
wrong resets the stream with its error.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput
from fallow.domain.records import Count

LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 8 << 10
DATA_BYTES_MAX: Final = 1 << 20

Sealed = Annotated[bytes, Meta(max_length=1024)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Base of what is said."""


class Put(Message, frozen=True, tag="put"):
    """Take a piece of `length` bytes; `limit` is a sealed OrderLimit."""

    limit: Sealed
    length: Count


class Get(Message, frozen=True, tag="get"):
    """Send bytes `start` up to `stop` of a piece."""

    limit: Sealed
    start: Count
    stop: Count


class Go(Message, frozen=True, tag="go"):
    """A place is set aside: send."""


class Pay(Message, frozen=True, tag="pay"):
    """A sealed Order."""

    order: Sealed


class Data(Message, frozen=True, tag="data"):
    """So many bytes follow."""

    size: Annotated[int, Meta(ge=1, le=DATA_BYTES_MAX)]


class Done(Message, frozen=True, tag="done"):
    """All bytes were sent; a sealed PieceClaim, and a sealed Order over all of them."""

    claim: Sealed
    order: Sealed


class Stored(Message, frozen=True, tag="stored"):
    """A sealed PieceReceipt."""

    receipt: Sealed


class Sent(Message, frozen=True, tag="sent"):
    """All that was asked for was sent."""


Any_ = Put | Get | Go | Pay | Data | Done | Stored | Sent
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Any_)


def write(message: Message) -> bytes:
    """Write a message without a frame: the request of a stream's opening."""
    return _ENCODER.encode(message)


def frame(message: Message) -> bytes:
    """Write a message in its frame."""
    data = _ENCODER.encode(message)
    return len(data).to_bytes(LENGTH_BYTES) + data


def read(data: bytes) -> Any_:
    """Read a message.

    Raises:
        InvalidInput: malformed (`storage.message`).
    """
    try:
        message: Any_ = _DECODER.decode(data)
    except UNREADABLE as error:
        raise InvalidInput("storage.message", f"The message makes no sense: {error}.") from error
    return message
