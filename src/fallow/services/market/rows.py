"""What of a round is written."""

from __future__ import annotations

from fallow.ports.market_store import Cursor, MarketRows
from fallow.services.market.brain import Brain


def rows_of(brain: Brain, cursor: Cursor) -> MarketRows:
    """Return what changed, and how far the log was applied with it."""
    changes = brain.changes
    return MarketRows(
        jobs=list(changes.jobs.values()),
        items=changes.items,
        leases=list(changes.leases.values()),
        offers=[brain.floor.slots[node].offer for node in changes.offers],
        meters={key: brain.meters[key] for key in changes.meters},
        tallies={key: brain.tallies[key] for key in changes.tallies},
        starting={key: brain.starting.spent[key] for key in changes.starting},
        hours={at: brain.chronicle.hours[at] for at in changes.hours},
        meters_over=changes.meters_over,
        refusals=changes.refusals,
        standings={node: brain.judging.standing(node) for node in changes.standings},
        evidence=changes.evidence,
        secrets=changes.secrets,
        cursor=cursor,
    )
