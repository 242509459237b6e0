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

import sys
from array import array
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from fallow.domain.errors import InvalidInput

SECRET_BYTES: Final = 32
DELIMITER: Final = ord("/")
BYTES: Final = 256
NUMBERS: Final = 65_536
_HALVES: Final = (128, 64, 32, 16, 8, 4, 2, 1)
_CUTS: Final = "fallow storage 1: numbers of a name's byte"
_BELOW: Final = "fallow storage 1: below a part of a name"


def below(secret: bytes, part: bytes) -> bytes:
    """The secret behind `part` and its "/", from the one before it."""
    return blake3(secret + part, derive_key_context=_BELOW).digest()


def seal_name(secret: bytes, name: bytes) -> bytes:
    """Seal a name, or the beginning of one. `secret` has 32 bytes."""
    sealed = bytearray()
    state = _State.first(secret)
    for byte in name:
        sealed += state.seal(byte).to_bytes(2)
        state = state.behind(byte)
    return bytes(sealed)


def open_name(secret: bytes, sealed: bytes) -> bytes:
    """Open what `seal_name` sealed.

    Raises:
        InvalidInput: `storage.name`: it was not sealed under this secret.
    """
    return open_names(secret, [sealed])[0]


def open_names(secret: bytes, sealed: Sequence[bytes]) -> list[bytes]:
    """Open many; the beginning that one has in common with the one before costs nothing.

    Raises:
        InvalidInput: as for `open_name`.
    """
    names: list[bytes] = []
    before, name, states = b"", bytearray(), [_State.first(secret)]
    for one in sealed:
        if len(one) % 2:
            raise _foreign()
        shared = _shared(before, one)
        del name[shared:], states[shared + 1 :]
        for at in range(2 * shared, len(one), 2):
            byte = states[-1].open(one[at] << 8 | one[at + 1])
            name.append(byte)
            states.append(states[-1].behind(byte))
        names.append(bytes(name))
        before = one
    return names


class _State:
    """Where the numbers of a name's next byte lie. `cutting` is the key that they are drawn with, of `secret`."""

    __slots__ = ("before", "cuts", "cutting", "secret")

    def __init__(self, secret: bytes, cutting: bytes, before: bytes) -> None:
        self.secret = secret
        self.cutting = cutting
        self.before = before
        self.cuts: array[int] | None = None

    @classmethod
    def first(cls, secret: bytes) -> _State:
        """At the beginning, or behind a "/"."""
        return cls(secret, blake3(secret, derive_key_context=_CUTS).digest(), b"")

    def behind(self, byte: int) -> _State:
        """Behind a byte."""
        if byte == DELIMITER:
            return self.first(below(self.secret, self.before))
        return _State(self.secret, self.cutting, self.before + bytes((byte,)))

    def seal(self, byte: int) -> int:
        """Return the number of a byte."""
        cuts, low, size, node = self._cuts(), 0, NUMBERS, 1
        for half in _HALVES:
            lower = half + (cuts[node] * (size - 2 * half + 1) >> 16)
            if byte & half:
                low, size, node = low + lower, size - lower, 2 * node + 1
            else:
                size, node = lower, 2 * node
        return low + (cuts[node] * size >> 16)

    def open(self, number: int) -> int:
        """Return the byte of a number."""
        cuts, low, size, node = self._cuts(), 0, NUMBERS, 1
        for half in _HALVES:
            lower = half + (cuts[node] * (size - 2 * half + 1) >> 16)
            if number >= low + lower:
                low, size, node = low + lower, size - lower, 2 * node + 1
            else:
                size, node = lower, 2 * node
        if number != low + (cuts[node] * size >> 16):
            raise _foreign()
        return node - BYTES

    def _cuts(self) -> array[int]:
        """Numbers for the nodes of a heap that counts from 1: 255 cuts, and below them 256 numbers.

        A cut says how many of `size` numbers go to the lower `half` bytes: uniform, and enough for either part.
        """
        if self.cuts is None:
            self.cuts = array("H", blake3(self.before, key=self.cutting).digest(length=4 * BYTES))
            if sys.byteorder == "little":
                self.cuts.byteswap()
        return self.cuts


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes of two names are the same at their beginnings, of which these are the sealed ones."""
    low, high = 0, min(len(one), len(other)) // 2
    while low < high:
        middle = (low + high + 1) // 2
        if one[: 2 * middle] == other[: 2 * middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _foreign() -> InvalidInput:
    return InvalidInput("storage.name", "This key does not open the object's name.")
