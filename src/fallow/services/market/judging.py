"""Judging results: what the votes on an item show, and what that shows of the nodes that gave them.

Nothing moves here: the market's mind pays, refuses and places by what is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from fallow.domain import jobs as job_rules
from fallow.domain.canaries import DISPUTED_VOTES, Owed, canary_one_in, known_of
from fallow.domain.decisions import Decision
from fallow.domain.draws import Purpose, Seed, draw
from fallow.domain.facts import NodeShown
from fallow.domain.happenings import Happening, Kind
from fallow.domain.jobs import Item, Job
from fallow.domain.leases import Lease
from fallow.domain.offers import Evidence
from fallow.domain.reruns import Rerun, can_be_rerun, compared, hints_of
from fallow.domain.verification import (
    CHECKED_VOTES,
    CONFIRMED,
    INCONCLUSIVE,
    MISSED,
    PRESENT,
    WRONG,
    WRONG_RESULT,
    Judgement,
    Standing,
    Vote,
    checked_one_in,
    judge,
    learned,
)
from fallow.services.market.canaries import Canaries
from fallow.services.market.changes import Changes
from fallow.services.market.comparing import Comparing
from fallow.services.market.reruns import Due, Reruns

NO_STANDING = Standing()
CHECKS: Final[Mapping[str, Kind]] = {
    CONFIRMED: "check.passed",
    PRESENT: "check.passed",
    WRONG: "check.failed",
    MISSED: "check.missed",
}
"""What everybody is told of what a check has shown."""


class Judging:
    """What each node's results have shown. From `seed` it is drawn which of them are checked."""

    def __init__(self, seed: Seed) -> None:
        self.standings: dict[bytes, Standing] = {}
        self.canaries = Canaries()
        self.comparing = Comparing()
        self.reruns = Reruns()
        self.seed = seed

    def standing(self, node: bytes) -> Standing:
        """What a node's results have shown."""
        return self.standings.get(node, NO_STANDING)

    def count(
        self, job: Job, item: Item, lease: Lease, result: str | None, changes: Changes, now: int
    ) -> tuple[Item, Judgement | None]:
        """Add the result that a lease reported; the judgement is None while more results are to come."""
        vote = Vote(
            lease=lease.id, node=lease.node, account=lease.payee, ok=lease.ok, reason=lease.reason, result=result
        )
        item = job_rules.voted(item, lease, vote)
        if job.replay is not None and job.replay.first is not None:
            return item, Judgement((vote,), ())
        if job.replay is not None and len(item.votes) == 1:
            if vote.says == job.replay.says:
                return item, Judgement((vote,), ())
            item = msgspec.structs.replace(item, wanted=DISPUTED_VOTES)
        elif item.wanted == 1:
            item = msgspec.structs.replace(item, wanted=self._wanted(job, item, lease, changes, now))
        elif not job.needs.proves:
            self._draw_canary(lease, changes, now)
        return self.decide(job, item)

    def decide(self, job: Job, item: Item) -> tuple[Item, Judgement | None]:
        """Decide by the votes that are there; None while further ones, or their comparison, are to come."""
        if item.leases or item.lacks_lease:
            return item, None
        near = self.comparing.of(job, item)
        if near is None:
            return item, None
        if near.fault:
            return item, Judgement((), (), near.fault)
        judgement = judge(item.votes, item.wanted, near.agree)
        if judgement is None:
            item = msgspec.structs.replace(item, wanted=len(item.votes) + 1)
        return item, judgement

    def for_less(self, job: Job, item: Item) -> Judgement | None:
        """Decide although no further vote is to be had: all that are there must agree with one. None: see `decide`."""
        near = self.comparing.of(job, item)
        if near is None:
            return None
        found = None if near.fault else judge(item.votes, len(item.votes), near.agree)
        whole = found is not None and len(found.right) == len(item.votes)
        return found if found is not None and whole else Judgement((), (), near.fault or INCONCLUSIVE)

    def learn(self, job: Job, item: Item, judgement: Judgement, used_ms: int, changes: Changes, now: int) -> None:
        """Remember what the nodes have shown, and keep the evidence against those that were wrong.

        `used_ms` is what the item took at most. What only the buyer says must be equal moves no standing, it hints; and
        what he bought from himself confirms neither his node nor others.
        """
        if not job.needs.proves:
            for found in hints_of(job, judgement, now):
                self._learn_hint(found, changes)
            return
        if job.replay is not None and job.replay.first is not None:
            self._learn_rerun(job, judgement.right[0], changes, now)
            return
        strangers = tuple(vote for vote in judgement.right if not job.payer or vote.account != job.payer)
        for vote in strangers:
            if len(strangers) > 1 or (job.replay is not None and vote.says == job.replay.says):
                self._learn(NodeShown(node=vote.node, what=CONFIRMED, lease=vote.lease), changes, now)
        for vote in judgement.wrong:
            self._learn(NodeShown(node=vote.node, what=WRONG, code=WRONG_RESULT, lease=vote.lease), changes, now)
            changes.evidence.append(Evidence(vote.lease, vote.node, now, WRONG_RESULT, item.votes))
        known = known_of(job, item, Judgement(strangers, judgement.wrong), used_ms, now)
        if known is not None:
            self.canaries.learn(known, changes.known)

    def rolled(self, node: bytes, *, here: bool, changes: Changes, now: int) -> None:
        """Note that a node answered a roll call, or missed it."""
        self._learn(NodeShown(node=node, what=PRESENT if here else MISSED), changes, now)

    def convict(self, node: bytes, code: str, changes: Changes, now: int) -> None:
        """A roll call has shown that a node has not what it sells."""
        self._learn(NodeShown(node=node, what=WRONG, code=code), changes, now)

    def _learn_rerun(self, job: Job, vote: Vote, changes: Changes, now: int) -> None:
        """The same bytes confirm both nodes; others are a hint, which brings canaries to whom enough of them point."""
        found = compared(job, vote, now)
        self._learn_hint(found, changes)
        for node in found.nodes if found.same else ():
            self._learn(NodeShown(node=node, what=CONFIRMED, lease=vote.lease), changes, now)

    def _learn_hint(self, found: Rerun, changes: Changes) -> None:
        changes.reruns.append(found)
        suspect = self.reruns.learn(found)
        for node in () if found.same else suspect:
            self.canaries.owe(node, Owed(found.lease))

    def _wanted(self, job: Job, item: Item, lease: Lease, changes: Changes, now: int) -> int:
        """Draw how many results an item takes of which one is there; one that is not checked may bring a canary."""
        standing = self.standing(lease.node)
        checks = job.needs.compares and job.needs.proves and lease.payee != job.payer
        if checks and self._drawn(Purpose.CHECK, lease, checked_one_in(standing), changes, now):
            return CHECKED_VOTES
        self._draw_canary(lease, changes, now)
        if can_be_rerun(job, lease):
            self._draw_rerun(job, item, lease, changes, now)
        return 1

    def _draw_canary(self, lease: Lease, changes: Changes, now: int) -> None:
        if self._drawn(Purpose.CANARY, lease, canary_one_in(self.standing(lease.node)), changes, now):
            self.canaries.owe(lease.node, Owed(lease.id, lease))

    def _draw_rerun(self, job: Job, item: Item, lease: Lease, changes: Changes, now: int) -> None:
        program = job.account, job.needs.program
        if self.reruns.in_vain(program):
            return
        one_in = 1 if self.reruns.watched(program, lease.node) else canary_one_in(self.standing(lease.node))
        if self._drawn(Purpose.RERUN, lease, one_in, changes, now):
            self.reruns.owe(Due(job, item.index, item.votes[-1]))

    def _drawn(self, purpose: Purpose, lease: Lease, one_in: int, changes: Changes, now: int) -> bool:
        drawn = draw(self.seed, purpose, lease=lease.id, node=lease.node, one_in=one_in, at=now)
        changes.draws.append(drawn)
        return drawn.hit

    def _learn(self, shown: NodeShown, changes: Changes, now: int) -> None:
        """Move a node's standing by what was shown, and have that sealed; what changes nothing needs no record."""
        before = self.standing(shown.node)
        standing = learned(before, now, shown.what, shown.code)
        if standing == before:
            return
        changes.happened.add(Happening(at=now, kind=CHECKS[shown.what], node=shown.node.hex()))
        self.standings[shown.node] = standing
        changes.standings.add(shown.node)
        changes.shown.append(Decision(now, shown))
