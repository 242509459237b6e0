"""How soon a segment is likely to be lost if nobody repairs it. Pure."""

from __future__ import annotations

from typing import Final

from fallow.verticals.storage.core.profiles import Profile

LOSS_PER_DAY: Final = 0.00005435
"""How likely a node leaves for ever within a day, as Storj measured it. It scales the days, and changes no order."""


def days_to_loss(profile: Profile, healthy: int, nodes: int) -> float:
    """Days until fewer than `needed` of the `healthy` pieces are left, on average, in a network of `nodes` nodes.

    Nodes leave one after the other, each as likely as any other. How many go until `losses` of those with a piece have
    is the mean of a negative hypergeometric distribution (the formula of Storj's queue, `repair/priority.go`).
    """
    losses = healthy - profile.needed + 1
    if losses <= 0:
        return 0.0
    nodes = max(nodes, healthy)
    without = nodes - healthy
    gone = losses * without / (nodes - without + 1) + losses
    return gone / (nodes * LOSS_PER_DAY)
