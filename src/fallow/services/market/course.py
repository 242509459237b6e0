"""The course of leases and items: each event of a lease with its effects, through to payment and the next placing."""

from __future__ import annotations

import msgspec

from fallow.domain import jobs as job_rules
from fallow.domain import lease_events
from fallow.domain import leases as lease_rules
from fallow.domain.billing import NOTHING
from fallow.domain.chart import NETWORK
from fallow.domain.happenings import Happening, Kind
from fallow.domain.jobs import FINAL, Item, ItemState
from fallow.domain.leases import NETWORK_FAILED, Lease, LeaseState
from fallow.domain.offers import Worked
from fallow.domain.verification import Compared, Judgement, Verdict, verdict
from fallow.services.market.accounts import Accounts
from fallow.services.market.changes import Collect, Hold, Money
from fallow.services.market.comparing import Asked
from fallow.services.market.entry import Entry

GIVE_WAY_MS = 10_000
"""A spot lease that has not ended so long after it was asked to is not waited for: room is made elsewhere."""

NOT_COVERED = "check.not_covered"
"""Why a check ended that the network had ordered: nothing of what it is paid from is left."""

BANNED = "operator.banned"
"""Why work of a banned node or account ends. What was reported before is judged and paid as ever."""


class Course(Accounts):
    """Moves leases, their items and their jobs on. Those who place items call its public methods."""

    def not_held(self, hold: Hold, now: int, reason: str = "") -> None:
        """The payer, or for a `reason` his budget, cannot cover it: the lease ends, and his items wait; no check does.

        They wait until money comes in, or the budget is raised or begins anew.
        """
        lease = hold.lease
        self._give_back_for_check(hold)
        if not lease.charged_to:
            self.unfunded.add(lease.payer)
        if lease.id in self.leases:
            self._step(self.leases[lease.id], lease_events.Unfunded(now, NOT_COVERED if lease.charged_to else reason))

    def stays(self, money: Money, now: int) -> None:
        """The money of a lease that is set aside does not move: what cannot be reserved for it ends it."""
        if isinstance(money, Hold):
            self._give_back_for_check(money)
            if money.lease.id in self.leases:
                self._step(self.leases[money.lease.id], lease_events.Lost(now, NETWORK_FAILED, "network"))

    def place(self, job_id: str, index: int, lease: Lease) -> None:
        """Propose a lease for an item: money is reserved first, then the node is asked."""
        entry = self.jobs[job_id]
        self._set_item(entry, job_rules.placed(entry.items[index], lease), lease.proposed_at)
        lease, effects = lease_rules.propose(lease)
        self._keep(lease)
        for effect in effects:
            self._follow(lease, lease, effect, lease.proposed_at)

    def preempt(self, lease: Lease, now: int) -> None:
        """End a spot lease for one on demand, as its owner would; a process that runs until stopped is paid so far."""
        by = "network" if self.jobs[lease.job].job.order.until_stopped else "owner"
        self.giving_way[lease.id] = now + GIVE_WAY_MS
        self._step(lease, lease_events.StopAsked(now, lease_rules.PREEMPTED, by))

    def over_budget(self, entry: Entry, item: Item, now: int) -> None:
        """No node that an item could ever get fits the order's budget: it fails, unless a lease may give money back."""
        if entry.reserved:
            return
        self._set_item(entry, msgspec.structs.replace(item, state=ItemState.FAILED, reason="buyer.budget"), now)
        self._end_job(entry, now)

    def settle_for_less(self, entry: Entry, item: Item, now: int) -> None:
        """No further result is to be had: what there is decides, unchecked; two that differ decide nothing."""
        judgement = self.judging.for_less(entry.job, item)
        if judgement is None:  # it rests until its results are compared
            self._set_item(entry, msgspec.structs.replace(item, wanted=len(item.votes)), now)
        else:
            self._conclude(entry, item, judgement, now)

    def compared(self, now: int, *, asked: Asked, compared: Compared) -> None:
        """Take in how an item's results compare."""
        if self.judging.comparing.learn(asked, compared):
            entry = self.jobs[asked.job]
            self._decide(entry, *self.judging.decide(entry.job, entry.items[asked.item]), now)

    def uncheck(self, entry: Entry, item: Item, now: int) -> None:
        """Do without a result that the network cannot pay for, or that no node can give."""
        if item.votes:
            self.settle_for_less(entry, item, now)
        elif entry.job.replay is not None:
            self.drop_canary(entry, now)

    def drop_canary(self, entry: Entry, now: int) -> None:
        """Give up a canary that its node cannot be given any more."""
        for item in list(entry.items.values()):
            self._set_item(entry, msgspec.structs.replace(item, state=ItemState.FAILED, reason="canary.dropped"), now)
        self._end_job(entry, now)

    def _step(self, lease: Lease, event: lease_events.Event) -> str:
        """Apply an event to a lease and follow its effects; returns the code of a refusal."""
        after, effects = lease_rules.step(lease, event)
        for effect in effects:
            if isinstance(effect, lease_events.Refused):
                return effect.code
        self._keep(after)
        if after.state is LeaseState.RUNNING and lease.state is LeaseState.PROPOSED:
            self._running(after, event.at)
            self._tell("lease.began", after, event.at)
        for effect in effects:
            self._follow(lease, after, effect, event.at)
        return ""

    def _tell(self, kind: Kind, lease: Lease, now: int) -> None:
        """Tell everybody what happens on a node. Who ordered it is not told, so that a check looks like any other."""
        vertical, over = self.jobs[lease.job].job.order.vertical, kind == "lease.ended"
        shown = Happening(at=now, kind=kind, node=lease.node.hex(), vertical=vertical, ok=lease.ok or not over)
        self.changes.happened.add(shown)

    def _follow(self, before: Lease, after: Lease, effect: lease_events.Effect, now: int) -> None:
        match effect:
            case lease_events.Stop():
                self.changes.stops.append((after.node, after.id))
            case lease_events.Free():
                self.floor.slots[after.node].give_back(after, now)
            case lease_events.Vote():
                self._vote(after, now)
            case lease_events.Ended(paid=paid):
                worked = paid or after.window > 0 or after.saved_ms > 0
                self._lease_over(self.leases[after.id], now, worked=worked)
            case lease_events.Refused():
                pass  # it changed nothing
            case _:
                self._move_money(before, after, effect, now)

    def _move_money(self, before: Lease, after: Lease, effect: lease_events.MoneyEffect, now: int) -> None:
        match effect:
            case lease_events.Reserve(window, amount):
                self.changes.move(self._hold(after, window, amount))
            case lease_events.Settle():
                if not self._close(before, after, effect):
                    reason = NOT_COVERED if after.charged_to else "buyer.budget"
                    self._step(self.leases[after.id], lease_events.Unfunded(now, reason))
            case lease_events.Release(window):
                self.changes.move(Collect(before, window, NOTHING, opens=True))
                self.unfunded.discard(before.payer)
            case lease_events.Wasted(lost_ms):
                self._make_good(before, lost_ms)
            case lease_events.Undecided():
                self._undecided(before, self.leases[after.id])

    def _running(self, lease: Lease, now: int) -> None:
        entry = self.jobs[lease.job]
        self._set_item(entry, job_rules.running(entry.items[lease.item]), now)

    def _vote(self, lease: Lease, now: int) -> None:
        """A result came in: believe it, have it checked, or judge between it and others."""
        entry = self.jobs[lease.job]
        item, judgement = self.judging.count(
            entry.job, entry.items[lease.item], lease, self.results.get(lease.id), self.changes, now
        )
        self._decide(entry, item, judgement, now)

    def _decide(self, entry: Entry, item: Item, judgement: Judgement | None, now: int) -> None:
        if judgement is None:
            self._set_item(entry, item, now)
        else:
            self._conclude(entry, item, judgement, now)

    def _conclude(self, entry: Entry, item: Item, judgement: Judgement, now: int) -> None:
        """Pay or refuse each vote's lease, remember what the nodes have shown, and move the item on."""
        entry.items[item.index] = item
        self.judging.comparing.forget((entry.job.order.id, item.index))
        used_ms = max((self.leases[vote.lease].used_ms for vote in item.votes), default=0)
        self.judging.learn(entry.job, item, judgement, used_ms, self.changes, now)
        for vote in item.votes:
            found = verdict(vote, item.votes, judgement, proves=entry.job.needs.proves)
            self._step(self.leases[vote.lease], lease_events.Judged(now, found))
        item = job_rules.concluded(entry.items[item.index], judgement, entry.job)
        self._set_item(entry, item, now)
        self._end_job(entry, now)

    def _lease_over(self, lease: Lease, now: int, *, worked: bool) -> None:
        """Count what it cost, and move its item on if it ended before it reported a result."""
        if worked:
            self.floor.slots[lease.node].apply(Worked())
        if lease.caused_by == "owner" and lease.reason != lease_rules.PREEMPTED:
            self.floor.cool(lease.node, now)  # it loses no reputation, but others come first for a moment
        if lease.started_at is not None:
            self._tell("lease.ended", lease, now)
        del self.leases[lease.id]
        self.giving_way.pop(lease.id, None)
        entry = self.jobs[lease.job]
        self.evictions.over(entry.job.account, lease)
        if lease.started_at is not None and entry.job.needs.held and lease.caused_by != "provider":
            self.holders.note((entry.job.account, entry.job.needs.held), lease.node)
        entry.reserved.pop(lease.id, None)
        item = entry.items[lease.item]
        if lease.payer != NETWORK:
            item = msgspec.structs.replace(
                item, used_ms=item.used_ms + lease.used_ms, owed_microusd=item.owed_microusd + lease.owed_microusd
            )
        if lease.id not in item.leases:
            entry.items[item.index] = item
            return
        item = job_rules.without(item, lease)
        if entry.job.order.until_stopped:
            item = msgspec.structs.replace(item, result=self.results.get(lease.id))  # what it left when it was stopped
        self._set_item(entry, item, now)
        if not item.wanted and not item.leases:  # it was cancelled
            self._cancel_item(entry, item, now)
        elif _is_in_vain(lease, item) and not item.leases:
            self.uncheck(entry, item, now)
        self._end_job(entry, now)

    def _cancel(self, entry: Entry, now: int) -> None:
        for item in list(entry.items.values()):
            if item.state not in FINAL and not item.leases:
                self._cancel_item(entry, item, now)
            elif item.leases:
                self._set_item(entry, msgspec.structs.replace(item, wanted=0), now)  # it gets no further lease
            for lease_id in item.leases:
                self._step(self.leases[lease_id], lease_events.StopAsked(now, self._why_cancelled(entry), "buyer"))
        self._end_job(entry, now)

    def _why_cancelled(self, entry: Entry) -> str:
        return BANNED if entry.job.account in self.banned else job_rules.BUYER_CANCELLED

    def _cancel_item(self, entry: Entry, item: Item, now: int) -> None:
        """End an item that has no open lease; what was reported for it is paid."""
        self.judging.comparing.forget((entry.job.order.id, item.index))
        for vote in item.votes:
            self._step(self.leases[vote.lease], lease_events.Judged(now, Verdict.ACCEPTED))
        self._set_item(
            entry, job_rules.cancelled(entry.items[item.index], entry.job.order, self._why_cancelled(entry)), now
        )

    def _end_job(self, entry: Entry, now: int) -> None:
        if entry.end(self.changes, now):
            self.jobs.pop(entry.job.order.id, None)
            self.changes.hours.add(self.chronicle.ended(entry.job.state, now))


def _is_in_vain(lease: Lease, item: Item) -> bool:
    """Whether what the network ordered is done without: nothing pays for it, or it was given back too often.

    A buyer's own order waits, for he can end it; for a check his result, and its provider's money, would wait for ever.
    """
    given_up = lease.payer == NETWORK and len(item.given_back) >= job_rules.LOSSES_MAX
    return given_up or NOT_COVERED in {lease.reason, lease.stop_reason}
