"""What goes over a stream that carries a command in a sandbox: pieces, each with its kind.

    kind (1 byte)  length (2 bytes)  payload

Numbers are big-endian. To the node: INPUT, INPUT_END, SIZE. From it: OUTPUT and ERRORS, and EXIT (or REFUSED) as the
last thing; a stream that ends without it was cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput
from fallow.domain.streams import TerminalSize

PAYLOAD_BYTES_MAX: Final = 32 << 10
CODE_MAX: Final = 255
"""Above 128 it is a signal's number, as shells count."""

_HEADER = struct.Struct("!BH")
_SIZE = struct.Struct("!HH")


class Kind(IntEnum):
    """What a piece is."""

    INPUT = 1
    INPUT_END = 2
    SIZE = 3
    """The terminal's new size: rows and columns (2 bytes each)."""
    OUTPUT = 17
    ERRORS = 18
    EXIT = 19
    """The command has ended, with this code (1 byte)."""
    REFUSED = 20
    """It cannot be run, or was cut off: over HTTP alone, where a stream cannot say so itself; an ErrorView in JSON."""


_LENGTHS = {Kind.INPUT_END: 0, Kind.SIZE: _SIZE.size, Kind.EXIT: 1}
_KINDS = {int(kind): kind for kind in Kind}


class Piece(NamedTuple):
    """One piece."""

    kind: Kind
    payload: bytes

    @property
    def code(self) -> int:
        """What an EXIT carries."""
        return self.payload[0]

    @property
    def size(self) -> TerminalSize:
        """What a SIZE carries; a terminal without rows or columns has one of them."""
        rows, columns = (max(1, number) for number in _SIZE.unpack(self.payload))
        return TerminalSize(rows, columns)


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    """Write a piece; struct.error when the payload does not fit its length."""
    return _HEADER.pack(kind, len(payload)) + payload


def encode_data(kind: Kind, data: bytes) -> bytes:
    """Write data of any length as pieces."""
    starts = range(0, len(data), PAYLOAD_BYTES_MAX)
    return b"".join(encode(kind, data[start : start + PAYLOAD_BYTES_MAX]) for start in starts)


def encode_size(size: TerminalSize) -> bytes:
    """Write a terminal's size."""
    return encode(Kind.SIZE, _SIZE.pack(size.rows, size.columns))


class Pieces:
    """Reads pieces from bytes as they come; holds one piece at most."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Return the pieces that are complete now.

        Raises:
            InvalidInput: it is none (`stream.command`).
        """
        self._rest += data
        while len(self._rest) >= _HEADER.size:
            number, length = _HEADER.unpack_from(self._rest)
            kind = _KINDS.get(number)
            if kind is None or length > PAYLOAD_BYTES_MAX or length != _LENGTHS.get(kind, length):
                raise InvalidInput("stream.command", f"A command's stream holds a malformed piece of kind {number}.")
            end = _HEADER.size + length
            if len(self._rest) < end:
                return
            payload, self._rest = self._rest[_HEADER.size : end], self._rest[end:]
            yield Piece(kind, payload)
