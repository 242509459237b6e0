"""The market's mind: what is offered, what is wanted, and who works for whom. No I/O, no clock.

Inputs go in through methods, with the time as an argument; what must be written, paid and said is added to
`changes`, which the service takes after each round. The state is exactly what the store holds of open jobs, leases
and offers, so that a new process goes on where a dead one stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from fallow.domain import jobs as job_rules
from fallow.domain import leases as lease_rules
from fallow.domain.billing import Charge, FeePolicy, MeterKey, charge
from fallow.domain.chart import NETWORK, Credit, Parts
from fallow.domain.draws import Seed
from fallow.domain.errors import Conflict, NotAllowed, NotFound
from fallow.domain.facts import LeaseCheckpoint, UsageReceipt
from fallow.domain.jobs import FINAL, Item, ItemState, Job, Needs
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.matching import Place
from fallow.domain.offers import Offer, Refusal
from fallow.domain.orders import Order
from fallow.domain.reserve import Cover, Tally, TallyKey, cover, lost_microusd, refund_microusd
from fallow.domain.verification import Judgement, level, suspended_until
from fallow.services.market.changes import Changes, Collect, GiveBack, Hold, MakeGood
from fallow.services.market.entry import Entry
from fallow.services.market.floor import NOTHING, Floor, Slot
from fallow.services.market.holders import Holders
from fallow.services.market.judging import Judging
from fallow.services.market.lookup import Choices, Lookup

ANSWER_MS = 5_000
"""A node answers a proposal within this time, or it goes to another."""

OVERDUE_MS = 30_000
"""A lease that has not ended so long after its time limit is lost."""

RENEW_BEFORE_MS = 3_600_000
"""A process that runs until stopped goes on with another lease so long before the time limit of the one it has."""


GIVE_WAY_MS = 10_000
"""A spot lease that has not ended so long after it was asked to is not waited for: room is made elsewhere."""

BANNED = "operator.banned"
"""Why work of a banned node or account ends. What was reported before is judged and paid as ever."""


class Source(NamedTuple):
    """The record that an input came from, for refusals."""

    node: bytes
    boot: int
    seq: int


class Brain:
    """All open jobs, open leases and offers."""

    def __init__(self, fee: FeePolicy, seed: Seed) -> None:
        self.fee = fee
        self.judging = Judging(seed)
        self.floor = Floor()
        self.lookup = Lookup()
        self.holders = Holders()
        self.jobs: dict[str, Entry] = {}
        self.leases: dict[bytes, Lease] = {}
        self.meters: dict[MeterKey, int] = {}
        self.tallies: dict[TallyKey, Tally] = {}
        self.results: dict[bytes, str | None] = {}
        self.unfunded: set[bytes] = set()
        self.banned: frozenset[bytes] = frozenset()
        """Nodes, and accounts with all that is theirs."""
        self.giving_way: dict[bytes, int] = {}
        """Spot leases that were asked to end for others, and until when they are waited for."""
        self.changes = Changes()

    def places(self, now: int) -> list[Place]:
        """All nodes as the matcher sees them."""
        return [self.place_of(slot, now) for slot in self.floor.slots.values()]

    def place_of(self, slot: Slot, now: int) -> Place:
        """A node as the matcher sees it."""
        node = slot.offer.node
        standing = self.judging.standing(node)
        suspended = suspended_until(standing) > now
        place = slot.place(now, suspended=suspended, banned=self.shut_out(slot), trust=level(standing))
        return place._replace(network=self.floor.networks.get(node, ""))

    def choices(self, now: int, claimed: Collection[bytes] = ()) -> Choices:
        """Who could take what in one round; nodes that are `claimed` have no room."""

        def look(slot: Slot) -> Place:
            place = self.place_of(slot, now)
            return place._replace(free=NOTHING) if slot.offer.node in claimed else place

        return Choices(self.lookup, self.floor.slots, look)

    def shut_out(self, slot: Slot) -> bool:
        """Whether a node, or the account that it earns for, is banned."""
        return slot.offer.node in self.banned or slot.offer.account in self.banned

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
                entry.reserved[lease.id] = lease.deposit_microusd(lease.window)
                entry.spent_microusd += lease.owed_microusd

    def take_changes(self) -> Changes:
        """Return what has come together since the last time."""
        changes, self.changes = self.changes, Changes()
        return changes

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

    def drop_canary(self, entry: Entry, now: int) -> None:
        """Give up a canary that its node cannot be given any more."""
        for item in list(entry.items.values()):
            self._set_item(entry, msgspec.structs.replace(item, state=ItemState.FAILED, reason="canary.dropped"), now)
        self._end_job(entry, now)

    def funded(self, _: int, *, account: bytes) -> None:
        """Money came in: what waited for it is tried again."""
        self.unfunded.discard(account)

    # What the network sees

    def observed(self, _now: int, *, networks: Mapping[bytes, str]) -> None:
        """Note from which network nodes connect."""
        self.floor.networks.update(networks)

    # What nodes do

    def offer(self, offer: Offer, now: int) -> None:
        """Put up or replace a node's offer."""
        slot = self.floor.slots.get(offer.node)
        before = slot.at_best if slot is not None else None
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
        if self._from_node(source, lease_id, lease_rules.Accepted(now)):
            self._keep(msgspec.structs.replace(self.leases[lease_id], boot=source.boot))

    def declined(self, source: Source, lease_id: bytes, reason: str, now: int) -> None:
        """Apply a signed decline; the node is left in peace for a moment."""
        self.floor.cool(source.node, now)
        self._from_node(source, lease_id, lease_rules.Declined(now, reason or "node.declined"))

    def reported(self, source: Source, receipt: UsageReceipt, now: int) -> None:
        """Apply a signed receipt."""
        if receipt.final and receipt.result is not None:
            self.results[receipt.lease] = receipt.result.hex()
        event = lease_rules.Reported(
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
        elif self._from_node(source, checkpoint.lease, lease_rules.Saved(now, checkpoint.used_ms)):
            lease = self.leases[checkpoint.lease]
            entry = self.jobs[lease.job]
            item = msgspec.structs.replace(entry.items[lease.item], checkpoint=checkpoint.blob.hex())
            self._set_item(entry, item, now)

    # What operators do

    def ban(self, banned: frozenset[bytes], now: int) -> None:
        """Shut out these nodes and accounts, and no others. Jobs of a banned account end as if it cancelled them."""
        self.banned = banned
        for entry in [entry for entry in self.jobs.values() if entry.job.account in banned]:
            self._cancel(entry, now)

    # What time does

    def tick(self, now: int) -> None:
        """End what took too long, except for leases whose money moves in this round: their turn comes with the next."""
        for lease, reason in list(self.floor.lost(now)):
            if not self.moves_money(lease.id):
                self._step(lease, lease_rules.Lost(now, reason))
        for lease in list(self.leases.values()):
            if self.moves_money(lease.id):
                continue
            if lease.holds_capacity and {lease.node, lease.payee} & self.banned:
                self.changes.stops.append((lease.node, lease.id))
                self._step(lease, lease_rules.Lost(now, BANNED, "network"))
                continue
            if lease.state is LeaseState.PROPOSED and now >= lease.answer_by:
                self.floor.cool(lease.node, now)
                self._step(lease, lease_rules.Declined(now, "node.unanswered"))
            elif lease.state is LeaseState.RUNNING and now >= _due_at(lease):
                self._step(lease, lease_rules.Lost(now, "node.overdue"))
            elif self._is_old(lease, now):
                self._step(lease, lease_rules.StopAsked(now, "lease.renewed", "network"))

    def _is_old(self, lease: Lease, now: int) -> bool:
        """Whether a process that runs until stopped has to go on with another lease."""
        if not self.jobs[lease.job].job.order.until_stopped or lease.stop_reason or lease.started_at is None:
            return False
        return lease.state is LeaseState.RUNNING and now >= lease.started_at + lease.time_limit_ms - RENEW_BEFORE_MS

    def moves_money(self, lease_id: bytes) -> bool:
        """Whether money of this lease waits to be moved; until it is, no further record of the lease is applied."""
        return lease_id in self.changes.moving

    # What the ledger answers

    def held(self, lease: Lease, parts: tuple[tuple[int, int], ...]) -> None:
        """The open window of `lease` is reserved, from these credit classes."""
        current = msgspec.structs.replace(self.leases[lease.id], held=parts)
        self._keep(current)
        if current.state is LeaseState.PROPOSED:
            self.changes.proposals.append(current)

    def not_held(self, lease: Lease, now: int) -> None:
        """The payer cannot cover it: the lease ends, and his items wait until money comes in."""
        self.unfunded.add(lease.payer)
        if lease.id in self.leases:
            self._step(self.leases[lease.id], lease_rules.Unfunded(now))

    def collected(self, lease: Lease, paid: Mapping[int, int], fees: Mapping[int, int]) -> None:
        """A window of `lease` was collected, and so much of it was fee, both by credit class."""
        current = self.changes.leases[lease.id]
        total = Counter(dict(current.paid))
        total.update(paid)
        self._change(msgspec.structs.replace(current, paid=tuple(sorted(total.items()))))
        if lease.payer == NETWORK:
            return  # what the network pays to itself earns nobody anything
        for credit, fee in fees.items():
            key = (lease.payee, credit)
            tally = self.tallies.get(key, Tally())
            self.tallies[key] = tally._replace(fees=tally.fees + fee)
            self.changes.tallies.add(key)

    def cover(self, lease: Lease, amount: int, parts: Parts, reserve: Mapping[int, int]) -> Cover:
        """What the reserve may give on account of the lease's payee; it counts from now on."""
        tallies = {int(credit): self.tallies.get((lease.payee, credit), Tally()) for credit in Credit}
        given = cover(amount, parts, reserve, tallies)
        for credit, part in given.parts:
            tally = tallies[credit]
            self.tallies[lease.payee, credit] = tally._replace(covered=tally.covered + part)
            self.changes.tallies.add((lease.payee, credit))
        return given

    def made_good(self, lease: Lease, refund: Cover, lost: Cover) -> None:
        """The reserve paid for what `lease` lost; what the buyer got back his item does not owe any more."""
        self._change(
            msgspec.structs.replace(
                self.changes.leases[lease.id],
                refunded_microusd=refund.total,
                made_good_microusd=lost.total,
                reserve_short=refund.short or lost.short,
            )
        )
        key, entry = (lease.job, lease.item), self.jobs.get(lease.job)
        item = entry.items[lease.item] if entry is not None else self.changes.items[key]
        item = msgspec.structs.replace(item, owed_microusd=item.owed_microusd - refund.total)
        self.changes.items[key] = item
        if entry is not None:
            entry.items[lease.item] = item
            entry.spent_microusd -= refund.total

    # Placing

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
        self._step(lease, lease_rules.StopAsked(now, lease_rules.PREEMPTED, by))

    def over_budget(self, entry: Entry, item: Item, now: int) -> None:
        """No node that an item could ever get fits the order's budget: it fails, unless a lease may give money back."""
        if entry.reserved:
            return
        self._set_item(entry, msgspec.structs.replace(item, state=ItemState.FAILED, reason="buyer.budget"), now)
        self._end_job(entry, now)

    def settle_for_less(self, entry: Entry, item: Item, now: int) -> None:
        """No further result is to be had: what there is decides, unchecked; two that differ decide nothing."""
        says = {vote.says for vote in item.votes}
        self._conclude(entry, item, Judgement(item.votes if len(says) == 1 else (), ()), now)

    # Inside

    def _open(self, job: Job, now: int, locked: bytes | None = None) -> None:
        order, wanted = job.order, job_rules.results_wanted(job.order, job.needs)
        items = [Item(index=index, wanted=wanted) for index in range(order.item_count)]
        self.jobs[order.id] = Entry(job, items, locked)
        if locked is not None:
            self.changes.secrets[order.id] = locked
        self.changes.jobs[order.id] = job
        self.changes.items.update({(order.id, item.index): item for item in items})
        self.changes.tell(order.id, now, job.state)

    def _from_node(self, source: Source, lease_id: bytes, event: lease_rules.Event) -> bool:
        lease = self.leases.get(lease_id)
        if lease is None or lease.node != source.node:
            self.refuse(source, "lease.not_open", event.at)
            return False
        code = self._step(lease, event)
        if code:
            self.refuse(source, code, event.at)
        return not code

    def _step(self, lease: Lease, event: lease_rules.Event) -> str:
        """Apply an event to a lease and follow its effects; returns the code of a refusal."""
        after, effects = lease_rules.step(lease, event)
        for effect in effects:
            if isinstance(effect, lease_rules.Refused):
                return effect.code
        self._keep(after)
        if after.state is LeaseState.RUNNING and lease.state is LeaseState.PROPOSED:
            self._running(after, event.at)
        for effect in effects:
            self._follow(lease, after, effect, event.at)
        return ""

    def _follow(self, before: Lease, after: Lease, effect: lease_rules.Effect, now: int) -> None:
        match effect:
            case lease_rules.Reserve(window, amount):
                self.changes.move(self._hold(after, window, amount))
            case lease_rules.Settle(window, used_ms, following):
                charged = self._charge(before, used_ms)
                hold = self._next_hold(after, following) if following else None
                self.changes.move(Collect(before, window, charged, hold))
                self.unfunded.discard(before.payer)
                if following and not hold:
                    self._step(self.leases[after.id], lease_rules.Unfunded(now, "buyer.budget"))
            case lease_rules.Release(window):
                self.changes.move(GiveBack(before, window))
                self.unfunded.discard(before.payer)
            case lease_rules.Stop():
                self.changes.stops.append((after.node, after.id))
            case lease_rules.Free():
                self.floor.slots[after.node].give_back(after)
            case lease_rules.Vote():
                self._vote(after, now)
            case lease_rules.Wasted(settled_ms, given_ms):
                self._make_good(before, self.leases[after.id], settled_ms, given_ms)
            case lease_rules.Ended(paid=paid):
                worked = paid or after.window > 0 or after.saved_ms > 0
                self._lease_over(self.leases[after.id], now, worked=worked)

    def _hold(self, lease: Lease, window: int, amount_microusd: int) -> Hold:
        if lease.payer != NETWORK:
            self.jobs[lease.job].reserved[lease.id] = amount_microusd
        return Hold(lease, window, amount_microusd)

    def _next_hold(self, lease: Lease, following: lease_rules.Reserve) -> Hold | None:
        """Reserve the window after one that was charged; None when the order's budget does not cover it."""
        if lease.payer != NETWORK:
            entry = self.jobs[lease.job]
            del entry.reserved[lease.id]
            if not entry.affords(following.amount_microusd):
                return None
        return self._hold(lease, *following)

    def _charge(self, lease: Lease, used_ms: int) -> Charge:
        """Advance the meter of the lease's payer and payee; what this use costs is owed from now on."""
        key = (lease.payer, lease.payee, lease.price_version)
        self.meters[key], owed = charge(self.meters.get(key, 0), lease.price_microusd_per_hour, used_ms, self.fee)
        self.changes.meters.add(key)
        current = self.leases[lease.id]
        self._keep(msgspec.structs.replace(current, owed_microusd=current.owed_microusd + owed.total))
        if lease.payer != NETWORK:
            self.jobs[lease.job].spent_microusd += owed.total
        self.unfunded.discard(NETWORK)  # the fee is where the network's own checks are paid from
        return owed

    def _make_good(self, before: Lease, lease: Lease, settled_ms: int, given_ms: int) -> None:
        """Have the reserve asked for what was lost; the network's own checks get nothing back from it."""
        price = lease.price_microusd_per_hour
        refund = refund_microusd(lease.owed_microusd, price, lease.used_ms - settled_ms) if lease.payer else 0
        lost = lost_microusd(price, given_ms, self.fee)
        if refund or lost:
            self.changes.move(MakeGood(before, refund if settled_ms else 0, lost))

    def _running(self, lease: Lease, now: int) -> None:
        entry = self.jobs[lease.job]
        self._set_item(entry, job_rules.running(entry.items[lease.item]), now)

    def _vote(self, lease: Lease, now: int) -> None:
        """A result came in: believe it, have it checked, or judge between it and others."""
        entry = self.jobs[lease.job]
        item, judgement = self.judging.count(
            entry.job, entry.items[lease.item], lease, self.results.get(lease.id), self.changes, now
        )
        if judgement is None:
            self._set_item(entry, item, now)
        else:
            self._conclude(entry, item, judgement, now)

    def _conclude(self, entry: Entry, item: Item, judgement: Judgement, now: int) -> None:
        """Pay or refuse each vote's lease, remember what the nodes have shown, and move the item on."""
        entry.items[item.index] = item
        used_ms = max((self.leases[vote.lease].used_ms for vote in item.votes), default=0)
        self.judging.learn(entry.job, item, judgement, used_ms, self.changes, now)
        wrong = {vote.lease for vote in judgement.wrong} if entry.job.needs.proves else set()
        for vote in item.votes:
            self._step(self.leases[vote.lease], lease_rules.Judged(now, believed=vote.lease not in wrong))
        item = job_rules.concluded(entry.items[item.index], judgement, entry.job)
        self._set_item(entry, item, now)
        self._end_job(entry, now)

    def _cancel(self, entry: Entry, now: int) -> None:
        for item in list(entry.items.values()):
            if item.state not in FINAL and not item.leases:
                self._cancel_item(entry, item, now)
            elif item.leases:
                self._set_item(entry, msgspec.structs.replace(item, wanted=0), now)  # it gets no further lease
            for lease_id in item.leases:
                self._step(self.leases[lease_id], lease_rules.StopAsked(now, self._why_cancelled(entry), "buyer"))
        self._end_job(entry, now)

    def _why_cancelled(self, entry: Entry) -> str:
        return BANNED if entry.job.account in self.banned else job_rules.BUYER_CANCELLED

    def _cancel_item(self, entry: Entry, item: Item, now: int) -> None:
        """End an item that has no open lease; what was reported for it is paid."""
        for vote in item.votes:
            self._step(self.leases[vote.lease], lease_rules.Judged(now, believed=True))
        self._set_item(
            entry, job_rules.cancelled(entry.items[item.index], entry.job.order, self._why_cancelled(entry)), now
        )

    def _lease_over(self, lease: Lease, now: int, *, worked: bool) -> None:
        """Count what it cost, and move its item on if it ended before it reported a result."""
        if worked:
            self.floor.slots[lease.node].warm()
        if lease.caused_by == "owner" and lease.reason != lease_rules.PREEMPTED:
            self.floor.cool(lease.node, now)  # it loses no reputation, but others come first for a moment
        del self.leases[lease.id]
        self.giving_way.pop(lease.id, None)
        entry = self.jobs[lease.job]
        if lease.started_at is not None and entry.job.needs.blobs and lease.caused_by != "provider":
            self.holders.note((entry.job.account, entry.job.needs.blobs), lease.node)
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
        self._end_job(entry, now)

    def _end_job(self, entry: Entry, now: int) -> None:
        if entry.end(self.changes, now):
            self.jobs.pop(entry.job.order.id, None)

    def _set_item(self, entry: Entry, item: Item, now: int) -> None:
        entry.set_item(item, self.changes, now)

    def _change(self, lease: Lease) -> None:
        """Keep a lease that may have ended in this round."""
        self.changes.leases[lease.id] = lease
        if lease.id in self.leases:
            self.leases[lease.id] = lease

    def _keep(self, lease: Lease) -> None:
        self.changes.leases[lease.id] = lease
        if lease.state is not LeaseState.ENDED or lease.id in self.leases:
            self.leases[lease.id] = lease
        if lease.holds_capacity:
            self.floor.slots[lease.node].take(lease)

    def refuse(self, source: Source, code: str, now: int) -> None:
        """Keep that a record changed nothing, and why."""
        self.changes.refusals.append(Refusal(source.node, source.boot, source.seq, code, now))


def _due_at(lease: Lease) -> int:
    return (lease.started_at or lease.proposed_at) + lease.time_limit_ms + OVERDUE_MS


def same_order(job: Job, order: Order, account: bytes) -> Job:
    """Answer a repeated order.

    Raises:
        Conflict: it is not the same one, or another account's.
    """
    if job.account != account or job.order != order:
        raise Conflict("order.id_taken", f"The id {order.id} belongs to another order.", "Make a fresh random id.")
    return job
