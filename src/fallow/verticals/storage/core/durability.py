"""How likely a segment is lost, from how fast nodes leave and how long repair takes. Pure.

Nodes leave independently of each other here; owners, networks and countries that fail as one make it worse, which is
why a segment's pieces are spread over them, and what `make bench-durability` simulates.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

DAYS_A_YEAR: Final = 365.0


class Churn(NamedTuple):
    """`loss_per_day`: rate at which a node leaves for ever. `delay_days`: from the loss that calls for repair on."""

    loss_per_day: float
    delay_days: float


def monthly(share: float, delay_days: float = 1.0) -> Churn:
    """Churn in which this share of the nodes leaves within 30 days."""
    return Churn(-math.log1p(-share) / 30.0, delay_days)


def loss(needed: int, pieces: int, lost: float) -> float:
    """Probability that fewer than `needed` of `pieces` are left when each is lost with probability `lost`."""
    return math.fsum(
        math.comb(pieces, gone) * lost**gone * (1.0 - lost) ** (pieces - gone)
        for gone in range(pieces - needed + 1, pieces + 1)
    )


def repair_interval_days(repair: int, pieces: int, churn: Churn) -> float:
    """Days until `pieces` pieces have fallen to `repair`, on average: the sum of the waits for each loss.

    The k-th of n pieces is lost after 1 / (n rate) days, the next after 1 / ((n-1) rate), and so on.
    """
    return math.fsum(1.0 / left for left in range(repair + 1, pieces + 1)) / churn.loss_per_day


def annual_loss(needed: int, repair: int, pieces: int, churn: Churn) -> float:
    """Probability that a segment is lost within a year.

    Each repair begins at `repair` pieces; the segment is lost if, before it ends, so many more go that fewer than
    `needed` are left. Over a year that is tried once for each time that the pieces fall to `repair`.
    """
    gone = -math.expm1(-churn.loss_per_day * churn.delay_days)
    times = DAYS_A_YEAR / (repair_interval_days(repair, pieces, churn) + churn.delay_days)
    return -math.expm1(times * math.log1p(-loss(needed, repair, gone)))


def nines(probability: float) -> float:
    """How many nines the complement has: 3.0 for a loss of one in a thousand."""
    return math.inf if probability <= 0.0 else -math.log10(probability)
