"""A systematic Reed-Solomon code with Cauchy's matrix: any `needed` shares of a stripe give all the others.

The first `needed` shares are the payload itself. Vandermonde's matrix would not do: with more than four parity shares
some sets of that many shares do not suffice.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from fallow.domain.errors import Conflict, InvalidInput
from fallow.verticals.storage.coding.isal import load

CHUNK_BYTES: Final = 16_384
"""Of each share at a time: then the shares of 80 pieces stay in the second-level cache."""

PIECES_MAX: Final = 255
"""Elements of the field, but for one."""

TABLE_BYTES: Final = 32
"""Of ISA-L's table for one coefficient."""

Table = ctypes.Array[ctypes.c_ubyte]


class Code:
    """Codes stripes. Calls let go of the interpreter, and may run in several threads."""

    def __init__(self, needed: int, pieces: int) -> None:
        if not 1 <= needed < pieces <= PIECES_MAX:
            raise InvalidInput("storage.code", f"No code has {needed} of {pieces} shares.")
        self.needed = needed
        self.pieces = pieces
        self._isal = load()
        matrix = (ctypes.c_ubyte * (pieces * needed))()
        self._isal.gf_gen_cauchy1_matrix(matrix, pieces, needed)
        self._rows = [bytes(matrix[at : at + needed]) for at in range(0, len(matrix), needed)]
        self._tables = lru_cache(maxsize=64)(self._table)

    def encode(self, shares: Sequence[memoryview]) -> None:
        """Fill the parity shares of a stripe, which come behind the payload's. All have one length."""
        numbers = tuple(range(self.needed))
        self._apply(numbers, tuple(range(self.needed, self.pieces)), shares[: self.needed], shares[self.needed :])

    def rebuild(self, have: Mapping[int, memoryview], want: Mapping[int, memoryview]) -> None:
        """Fill the shares `want` of a stripe from any `needed` of those in `have`. All have one length.

        Raises:
            Conflict: `storage.pieces`: there are fewer.
        """
        numbers = tuple(sorted(have))[: self.needed]
        if len(numbers) < self.needed:
            raise Conflict("storage.pieces", f"Of {self.needed} pieces that it takes there are {len(numbers)}.")
        if want:
            self._apply(numbers, tuple(want), [have[number] for number in numbers], list(want.values()))

    def _apply(
        self,
        sources: tuple[int, ...],
        targets: tuple[int, ...],
        read: Sequence[memoryview],
        write: Sequence[memoryview],
    ) -> None:
        length = len(read[0])
        if any(len(share) != length for share in (*read, *write)):
            raise InvalidInput("storage.code", "The shares of a stripe have one length.")
        table = self._tables(sources, targets)
        from_, to = [_address(share) for share in read], [_address(share) for share in write]
        for at in range(0, length, CHUNK_BYTES):
            self._isal.ec_encode_data(
                min(CHUNK_BYTES, length - at),
                len(from_),
                len(to),
                table,
                (ctypes.c_void_p * len(from_))(*[address + at for address in from_]),
                (ctypes.c_void_p * len(to))(*[address + at for address in to]),
            )

    def _table(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> Table:
        """Make ISA-L's table for computing `targets` from `sources`."""
        rows = self._coefficients(sources, targets)
        table = (ctypes.c_ubyte * (TABLE_BYTES * self.needed * len(targets)))()
        self._isal.ec_init_tables(self.needed, len(targets), b"".join(rows), table)
        return table

    def _coefficients(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> list[bytes]:
        if sources == tuple(range(self.needed)):
            return [self._rows[target] for target in targets]
        inverse = (ctypes.c_ubyte * (self.needed * self.needed))()
        square = ctypes.create_string_buffer(b"".join(self._rows[source] for source in sources), len(inverse))
        if self._isal.gf_invert_matrix(square, inverse, self.needed) != 0:
            raise ArithmeticError("a square part of Cauchy's matrix has an inverse")
        columns = [bytes(inverse[at :: self.needed]) for at in range(self.needed)]
        return [bytes(self._product(self._rows[target], column) for column in columns) for target in targets]

    def _product(self, row: bytes, column: bytes) -> int:
        total = 0
        for one, other in zip(row, column, strict=True):
            if one and other:
                total ^= self._isal.gf_mul(one, other) & 0xFF
        return total


def _address(share: memoryview) -> int:
    if share.readonly:
        raise InvalidInput("storage.code", "Shares lie in memory that can be written to.")
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(share))
