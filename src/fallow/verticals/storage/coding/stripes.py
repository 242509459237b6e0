"""One stripe on its way back: its blocks opened, from other shares where some are missing or altered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, TAG_BYTES, Layout
from fallow.verticals.storage.core.sealing import SegmentSeal

TRIES_MAX: Final = 300
"""Ways to choose shares that are tried where some are altered and it does not show which."""

Shares = Mapping[int, memoryview]


class Opened(NamedTuple):
    """The payload of the blocks that were wanted, or None: further shares are needed. `altered` are no such pieces."""

    payload: bytearray | None
    altered: frozenset[int]


class Opener:
    """Opens stripes of one segment."""

    def __init__(self, code: Code, key: bytes, layout: Layout) -> None:
        self._code = code
        self._layout = layout
        self._seal = SegmentSeal(key, layout.blocks)

    def pieces(self, stripe: int, blocks: range) -> frozenset[int]:
        """Which pieces hold these blocks of a stripe."""
        start, share = stripe * self._code.needed * SHARE_BYTES, self.share(stripe)
        first = (blocks.start * SHARE_BYTES - start) // share
        last = (min(blocks.stop * SHARE_BYTES, self._layout.sealed_bytes) - start - 1) // share
        return frozenset(range(first, last + 1))

    def share(self, stripe: int) -> int:
        """Bytes of each share of a stripe."""
        return SHARE_BYTES if stripe < self._layout.full_stripes else self._layout.last_share_bytes

    def open_whole(self, stripes: Sequence[tuple[int, range, Shares]]) -> list[bytearray]:
        """Open stripes whose shares that hold the blocks are there, up to the first where such a share is altered."""
        payloads = list[bytearray]()
        for one in stripes:
            payload = self._payload(*one)
            if payload is None:
                break
            payloads.append(payload)
        return payloads

    def open(self, stripe: int, blocks: range, shares: Shares) -> Opened:
        """Open `blocks` of a stripe. All shares have the stripe's length, and can be written to."""
        if self.pieces(stripe, blocks) <= shares.keys():
            payload = self._payload(stripe, blocks, shares)
            if payload is not None:
                return Opened(payload, frozenset())
        altered = self._altered_blocks(stripe, shares) if stripe < self._layout.full_stripes else frozenset()
        good = {piece: share for piece, share in shares.items() if piece not in altered}
        for chosen in islice(self._choices(stripe, good), TRIES_MAX):
            whole = self._whole(stripe, {piece: good[piece] for piece in chosen})
            payload = self._payload(stripe, blocks, whole)
            if payload is not None:
                others = {piece for piece in good if whole[piece] != good[piece]}
                return Opened(payload, altered | others)
        return Opened(None, altered)

    def _choices(self, stripe: int, good: Shares) -> Iterator[tuple[int, ...]]:
        """Ways to choose shares that may suffice: those that hold whole blocks have shown that they are right."""
        sure = sorted(piece for piece in good if piece < self._code.needed) if self._is_full(stripe) else []
        rest = sorted(good.keys() - set(sure))
        return ((*sure, *more) for more in combinations(rest, self._code.needed - len(sure)))

    def _is_full(self, stripe: int) -> bool:
        return stripe < self._layout.full_stripes

    def _altered_blocks(self, stripe: int, shares: Shares) -> frozenset[int]:
        """Of a full stripe's shares that hold a block each: those whose block does not open."""
        scratch = memoryview(bytearray(BLOCK_BYTES))
        found = set()
        for piece in (piece for piece in shares if piece < self._code.needed):
            try:
                self._seal.open(stripe * self._code.needed + piece, shares[piece], scratch)
            except InvalidInput:
                found.add(piece)
        return frozenset(found)

    def _whole(self, stripe: int, have: Shares) -> Shares:
        """All shares of a stripe, from those that suffice."""
        missing = [piece for piece in range(self._code.pieces) if piece not in have]
        rest = {piece: memoryview(bytearray(self.share(stripe))) for piece in missing}
        self._code.rebuild(have, rest)
        return {**have, **rest}

    def _payload(self, stripe: int, blocks: range, shares: Shares) -> bytearray | None:
        """Open blocks from the shares that hold them; None where one does not open."""
        sealed = self._sealed(stripe, blocks, shares)
        size = min(blocks.stop * BLOCK_BYTES, self._layout.payload) - blocks.start * BLOCK_BYTES
        payload = bytearray(size)
        into = memoryview(payload)
        try:
            for at, number in enumerate(blocks):
                block = sealed[at]
                begin = at * BLOCK_BYTES
                self._seal.open(number, block, into[begin : begin + len(block) - TAG_BYTES])
        except InvalidInput:
            return None
        return payload

    def _sealed(self, stripe: int, blocks: range, shares: Shares) -> list[memoryview]:
        first = stripe * self._code.needed
        if self._is_full(stripe):
            return [shares[number - first] for number in blocks]
        whole = memoryview(b"".join(shares.get(piece, bytes(self.share(stripe))) for piece in range(self._code.needed)))
        whole = whole[: self._layout.sealed_bytes - first * SHARE_BYTES]
        return [whole[(number - first) * SHARE_BYTES : (number - first + 1) * SHARE_BYTES] for number in blocks]
