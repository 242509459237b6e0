"""The market's mind: what is offered, what is wanted, and who works for whom. No I/O, no clock.

Inputs go in through methods, with the time as an argument; what must be written, paid and said is added to
`changes`, which the service takes after each round. It stands on three layers that know nothing of those above them:
`state` (what it holds in mind), `accounts` (money) and `course` (what becomes of leases and items).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from fallow.domain import jobs as job_rules
from fallow.domain import lease_events
from fallow.domain.budgets import month_of
from fallow.domain.chart import NETWORK
from fallow.domain.errors import Conflict, NotAllowed, NotFound
from fallow.domain.facts import LeaseCheckpoint, UsageReceipt
from fallow.domain.happenings import Happening
from fallow.domain.jobs import FINAL, Item, Job, Needs
from fallow.domain.leases import NETWORK_FAILED, Lease, LeaseState
from fallow.domain.offers import Offer
from fallow.domain.orders import Order
from fallow.domain.reruns import rerun
from fallow.services.market.course import BANNED, NOT_COVERED, Course
from fallow.services.market.entry import Entry
from fallow.services.market.state import Source

ANSWER_MS = 5_000
"""A node answers a proposal within this time, or it goes to another."""

OVERDUE_MS = 30_000
"""A lease that has not ended so long after its time limit is lost."""

RENEW_BEFORE_MS = 3_600_000
"""A process that runs until stopped goes on with another lease so long before the time limit of the one it has."""


METERS_MS = 3_600_000
"""So often meters that are over are looked for: there may be many."""


class Brain(Course):
    """What buyers, nodes, operators and time do to it."""

    _meters_at: int | None = None
    _month: int | None = None

    # What a store loads

    def restore(
        self, jobs: Iterable[tuple[Job, list[Item]]], leases: Iterable[Lease], secrets: Mapping[str, bytes]
    ) -> None:
        """Take over what was open. Offers must be there already."""
        for job, items in jobs:
            self.jobs[job.order.id] = Entry(job, items, secrets.get(job.order.id))
        for lease in leases:
            self.leases[lease.id] = lease
            if lease.holds_capacity:
                self.floor.slots[lease.node].take(lease)
            if lease.payer != NETWORK:
                entry = self.jobs[lease.job]
                entry.reserved[lease.id] = lease.deposit_microusd + lease.unbacked_microusd
                entry.spent_microusd += lease.owed_microusd
        for entry in self.jobs.values():
            if entry.job.order.tolerance is not None:
                self._compare_again(entry)

    def _compare_again(self, entry: Entry) -> None:
        """Have compared what the market before this one had not."""
        for item in entry.items.values():
            if item.votes and item.state not in FINAL:
                self.judging.decide(entry.job, item)

    # What buyers do

    def submit(
        self,
        order: Order,
        account: bytes,
        needs: Needs,
        now: int,
        *,
        planted: bool = False,
        locked: bytes | None = None,
    ) -> Job:
        """Take an order, and its encrypted secret values; the network pays for a `planted` one.

        The same order again answers the same.

        Raises:
            Conflict: the id is taken by another order.
            NotAllowed: the account is banned.
        """
        entry = self.jobs.get(order.id)
        known = entry.job if entry is not None else self.changes.jobs.get(order.id)  # open, or ended in this round
        if known is not None:
            return same_order(known, order, account)
        if account in self.banned:
            raise NotAllowed("account.banned", "This account is banned.", "Ask the network's operator.")
        job = Job(order=order, account=account, needs=needs, created_at=now, planted=planted)
        self.unfunded.discard(account)
        self._open(job, now, locked)
        return job

    def cancel(self, now: int, *, job_id: str, account: bytes) -> Job:
        """End a job: waiting items at once, running ones with their final receipt.

        Raises:
            NotFound: no open job of this account has that id.
        """
        entry = self.jobs.get(job_id)
        if entry is None or entry.job.account != account:
            raise NotFound("job.unknown", f"There is no open job {job_id} of this account.", "List them: fallow job ls")
        self._cancel(entry, now)
        return entry.job

    def give_canaries(self, now: int) -> None:
        """Order what is due, on the network's own account: work whose result is known, for a node that is drawn."""
        canaries, seed = self.judging.canaries, self.judging.seed
        if not canaries.due:
            return
        busy = {entry.job.replay.node for entry in self.jobs.values() if entry.job.replay is not None}
        for job in canaries.make(
            self.floor.slots, lambda slot: self.place_of(slot, now), busy, seed, self.changes.known, now
        ):
            self._open(job, now)

    def give_reruns(self, now: int) -> None:
        """Order what is due, on the network's own account: items once more, on machines like those that did them."""
        for job, index, first in self.judging.reruns.take():
            slot = self.floor.slots.get(first.node)
            if slot is not None:
                self._open(rerun(job, index, first, slot.offer.made.attributes, self.judging.seed, now), now)

    def funded(self, _: int, *, account: bytes) -> None:
        """Money came in, or there is a new budget: what waited for it is tried again."""
        self.unfunded.discard(account)

    def observed(self, _now: int, *, networks: Mapping[bytes, str]) -> None:
        """Note from which network nodes connect."""
        self.floor.networks.update(networks)

    def counted(self, now: int, *, nodes: int) -> None:
        """Somebody counted the nodes that are there."""
        changed = self.chronicle.counted(nodes, now)
        if changed is not None:
            self.changes.hours.add(changed)

    # What nodes do

    def offer(self, offer: Offer, now: int) -> None:
        """Put up or replace a node's offer."""
        slot = self.floor.slots.get(offer.node)
        before = slot.at_best if slot is not None else None
        if slot is None:
            self.changes.happened.add(Happening(at=now, kind="node.joined", node=offer.node.hex()))
        self.floor.offer(offer, now)
        self.lookup.replace(self.floor.slots[offer.node], before)
        self.changes.offers.add(offer.node)

    def beat(self, now: int, *, node: bytes, boot: int, leases: Iterable[bytes]) -> None:
        """Note a sign of life, and tell the node to end leases that are not its own or not open any more."""
        self.floor.beat(node, boot, now)
        for lease_id in leases:
            lease = self.leases.get(lease_id)
            if lease is None or lease.node != node or lease.stop_reason:
                self.changes.stops.append((node, lease_id))

    def accepted(self, source: Source, lease_id: bytes, now: int) -> None:
        """Apply a signed accept; the boot that signed it does the work."""
        if self._from_node(source, lease_id, lease_events.Accepted(now)):
            self._keep(msgspec.structs.replace(self.leases[lease_id], boot=source.boot))

    def declined(self, source: Source, lease_id: bytes, reason: str, now: int) -> None:
        """Apply a signed decline; the node is left in peace for a moment."""
        self.floor.cool(source.node, now)
        self._from_node(source, lease_id, lease_events.Declined(now, reason or "node.declined"))

    def reported(self, source: Source, receipt: UsageReceipt, now: int) -> None:
        """Apply a signed receipt."""
        if receipt.final and receipt.result is not None:
            self.results[receipt.lease] = receipt.result.hex()
        event = lease_events.Reported(
            at=now,
            window=receipt.window,
            used_ms=receipt.used_ms,
            final=receipt.final,
            ok=receipt.ok and receipt.result is not None,
            reason=receipt.reason,
            caused_by=receipt.caused_by,
        )
        self._from_node(source, receipt.lease, event)
        self.results.pop(receipt.lease, None)

    def saved(self, source: Source, checkpoint: LeaseCheckpoint, now: int) -> None:
        """Apply a signed checkpoint: the item's next lease goes on from there."""
        lease = self.leases.get(checkpoint.lease)
        if lease is not None and not self.jobs[lease.job].job.needs.checkpoints:
            self.refuse(source, "checkpoint.unwanted", now)
        elif self._from_node(source, checkpoint.lease, lease_events.Saved(now, checkpoint.used_ms)):
            lease = self.leases[checkpoint.lease]
            entry = self.jobs[lease.job]
            item = msgspec.structs.replace(entry.items[lease.item], checkpoint=checkpoint.blob.hex())
            self._set_item(entry, item, now)

    def failed(self, node: bytes, lease_id: bytes, now: int) -> None:
        """End a lease of a node because the market fails of what the node said of it: that is nobody else's fault."""
        lease = self.leases.get(lease_id)
        if lease is not None and lease.node == node:
            self.changes.stops.append((node, lease_id))
            self._step(lease, lease_events.Lost(now, NETWORK_FAILED, "network"))

    # What operators do

    def ban(self, banned: frozenset[bytes], now: int) -> None:
        """Shut out these nodes and accounts, and no others. Jobs of a banned account end as if it cancelled them."""
        self.banned = banned
        for entry in [entry for entry in self.jobs.values() if entry.job.account in banned]:
            self._cancel(entry, now)

    # What time does

    def slept(self, ms: int, now: int) -> None:
        """The network itself was deaf for so long, or its clock jumped: that is no fault of any node's."""
        self.floor.amnesty(now)
        for lease in list(self.leases.values()):
            answer_by = max(lease.answer_by, min(lease.answer_by + ms, now + ANSWER_MS))
            self._keep(msgspec.structs.replace(lease, answer_by=answer_by, late_ms=lease.late_ms + ms))

    def tick(self, now: int) -> None:
        """End what took too long, except for leases whose money moves in this round: their turn comes with the next."""
        for lease, reason in list(self.floor.lost(self.leases.values(), now)):
            if not self.moves_money(lease.id):
                self._step(lease, lease_events.Lost(now, reason))
        for lease in list(self.leases.values()):
            if not self.moves_money(lease.id):
                self._end_in_time(lease, now)
        if self._meters_at is None or now >= self._meters_at + METERS_MS:
            if self._meters_at is not None:
                self._forget_meters()
            self._meters_at = now
        if month_of(now) != self._month:  # budgets begin anew
            self._month = month_of(now)
            self.unfunded.clear()

    def _end_in_time(self, lease: Lease, now: int) -> None:
        """End a lease that may not go on, or took too long."""
        if lease.holds_capacity and {lease.node, lease.payee} & self.banned:
            self.changes.stops.append((lease.node, lease.id))
            self._step(lease, lease_events.Lost(now, BANNED, "network"))
            return
        self.evictions.runs(self.jobs[lease.job].job.account, lease, now)
        if lease.state is LeaseState.PROPOSED and now >= lease.answer_by:
            self.floor.cool(lease.node, now)
            self._step(lease, lease_events.Declined(now, "node.unanswered"))
        elif lease.state is LeaseState.RUNNING and now >= _due_at(lease):
            self._step(lease, lease_events.Lost(now, "node.overdue"))
        elif _is_paid_out(lease, now):
            self._step(lease, lease_events.StopAsked(now, NOT_COVERED, "network"))
        elif self._is_old(lease, now):
            self._step(lease, lease_events.StopAsked(now, "lease.renewed", "network"))

    def _is_old(self, lease: Lease, now: int) -> bool:
        """Whether a process that runs until stopped has to go on with another lease."""
        if not self.jobs[lease.job].job.order.until_stopped or lease.stop_reason or lease.started_at is None:
            return False
        return lease.state is LeaseState.RUNNING and now >= lease.started_at + lease.time_limit_ms - RENEW_BEFORE_MS

    def _open(self, job: Job, now: int, locked: bytes | None = None) -> None:
        order, wanted = job.order, job_rules.results_wanted(job.order, job.needs)
        items = [Item(index=index, wanted=wanted) for index in range(order.item_count)]
        self.jobs[order.id] = Entry(job, items, locked)
        if locked is not None:
            self.changes.secrets[order.id] = locked
        self.changes.jobs[order.id] = job
        self.changes.items.update({(order.id, item.index): item for item in items})
        self.changes.tell(order.id, now, job.state)

    def _from_node(self, source: Source, lease_id: bytes, event: lease_events.Event) -> bool:
        lease = self.leases.get(lease_id)
        if lease is None or lease.node != source.node:
            self.refuse(source, "lease.not_open", event.at)
            return False
        code = self._step(lease, event)
        if code:
            self.refuse(source, code, event.at)
        return not code


def _due_at(lease: Lease) -> int:
    return (lease.started_at or lease.proposed_at) + lease.limit_ms + lease.late_ms + OVERDUE_MS


def _is_paid_out(lease: Lease, now: int) -> bool:
    """Whether a check runs that was paid for as long as it can be."""
    running = lease.state is LeaseState.RUNNING and lease.started_at is not None and not lease.stop_reason
    return running and lease.covered_ms is not None and now >= (lease.started_at or 0) + lease.limit_ms + lease.late_ms


def same_order(job: Job, order: Order, account: bytes) -> Job:
    """Answer a repeated order.

    Raises:
        Conflict: it is not the same one, or another account's.
    """
    if job.account != account or job.order != order:
        raise Conflict("order.id_taken", f"The id {order.id} belongs to another order.", "Make a fresh random id.")
    return job
