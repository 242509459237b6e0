"""Pieces of a segment that are not what the others say, found without its key."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, islice
from typing import Final

from fallow.domain.errors import Conflict
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.coding.segments import rebuild
from fallow.verticals.storage.core.layout import Layout

TRIES_MAX: Final = 500
"""Ways to choose pieces that are tried: more than there are where two more pieces than needed are there."""


def altered(code: Code, layout: Layout, pieces: Mapping[int, memoryview]) -> frozenset[int]:
    """Return the numbers of whole pieces that are not what was stored; of just as many as are needed none shows.

    Two more than needed show one that is altered, and each two further ones one more: two segments' pieces never agree
    in `needed` places, so that no other choice of so many agrees as well.

    Raises:
        Conflict: `storage.altered`: some are, and these pieces do not show which.
        Conflict: `storage.pieces`: there are fewer than needed.
    """
    shown = (len(pieces) - code.needed) // 2
    for chosen in islice(combinations(sorted(pieces), code.needed), TRIES_MAX):
        fresh = {number: memoryview(bytearray(layout.piece_bytes)) for number in pieces if number not in chosen}
        rebuild(code, layout, {number: pieces[number] for number in chosen}, fresh)
        wrong = frozenset(number for number, piece in fresh.items() if piece != pieces[number])
        if len(wrong) <= shown:
            return wrong
    if len(pieces) < code.needed:
        raise Conflict("storage.pieces", f"Of {code.needed} pieces that it takes there are {len(pieces)}.")
    raise Conflict("storage.altered", "Some pieces are not what was stored, and it does not show which.")
