"""Refused results, as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fallow.cli.show import clean, node_name, say
from fallow.cli.units import when
from fallow.domain.views.checks import EvidenceView


def say_evidence(found: Iterable[EvidenceView]) -> None:
    """Print what each node said, and beside it what the others said of the same item."""
    for entry in found:
        own = next(vote for vote in entry.votes if vote.lease == entry.lease)
        others = Counter(vote.result or vote.reason for vote in entry.votes if vote.lease != entry.lease)
        say(f"{when(entry.at)}  node {node_name(entry.node)}  lease {entry.lease}: {entry.code}, not paid")
        say(f"    it said   {clean(own.result or own.reason)}")
        for said, count in others.most_common():
            say(f"    {count} others  {clean(said)}")
