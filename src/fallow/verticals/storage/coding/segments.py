"""A segment on its way to pieces: sealed, coded and hashed stripe by stripe; and back from any that suffice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from blake3 import blake3

from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, Layout
from fallow.verticals.storage.core.sealing import SegmentSeal, seal_blocks


class Stripe(NamedTuple):
    """Shares of all pieces, by number. They are overwritten by the next stripe."""

    number: int
    shares: list[memoryview]


class Encoder:
    """Makes the pieces of one segment, whose payload is known in length. `hashes` are there after the last stripe."""

    def __init__(self, code: Code, key: bytes, payload: int) -> None:
        self._code = code
        self._layout = Layout(payload, code.needed)
        self._seal = SegmentSeal(key, self._layout.blocks)
        self._hashes = [blake3() for _ in range(code.pieces)]
        self._buffer = memoryview(bytearray(code.pieces * SHARE_BYTES))

    def stripes(self, payload: memoryview) -> Iterator[Stripe]:
        """Yield all stripes of the payload."""
        step = self._code.needed * BLOCK_BYTES
        for number, share in enumerate(self._layout.shares()):
            first = number * self._code.needed
            end = seal_blocks(self._seal, first, payload[number * step : (number + 1) * step], self._buffer)
            padded = self._code.needed * share
            self._buffer[end:padded] = bytes(padded - end)
            shares = [self._buffer[at : at + share] for at in range(0, self._code.pieces * share, share)]
            self._code.encode(shares)
            for hashed, one in zip(self._hashes, shares, strict=True):
                hashed.update(one)
            yield Stripe(number, shares)

    def hashes(self) -> list[bytes]:
        """BLAKE3 of each piece."""
        return [hashed.digest() for hashed in self._hashes]


def rebuild(code: Code, layout: Layout, pieces: Mapping[int, memoryview], want: Mapping[int, memoryview]) -> None:
    """Fill whole pieces `want` from any `needed` others.

    Raises:
        Conflict: `storage.pieces`: there are fewer.
    """
    start = 0
    for share in layout.shares():
        stripe = slice(start, start + share)
        code.rebuild(
            {number: piece[stripe] for number, piece in pieces.items()},
            {number: piece[stripe] for number, piece in want.items()},
        )
        start += share


def sealed_of(layout: Layout, pieces: Mapping[int, memoryview], into: memoryview) -> None:
    """Put the sealed bytes of a segment together from its payload's pieces."""
    end = 0
    for one in layout.where(0, layout.sealed_bytes):
        part = pieces[one.piece][one.start : one.stop]
        into[end : end + len(part)] = part
        end += len(part)
