"""Incentives for what holds although nobody bought it: the exception of rule 9 that a network's rules may name. Pure.

A vertical that sells nothing (sensors, coverage) pays no fees, and so earns nothing under rule 9. Rules can give it a
part of what the schedule gives for an epoch. Whoever makes up such records at no cost gets his share of that part:
it is all that the exception can cost in an epoch, and `fallow epoch what-if --set unsold.NAME=PPM` shows who gets it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.epochs.economy import Pool
from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.rules import Rules
from fallow.domain.rewards.split import part, split


def unsold_of(
    tallies: Mapping[LineKey, Tally],
    scores: Mapping[LineKey, int],
    bought: Mapping[LineKey, int],
    rules: Rules,
    pool: Pool,
) -> dict[LineKey, int]:
    """Cut each named vertical's part over its lines by units times score: token units.

    Lines that fees were paid for, and those of nobody's node, are left out. Together with what was `bought` it is never
    more than the schedule gives; a part that nobody earns is not minted.
    """
    found: dict[LineKey, int] = {}
    room = pool.scheduled - sum(bought.values())
    for name, ppm in sorted(rules.unsold.items()):
        keys = sorted(key for key in tallies if key[0] == name and key[2] and key not in bought)
        units = max(0, min(part(pool.scheduled, ppm), room))
        shares = split(units, [tallies[key].units * scores[key] for key in keys])
        found |= zip(keys, shares, strict=True)
        room -= sum(shares)
    return {key: share for key, share in found.items() if share}
