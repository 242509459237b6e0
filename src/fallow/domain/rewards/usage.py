"""Incentive on usage, which may never exceed the fee that this usage paid (rule 9): dealing with oneself never pays.

Whoever buys from himself through however many accounts gets back what he paid less the fee, and at most the fee as
incentive. Where that is tokens he bears their price; where the fee is shared with a reserve he is behind by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fallow.domain.errors import InvalidInput
from fallow.domain.rewards.split import PPM, part, split


class Use(NamedTuple):
    """What one provider was paid for, in micro-US-dollars: the fee of it, and of that what only a gateway attests."""

    fee: int
    fee_attested: int = 0


def caps_of(uses: Sequence[Use], *, ppm: int, attested_ppm: int) -> list[int]:
    """What each use may earn at most, in micro-US-dollars.

    `ppm` bounds an incentive to so many millionths of its fee; of fees that only a gateway attests, to
    `attested_ppm`.

    Raises:
        InvalidInput: more than the fee is allowed, or a use is out of range.
    """
    if not 0 <= attested_ppm <= ppm <= PPM:
        raise InvalidInput("rewards.rule_9", "An incentive on usage is at most the fee that it paid.")
    if any(not 0 <= use.fee_attested <= use.fee for use in uses):
        raise InvalidInput("rewards.use", "What a gateway attests is a part of the fee.")
    return [part(use.fee - use.fee_attested, ppm) + part(use.fee_attested, attested_ppm) for use in uses]


def incentives(pool: int, caps: Sequence[int]) -> list[int]:
    """Cut a pool in proportion to caps of the same unit, none above its own; what they leave over is not minted."""
    return split(min(pool, sum(caps)), caps)
