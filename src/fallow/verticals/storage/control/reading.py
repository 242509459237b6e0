"""Which segments hold bytes of a version, and what of their pieces is needed for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fallow.domain.errors import Unavailable
from fallow.verticals.storage.control.segments import SegmentRow
from fallow.verticals.storage.core.layout import SHARE_BYTES, Layout, blocks_of
from fallow.verticals.storage.core.profiles import PROFILES


class Span(NamedTuple):
    """Bytes `start` up to `stop` of a part, which begins at byte `at` of its version and has `size` bytes."""

    part: int
    at: int
    size: int
    start: int
    stop: int


class Wanted(NamedTuple):
    """A segment whose payload begins at byte `start` of its version; `piece_bytes` of each piece may be needed."""

    segment: SegmentRow
    start: int
    piece_bytes: int


def spans(parts: Sequence[tuple[int, int]], start: int, stop: int, limit: int) -> list[Span]:
    """Return what of which parts holds bytes `start` up to `stop`: the first `limit` of them.

    `parts` are the version's parts' numbers and bytes in their order.
    """
    found: list[Span] = []
    at = 0
    for part, size in parts:
        first, last = max(start - at, 0), min(stop - at, size)
        if first < last and len(found) < limit:
            found.append(Span(part, at, size, first, last))
        at += size
    return found


def wanted(asked: Sequence[Span], segments: Sequence[tuple[SegmentRow, int]], limit: int) -> list[Wanted]:
    """Return the first `limit` segments that hold what is asked for.

    `segments` are those that do, in their order, each with where it begins in its part.

    Raises:
        Unavailable: `storage.incomplete`: some are missing.
    """
    found: list[Wanted] = []
    for span in asked:
        position = span.start
        for segment, at in segments:
            if len(found) == limit:
                return found
            if position == span.stop:
                break
            if segment.part == span.part and at <= position < at + segment.payload <= span.size:
                stop = min(span.stop, at + segment.payload)
                layout = Layout(segment.payload, PROFILES[segment.profile].needed)
                found.append(Wanted(segment, span.at + at, stripes_bytes(layout, position - at, stop - at)))
                position = stop
        if position < span.stop and len(found) < limit:
            raise Unavailable(
                "storage.incomplete",
                f"Bytes from {span.at + position} on are not known.",
                "This is an error of the network's.",
            )
    return found


def stripes_bytes(layout: Layout, start: int, stop: int) -> int:
    """Bytes of each piece in the stripes that hold payload bytes `start` up to `stop`: enough to do without any piece.

    A client that gets the blocks from their own pieces orders less.
    """
    blocks = blocks_of(start, stop)
    stripe = layout.needed * SHARE_BYTES
    sealed_stop = min(blocks.stop * SHARE_BYTES, layout.sealed_bytes)
    first, last = blocks.start * SHARE_BYTES // stripe, -(-sealed_stop // stripe)
    return min(last * SHARE_BYTES, layout.piece_bytes) - first * SHARE_BYTES
