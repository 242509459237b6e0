"""Judging results: what the votes on an item show, and what that shows of the nodes that gave them.

Nothing moves here: the market's mind pays, refuses and places by what is decided.
"""

from __future__ import annotations

import msgspec

from fallow.domain import jobs as job_rules
from fallow.domain.draws import Purpose, Seed, draw
from fallow.domain.jobs import Item
from fallow.domain.leases import Lease
from fallow.domain.offers import Evidence
from fallow.domain.verification import (
    CHECKED_VOTES,
    Judgement,
    Standing,
    Vote,
    after_confirmed,
    after_wrong,
    checked_one_in,
    judge,
)
from fallow.services.market.changes import Changes

NO_STANDING = Standing()


class Judging:
    """What each node's results have shown. From `seed` it is drawn which of them are checked."""

    def __init__(self, seed: Seed) -> None:
        self.standings: dict[bytes, Standing] = {}
        self.seed = seed

    def standing(self, node: bytes) -> Standing:
        """What a node's results have shown."""
        return self.standings.get(node, NO_STANDING)

    def count(
        self, item: Item, lease: Lease, result: str | None, changes: Changes, now: int, *, compares: bool
    ) -> tuple[Item, Judgement | None]:
        """Add the result that a lease reported; the judgement is None while more results are to come."""
        vote = Vote(
            lease=lease.id, node=lease.node, account=lease.payee, ok=lease.ok, reason=lease.reason, result=result
        )
        item = job_rules.voted(item, lease, vote)
        if compares and item.wanted == 1:
            one_in = checked_one_in(self.standing(lease.node))
            drawn = draw(self.seed, Purpose.CHECK, lease=lease.id, node=lease.node, one_in=one_in, at=now)
            changes.draws.append(drawn)
            item = msgspec.structs.replace(item, wanted=CHECKED_VOTES if drawn.hit else 1)
        judgement = judge(item.votes, item.wanted) if not item.leases else None
        if judgement is None and not item.lacks_lease and not item.leases:
            item = msgspec.structs.replace(item, wanted=len(item.votes) + 1)
        return item, judgement

    def learn(self, item: Item, judgement: Judgement, changes: Changes, now: int) -> None:
        """Remember what the nodes have shown, and keep the evidence against those that were wrong."""
        if len(judgement.right) > 1:
            for vote in judgement.right:
                self._set(vote.node, after_confirmed(self.standing(vote.node)), changes)
        for vote in judgement.wrong:
            self._set(vote.node, after_wrong(self.standing(vote.node), now), changes)
            changes.evidence.append(Evidence(vote.lease, vote.node, now, "result.wrong", item.votes))

    def _set(self, node: bytes, standing: Standing, changes: Changes) -> None:
        self.standings[node] = standing
        changes.standings.add(node)
