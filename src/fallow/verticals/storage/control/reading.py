"""Which segments hold bytes of a version, and what of their pieces is needed for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fallow.domain.errors import Unavailable
from fallow.verticals.storage.control.segments import SegmentRow
from fallow.verticals.storage.core.layout import SHARE_BYTES, Layout, blocks_of
from fallow.verticals.storage.core.profiles import PROFILES


class Wanted(NamedTuple):
    """A segment whose payload begins at byte `start` of its version; `piece_bytes` of each piece may be needed."""

    segment: SegmentRow
    start: int
    piece_bytes: int


def wanted(
    segments: Sequence[SegmentRow], parts: Sequence[tuple[int, int]], start: int, stop: int, limit: int
) -> list[Wanted]:
    """Return the first segments of a version that hold bytes `start` up to `stop`.

    `parts` are its parts' numbers and bytes in their order, `segments` all of its stream, by part and index.

    Raises:
        Unavailable: `storage.incomplete`: they do not hold all of it.
    """
    found: list[Wanted] = []
    for segment, at in _laid_out(segments, parts):
        first, last = max(start, at) - at, min(stop, at + segment.payload) - at
        if first < last:
            layout = Layout(segment.payload, PROFILES[segment.profile].needed)
            found.append(Wanted(segment, at, stripes_bytes(layout, first, last)))
            if len(found) == limit:
                break
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


def _laid_out(segments: Sequence[SegmentRow], parts: Sequence[tuple[int, int]]) -> Iterator[tuple[SegmentRow, int]]:
    by_part: dict[int, list[SegmentRow]] = {}
    for segment in segments:
        by_part.setdefault(segment.part, []).append(segment)
    at = 0
    for part, size in parts:
        end = at + size
        for number, segment in enumerate(by_part.get(part, [])):
            if at == end:
                break
            if segment.number != number or at + segment.payload > end:
                raise _incomplete(part)
            yield segment, at
            at += segment.payload
        if at != end:
            raise _incomplete(part)


def _incomplete(part: int) -> Unavailable:
    return Unavailable(
        "storage.incomplete", f"Not all segments of part {part} are known.", "This is an error of the network's."
    )
