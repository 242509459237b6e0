"""Pieces of a segment that are not what the others say, found without its key."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Final

from fallow.domain.errors import Conflict
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.coding.segments import rebuild
from fallow.verticals.storage.core.layout import Layout

TRIES_MAX: Final = 500
"""Ways to choose pieces that are tried: more than there are where two more pieces than needed are there.

Of more ways some are drawn: those that follow one another in order nearly all have the first pieces in them. Where ten
of 80 pieces are altered, one of 129 draws of 29 has none of them.
"""


def altered(code: Code, layout: Layout, pieces: Mapping[int, memoryview]) -> frozenset[int]:
    """Return the numbers of whole pieces that are not what was stored; of just as many as are needed none shows.

    Two more than needed show one that is altered, and each two further ones one more: two segments' pieces never agree
    in `needed` places, so that no other choice of so many agrees as well.

    Raises:
        Conflict: `storage.altered`: some are, and these pieces do not show which.
        Conflict: `storage.pieces`: there are fewer than needed.
    """
    shown = (len(pieces) - code.needed) // 2
    for chosen in _choices(sorted(pieces), code.needed):
        fresh = {number: memoryview(bytearray(layout.piece_bytes)) for number in pieces if number not in chosen}
        rebuild(code, layout, {number: pieces[number] for number in chosen}, fresh)
        wrong = frozenset(number for number, piece in fresh.items() if piece != pieces[number])
        if len(wrong) <= shown:
            return wrong
    if len(pieces) < code.needed:
        raise Conflict("storage.pieces", f"Of {code.needed} pieces that it takes there are {len(pieces)}.")
    raise Conflict("storage.altered", "Some pieces are not what was stored, and it does not show which.")


def _choices(numbers: Sequence[int], needed: int) -> Iterator[Sequence[int]]:
    if comb(len(numbers), needed) <= TRIES_MAX:
        yield from combinations(numbers, needed)
    else:
        draw = random.Random(0)  # noqa: S311 - nobody gains by knowing the order
        for _ in range(TRIES_MAX):
            yield draw.sample(numbers, needed)
