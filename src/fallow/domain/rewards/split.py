"""Cutting a pool into shares whose sum is exactly the pool.

Rounding rule: largest remainder (Hamilton). Each share is first rounded down; what is left goes, one unit each, to
those whose remainders are largest, and among equal ones to those that come first. Callers give recipients in the order
of their ids, so that the same inputs give the same shares everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from fallow.domain.errors import InvalidInput

PPM = 1_000_000


def split(pool: int, weights: Sequence[int]) -> list[int]:
    """Cut `pool` in proportion to `weights`. Where all are zero nobody gets anything and the pool stays where it is.

    Raises:
        InvalidInput: a negative pool or weight.
    """
    if pool < 0 or min(weights, default=0) < 0:
        raise InvalidInput("rewards.negative", "A pool and its weights are not negative.")
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    shares = [pool * weight // total for weight in weights]
    rest = pool - sum(shares)
    if rest == 0:
        return shares
    remainders = [pool * weight % total for weight in weights]
    last = sorted(remainders, reverse=True)[rest - 1]
    level = rest - sum(remainder > last for remainder in remainders)
    for place, remainder in enumerate(remainders):
        if remainder > last:
            shares[place] += 1
        elif remainder == last and level > 0:
            shares[place] += 1
            level -= 1
    return shares


def part(amount: int, ppm: int) -> int:
    """Millionths of an amount, rounded down.

    Raises:
        InvalidInput: more than the whole, or less than nothing.
    """
    if not 0 <= ppm <= PPM or amount < 0:
        raise InvalidInput("rewards.part", f"A part is 0 to {PPM} millionths of something, not {ppm} of {amount}.")
    return amount * ppm // PPM


def delegated(reward: int, take_ppm: int, own_stake: int, stakes: Sequence[int]) -> tuple[int, list[int]]:
    """What an operator and those who delegated to him get of a reward.

    He takes `take_ppm` millionths of what the delegators' stake earned, and all of what his own earned. Returns his
    part and the delegators', whose sum is the reward.

    Raises:
        InvalidInput: as `split` and `part`.
    """
    own, *gross = split(reward, [own_stake, *stakes])
    taken = [part(amount, take_ppm) for amount in gross]
    if not own_stake and not sum(stakes):
        return reward, [0] * len(stakes)
    return own + sum(taken), [amount - take for amount, take in zip(gross, taken, strict=True)]
