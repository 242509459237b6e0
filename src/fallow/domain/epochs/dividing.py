"""What subscriptions paid an account, divided over its nodes by what each of them was used for. Pure.

Windows of subscriptions and sums of use end at different times, so that an account may be paid in an epoch in which
none of its nodes was used: then what they were used for last counts. An account of whose nodes nothing is known is paid
by a line of the core, as all are where a vertical's policy weighs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.state import Row, amount

SECTION: Final = "core.weights"
"""Its rows in the state: [vertical, node, account, weight]."""

Weights = Mapping[tuple[str, bytes], Mapping[LineKey, int]]
"""By vertical and account: those of its nodes."""


def read_weights(carried: Mapping[str, Sequence[Row]]) -> Weights:
    """Read the rows of the state."""
    return _by_account({(row[0], row[1], row[2]): int.from_bytes(row[3]) for row in carried.get(SECTION, ())})


def weights_of(before: Weights, tallies: Mapping[LineKey, Tally]) -> Weights:
    """What counts at the end of an epoch: of each account what its nodes were used for in it, or last."""
    return {**before, **_by_account({key: tally.weight for key, tally in tallies.items() if tally.weight})}


def weight_rows(weights: Weights) -> list[Row]:
    """What is carried."""
    return [[*key, amount(weight)] for of_account in weights.values() for key, weight in of_account.items()]


def of_verticals(weights: Weights, verticals: Collection[str]) -> Weights:
    """Those of verticals that have a policy in the epoch."""
    return {key: of_account for key, of_account in weights.items() if key[0] in verticals}


def _by_account(weights: Mapping[LineKey, int]) -> Weights:
    found: defaultdict[tuple[str, bytes], dict[LineKey, int]] = defaultdict(dict)
    for key, weight in sorted(weights.items()):
        vertical, _, account = key
        found[vertical, account][key] = weight
    return dict(found)
