"""Frames: what a session is made of on the wire.

    kind (1 byte)  stream (4 bytes)  length of the payload (2 bytes)  payload

Numbers are big-endian. A frame can be no larger than its length field allows, so that a reader's memory is bounded
before it has looked at anything else.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput

PAYLOAD_BYTES_MAX: Final = 0xFFFF
STREAM_MAX: Final = 0xFFFF_FFFF

_HEADER = struct.Struct("!BIH")
_CREDIT = struct.Struct("!I")
_ACK = struct.Struct("!Q")


class Kind(IntEnum):
    """What a frame says. All but ACK are counted, so that both sides know what arrived when a link breaks."""

    OPEN = 1
    """A new stream; the payload says what for."""
    DATA = 2
    CREDIT = 3
    """So many further bytes may be sent on the stream (4 bytes)."""
    END = 4
    """No further data from this side."""
    RESET = 5
    """The stream is over for both sides; the payload is the error."""
    ACK = 6
    """How many counted frames have arrived in this session so far (8 bytes); the stream is 0."""


_SIZES = {Kind.CREDIT: _CREDIT.size, Kind.END: 0, Kind.ACK: _ACK.size}
_KINDS = {int(kind): kind for kind in Kind}


class Frame(NamedTuple):
    """One frame. `stream` is 0 for an ACK and nothing else."""

    kind: Kind
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        """What a CREDIT or an ACK carries."""
        return int.from_bytes(self.payload, "big")


def encode(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame; struct.error when the payload is longer than PAYLOAD_BYTES_MAX."""
    return _HEADER.pack(kind, stream, len(payload)) + payload


def encode_credit(stream: int, size: int) -> bytes:
    """Write a CREDIT."""
    return encode(Kind.CREDIT, stream, _CREDIT.pack(size))


def encode_ack(count: int) -> bytes:
    """Write an ACK."""
    return encode(Kind.ACK, 0, _ACK.pack(count))


class Reader:
    """Cuts bytes into frames, however they were split on their way. Holds less than one frame."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes in; return the frames that they complete.

        Raises:
            InvalidInput: this is no frame (`wire.frame`). The reader is of no use afterwards.
        """
        if self._rest:
            data = self._rest + data
        frames, at = [], 0
        while len(data) - at >= _HEADER.size:
            number, stream, size = _HEADER.unpack_from(data, at)
            kind = _checked(number, stream, size)
            end = at + _HEADER.size + size
            if end > len(data):
                break
            frames.append(Frame(kind, stream, data[at + _HEADER.size : end]))
            at = end
        self._rest = data[at:]
        return frames


def _checked(number: int, stream: int, size: int) -> Kind:
    kind = _KINDS.get(number)
    if kind is None or (kind is Kind.ACK) != (stream == 0) or size != _SIZES.get(kind, size):
        raise InvalidInput("wire.frame", f"The other side sent what is no frame (kind {number}, stream {stream}).")
    return kind
