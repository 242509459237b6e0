"""Where each byte of an object lies: segments, sealed blocks, stripes, shares and pieces. Pure.

An object is cut into segments of up to 64 MiB, and those into blocks of 65,520 bytes. Each is sealed into 65,536: one
share. A stripe is `needed` shares of payload, to which the parity shares are computed; a piece is what the shares of
one number in all stripes make together. So a small range is read from the one piece that holds its block, and a segment
is coded while it comes in. The last stripe is cut evenly, since there need not be `needed` blocks left for it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SHARE_BYTES: Final = 65_536
"""A power of two, so that BLAKE3 hashes whole subtrees: twice as fast."""

TAG_BYTES: Final = 16
BLOCK_BYTES: Final = SHARE_BYTES - TAG_BYTES
SEGMENT_BYTES: Final = 64 << 20
"""A power of two, as clients choose for parts and files: what is that large must not leave a rest for a second one."""


class Range(NamedTuple):
    """Bytes `start` up to `stop` of piece `piece`."""

    piece: int
    start: int
    stop: int


class Layout(NamedTuple):
    """Of one segment with `payload` bytes, coded with `needed` pieces of payload."""

    payload: int
    needed: int

    @property
    def blocks(self) -> int:
        """Sealed blocks; an empty segment has none."""
        return -(-self.payload // BLOCK_BYTES)

    @property
    def sealed_bytes(self) -> int:
        """Bytes of all sealed blocks."""
        return self.payload + self.blocks * TAG_BYTES

    @property
    def full_stripes(self) -> int:
        """Stripes with a whole block in each share."""
        return self.sealed_bytes // (self.needed * SHARE_BYTES)

    @property
    def last_share_bytes(self) -> int:
        """Bytes of each share of the last stripe; 0 where the full ones hold everything."""
        return -(-(self.sealed_bytes - self.full_stripes * self.needed * SHARE_BYTES) // self.needed)

    @property
    def piece_bytes(self) -> int:
        """Bytes of each piece."""
        return self.full_stripes * SHARE_BYTES + self.last_share_bytes

    def shares(self) -> list[int]:
        """Bytes of a share in each stripe."""
        return [SHARE_BYTES] * self.full_stripes + ([self.last_share_bytes] if self.last_share_bytes else [])

    def where(self, start: int, stop: int) -> list[Range]:
        """Which bytes of which pieces hold sealed bytes `start` up to `stop`, in their order.

        Raises:
            ValueError: the segment has no such bytes.
        """
        if not 0 <= start <= stop <= self.sealed_bytes:
            raise ValueError(f"bytes {start} to {stop} of {self.sealed_bytes}")
        found: list[Range] = []
        while start < stop:
            stripe, at = divmod(start, self.needed * SHARE_BYTES)
            share = SHARE_BYTES if stripe < self.full_stripes else self.last_share_bytes
            piece, within = divmod(at, share)
            taken = min(share - within, stop - start)
            begin = stripe * SHARE_BYTES + within
            found.append(Range(piece, begin, begin + taken))
            start += taken
        return found


def blocks_of(start: int, stop: int) -> range:
    """Return which blocks hold payload bytes `start` up to `stop`."""
    return range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
