"""How steps of a roll call are bound to, shown and checked: a Merkle root over all, and a few drawn ones in full."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from fallow.domain.decoding import UNREADABLE
from fallow.domain.encoding import decode, encode
from fallow.domain.errors import FallowError
from fallow.domain.merkle import merkle_proof, merkle_root, proves
from fallow.ports.vertical.capacity import Claim
from fallow.verticals.compute.core.steps import step

SHOWN = 8
"""Steps that are checked: who did half of what he claims is not found once in 256 calls, who did a fifth never."""


class Steps:
    """What a node did: see `fallow.ports.vertical.capacity.Effort`. `values` are by number."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.units = len(values)
        self.commitment = merkle_root(values)
        self._values = values

    def show(self, wanted: Sequence[int]) -> bytes:
        """Return steps with their paths; those that were never done are left out."""
        there = [number for number in wanted if number < self.units]
        return encode(
            [[self._values[n], [[left, part] for left, part in merkle_proof(self._values, n)]] for n in there]
        )


class StepCapacity:
    """See `fallow.ports.vertical.capacity.Capacity`."""

    def wanted(self, units: int, chance: bytes) -> list[int]:
        """Draw numbers below `units`; one may come twice."""
        drawn = [hmac.digest(chance, index.to_bytes(4, "big"), "sha256") for index in range(SHOWN if units else 0)]
        return [int.from_bytes(value, "big") % units for value in drawn]

    def holds(self, claim: Claim, wanted: Sequence[int], shown: bytes) -> bool:
        """Recompute what was shown, and whether its place in the tree is that of its number."""
        try:
            entries = decode(shown)
            return len(entries) == len(wanted) and all(
                _holds(claim, number, value, [(bool(left), bytes(part)) for left, part in path])
                for number, (value, path) in zip(wanted, entries, strict=True)
            )
        except (*UNREADABLE, FallowError, TypeError, ValueError):
            return False


def _holds(claim: Claim, number: int, value: bytes, path: list[tuple[bool, bytes]]) -> bool:
    sides = [left for left, _ in path]
    placed = sides == _sides(number, claim.units) and proves(claim.commitment, value, path)
    return placed and hmac.compare_digest(value, step(claim.challenge, claim.node, number))


def _sides(index: int, count: int) -> list[bool]:
    """On which side the siblings stand on the way up from a leaf, in a tree of so many."""
    sides: list[bool] = []
    while count > 1:
        if index ^ 1 < count:
            sides.append(index % 2 == 1)
        index, count = index // 2, (count + 1) // 2
    return sides
