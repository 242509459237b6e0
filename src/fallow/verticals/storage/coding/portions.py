"""A segment's pieces, made a few stripes at a time, or one piece's part of them alone for whoever comes late."""

from __future__ import annotations

from typing import Final

from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, Layout
from fallow.verticals.storage.core.sealing import SegmentSeal, seal_blocks

PORTION_BYTES: Final = 4 << 20
STRIPES_MAX: Final = 4
"""Of a portion: each piece then moves 256 KiB, for which a reader orders once."""


class Portions:
    """Any portion can be made at any time and in any thread: the payload is kept, and never written to."""

    def __init__(self, code: Code, key: bytes, payload: memoryview) -> None:
        self._code = code
        self._payload = payload
        self._layout = Layout(len(payload), code.needed)
        self._seal = SegmentSeal(key, self._layout.blocks)
        stripes = max(1, min(STRIPES_MAX, PORTION_BYTES // (code.pieces * SHARE_BYTES)))
        full = self._layout.full_stripes
        self._runs = [range(first, min(first + stripes, full)) for first in range(0, full, stripes)]
        if self._layout.last_share_bytes:
            self._runs.append(range(full, full + 1))

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def piece_bytes(self) -> int:
        """Bytes of each piece."""
        return self._layout.piece_bytes

    def make(self, number: int) -> list[memoryview]:
        """Return what each piece has of a portion, by piece."""
        length = self._length(number)
        buffer = memoryview(bytearray(self._code.pieces * length))
        parts = [buffer[at : at + length] for at in range(0, len(buffer), length)]
        self._fill(number, buffer, parts)
        self._code.encode(parts)
        return parts

    def one(self, number: int, piece: int) -> memoryview:
        """Return what one piece has of a portion."""
        run, length = self._runs[number], self._length(number)
        if piece < self._code.needed and run.start < self._layout.full_stripes:
            part = memoryview(bytearray(length))
            self._seal_piece(run, piece, part)
            return part
        buffer = memoryview(bytearray(self._code.needed * length))
        parts = [buffer[at : at + length] for at in range(0, len(buffer), length)]
        self._fill(number, buffer, parts)
        if piece < self._code.needed:
            return parts[piece]
        part = memoryview(bytearray(length))
        self._code.rebuild(dict(enumerate(parts)), {piece: part})
        return part

    def _length(self, number: int) -> int:
        run = self._runs[number]
        return len(run) * SHARE_BYTES if run.start < self._layout.full_stripes else self._layout.last_share_bytes

    def _fill(self, number: int, buffer: memoryview, parts: list[memoryview]) -> None:
        """Seal the payload of a portion into its parts, which lie in `buffer`, one behind the other."""
        run = self._runs[number]
        if run.start < self._layout.full_stripes:
            for piece in range(self._code.needed):
                self._seal_piece(run, piece, parts[piece])
        else:
            first = run.start * self._code.needed
            seal_blocks(self._seal, first, self._payload[first * BLOCK_BYTES :], buffer)

    def _seal_piece(self, run: range, piece: int, into: memoryview) -> None:
        for at, stripe in enumerate(run):
            number = stripe * self._code.needed + piece
            block = self._payload[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
            self._seal.seal(number, block, into[at * SHARE_BYTES : (at + 1) * SHARE_BYTES])
