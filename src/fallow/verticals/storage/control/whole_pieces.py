"""Pieces as wholes: read from their nodes, compared with one another, made anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from blake3 import blake3

from fallow.verticals.storage.client.pieces import Mover, get_piece
from fallow.verticals.storage.client.sending import code_of
from fallow.verticals.storage.coding.agreeing import altered
from fallow.verticals.storage.coding.segments import rebuild
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.core.calls.segments import Place
from fallow.verticals.storage.core.orders import ORDER_BYTES


async def differing(segment: Damaged, pieces: Mapping[int, memoryview]) -> frozenset[int]:
    """Which pieces are not what the others say that they are, by number.

    Raises:
        Conflict: there are not enough to tell (`storage.altered`).
    """
    code = code_of(segment.code.needed, segment.code.pieces)
    return await asyncio.to_thread(altered, code, segment.layout, pieces)


async def read_whole(mover: Mover, place: Place, size: int, step: int = ORDER_BYTES) -> memoryview:
    """Read a piece of so many bytes from a place, some at a time, which its node can tell by the orders that it gets.

    Raises:
        FallowError: its node does not give it.
    """
    reader = await get_piece(mover, place, 0, size)
    try:
        piece = memoryview(bytearray(size))
        for at in range(0, size, step):
            part = await reader.take(min(step, size - at))
            piece[at : at + len(part)] = part
        await reader.end()
    finally:
        reader.give_up()
    return piece


async def parts_of(piece: memoryview) -> AsyncIterator[memoryview]:
    """A piece, some at a time."""
    for at in range(0, len(piece), ORDER_BYTES):
        yield piece[at : at + ORDER_BYTES]


def made(segment: Damaged, numbers: Sequence[int], pieces: Mapping[int, memoryview]) -> dict[int, memoryview]:
    """Pieces by these numbers: those that are there as they are, the others made anew from them."""
    here = {number: pieces[number] for number in numbers if number in pieces}
    fresh = {number: memoryview(bytearray(segment.layout.piece_bytes)) for number in numbers if number not in here}
    if fresh:
        rebuild(code_of(segment.code.needed, segment.code.pieces), segment.layout, pieces, fresh)
    return here | fresh


def hash_of(piece: memoryview) -> bytes:
    """A piece's BLAKE3. For threads."""
    return blake3(piece).digest()
