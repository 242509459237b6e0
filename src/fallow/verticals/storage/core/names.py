"""Names of objects, sealed so that they still list in order, under prefixes, and between delimiters. Pure.

Each byte of a name becomes two: a number out of 65,536, that ascends with the byte. Where the 256 numbers lie follows
from the secret and from what stands before that byte: the numbers are cut in two at a place drawn uniformly, the lower
half of the bytes gets the lower part, and so on. So sealed names have the order of the names, and names with one
beginning have sealed ones with one beginning. Whoever sees sealed names learns their order, their lengths, how much of
their beginnings they share, and a guess at a byte from where its number lies, which is a coarse one for the first of
the uniform cuts. Behind each "/" another secret holds, which follows from the one before and the part of the name
between: it can be handed on, and opens what lies below and nothing beside it.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from fallow.domain.errors import InvalidInput

SECRET_BYTES: Final = 32
DELIMITER: Final = ord("/")
BYTES: Final = 256
NUMBERS: Final = 65_536
_BITS: Final = range(7, -1, -1)
_CUTS: Final = "fallow storage 1: numbers of a name's byte"
_BELOW: Final = "fallow storage 1: below a part of a name"


def below(secret: bytes, part: bytes) -> bytes:
    """The secret behind `part` and its "/", from the one before it."""
    return blake3(secret + part, derive_key_context=_BELOW).digest()


def seal_name(secret: bytes, name: bytes) -> bytes:
    """Seal a name, or the beginning of one. `secret` has 32 bytes."""
    sealed = bytearray()
    before = b""
    for byte in name:
        cuts, low, size, node = _cuts(secret, before), 0, NUMBERS, 1
        for bit in _BITS:
            lower = _lower(cuts, node, size, 1 << bit)
            upper = byte >> bit & 1
            low, size = (low + lower, size - lower) if upper else (low, lower)
            node = 2 * node + upper
        sealed += (low + _drawn(cuts, node, size)).to_bytes(2)
        secret, before = _next(secret, before, byte)
    return bytes(sealed)


def open_name(secret: bytes, sealed: bytes) -> bytes:
    """Open what `seal_name` sealed.

    Raises:
        InvalidInput: `storage.name`: it was not sealed under this secret.
    """
    name = bytearray()
    before = b""
    for at in range(0, len(sealed), 2):
        number = int.from_bytes(sealed[at : at + 2])
        cuts, low, size, node = _cuts(secret, before), 0, NUMBERS, 1
        for bit in _BITS:
            lower = _lower(cuts, node, size, 1 << bit)
            upper = number >= low + lower
            low, size = (low + lower, size - lower) if upper else (low, lower)
            node = 2 * node + upper
        if number != low + _drawn(cuts, node, size) or at + 2 > len(sealed):
            raise InvalidInput("storage.name", "This key does not open the object's name.")
        byte = node - BYTES
        name.append(byte)
        secret, before = _next(secret, before, byte)
    return bytes(name)


def _cuts(secret: bytes, before: bytes) -> bytes:
    """Two bytes for each node of a heap that counts from 1: 255 cuts, and below them 256 numbers."""
    return blake3(before, key=blake3(secret, derive_key_context=_CUTS).digest()).digest(length=4 * BYTES)


def _lower(cuts: bytes, node: int, size: int, half: int) -> int:
    """How many of `size` numbers go to the lower `half` bytes: uniform, and enough for the bytes of either part."""
    return half + _drawn(cuts, node, size - 2 * half + 1)


def _drawn(cuts: bytes, node: int, below_: int) -> int:
    """Draw a number from 0 up to `below_`."""
    return int.from_bytes(cuts[2 * node : 2 * node + 2]) * below_ >> 16


def _next(secret: bytes, before: bytes, byte: int) -> tuple[bytes, bytes]:
    if byte == DELIMITER:
        return below(secret, before), b""
    return secret, before + bytes([byte])
