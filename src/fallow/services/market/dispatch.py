"""Placing waiting items on nodes: each round gives every open job its turn, one item at a time.

No item waits behind another that cannot be placed: an order that fits nowhere now is passed over.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque

from fallow.domain.billing import deposit
from fallow.domain.chart import NETWORK
from fallow.domain.jobs import Item, Job, Needs
from fallow.domain.leases import Lease
from fallow.domain.matching import Wish
from fallow.domain.orders import Order
from fallow.services.market.brain import ANSWER_MS, Brain
from fallow.services.market.entry import Entry
from fallow.services.market.floor import Slot
from fallow.services.market.lookup import Choices

PLACED_A_ROUND_MAX = 500


def wish_of(order: Order, needs: Needs) -> Wish:
    """What an order's items need of a node."""
    return Wish(
        order.requirements, needs.attributes, order.max_price_microusd_per_hour, trust_min=needs.trust_min(order)
    )


def lease_id(job_id: str, item: Item) -> bytes:
    """16 bytes that name an item's next attempt: the same attempt has the same id, also after a crash."""
    return hashlib.sha256(f"fallow/lease/1\0{job_id}\0{item.index}\0{item.attempts}".encode()).digest()[:16]


def dispatch(brain: Brain, now: int, *, window_ms: int) -> int:
    """Propose leases for waiting items; returns how many."""
    brain.give_canaries(now)
    choices = brain.choices(now)
    waiting = [entry for entry in brain.jobs.values() if entry.waiting]
    # Canaries come first: they are few, and a node that is never free for one would never be looked at.
    waiting.sort(key=lambda entry: entry.job.replay is None)
    turns = deque(_Turn(brain, entry, choices) for entry in waiting)
    count = 0
    while turns and count < PLACED_A_ROUND_MAX:
        turn = turns.popleft()
        if turn.place_one(now, window_ms):
            count += 1
            turns.append(turn)
    return count


class _Turn:
    """One job's part in a round."""

    def __init__(self, brain: Brain, entry: Entry, choices: Choices) -> None:
        self.brain = brain
        self.entry = entry
        # Results that wait to be checked come first: until then their money and their nodes' standing are open.
        self.waiting = deque(sorted(entry.waiting, key=lambda index: not entry.items[index].votes))
        self.per_owner_max = entry.job.order.requirements.leases_per_owner_max
        wish, suspect = wish_of(entry.job.order, entry.job.needs), entry.suspect
        self.slots = choices.of(wish) if suspect is None else choices.only(suspect, wish)

    def place_one(self, now: int, window_ms: int) -> bool:
        """Place the next item that fits anywhere; False when the job's turn in this round is over."""
        while self.waiting:
            index = self.waiting.popleft()
            item = self.entry.items[index]
            payer = self._payer(item)
            if not item.lacks_lease or (payer and payer in self.brain.unfunded):
                continue
            slot = None if payer in self.brain.unfunded else self._slot_for(item)
            if slot is None:
                self._give_up_checking(item, payer, now)
            elif self._place(item, slot, payer, now, window_ms):
                self.waiting.append(index)
                return True
        return False

    def _give_up_checking(self, item: Item, payer: bytes, now: int) -> None:
        """Do with the results that are there when the network cannot pay for another, or no node could give one."""
        is_canary = self.entry.job.replay is not None
        if item.leases or not (item.votes or is_canary):
            return
        if payer not in self.brain.unfunded and not self._hopeless(item):
            return
        if item.votes:
            self.brain.settle_for_less(self.entry, item, now)
        else:
            self.brain.drop_canary(self.entry, now)

    def _payer(self, item: Item) -> bytes:
        """The buyer pays as many results as he ordered; the network pays for those that it checks them with."""
        job = self.entry.job
        return job.payer if len(item.leases) + len(item.votes) < job.order.replicas else NETWORK

    def _slot_for(self, item: Item) -> Slot | None:
        owners = self._owners(item)
        busy = self._busy_owners()
        for slot in self.slots:
            if self._other(slot, item, owners | busy):
                return slot
        if not item.shunned or owners or not self._hopeless(item):
            return None
        # All nodes that could do it lost it before: they are better than nobody, until it was lost too often.
        return next((slot for slot in self.slots if slot.offer.account not in busy), None)

    def _busy_owners(self) -> set[bytes]:
        """Owners whose nodes work on as many of the order's items as the buyer wants of them at a time."""
        if self.per_owner_max is None:
            return set()
        leases = (lease for item in self.entry.items.values() for lease in item.leases)
        counts = Counter(self.brain.leases[lease].payee for lease in leases)
        return {owner for owner, count in counts.items() if count >= self.per_owner_max}

    def _owners(self, item: Item) -> set[bytes]:
        """Accounts that work or worked on an item: no owner confirms himself."""
        return {vote.account for vote in item.votes} | {self.brain.leases[lease].payee for lease in item.leases}

    @staticmethod
    def _other(slot: Slot, item: Item, owners: set[bytes]) -> bool:
        return slot.offer.node not in item.shunned and slot.offer.account not in owners

    def _hopeless(self, item: Item) -> bool:
        """Whether no node that is here could ever give one more result for an item."""
        owners = self._owners(item)
        return not any(self._other(slot, item, owners) for slot in self.slots.here())

    def _place(self, item: Item, slot: Slot, payer: bytes, now: int, window_ms: int) -> bool:
        lease = _lease(self.entry.job, item, slot, payer, now, window_ms)
        if payer and not self.entry.affords(lease.deposit_microusd(0)):
            if item.votes and not item.leases:
                self.brain.settle_for_less(self.entry, item, now)
            else:
                least = deposit(self.slots.cheapest() or 0, lease.window_limit_ms(0))
                self.brain.over_budget(self.entry, least, now)
            return False
        self.brain.place(self.entry.job.order.id, item.index, lease)
        return True


def _lease(job: Job, item: Item, slot: Slot, payer: bytes, now: int, window_ms: int) -> Lease:
    order, offer = job.order, slot.offer
    resources = order.requirements.resources
    return Lease(
        id=lease_id(order.id, item),
        job=order.id,
        item=item.index,
        payer=payer,
        payee=offer.account,
        node=offer.node,
        boot=slot.boot,
        resources=resources,
        price_microusd_per_hour=offer.made.terms.price_microusd_per_hour(resources),
        price_version=offer.made.offer,
        window_ms=window_ms,
        time_limit_ms=order.lease_limit_s * 1000,
        proposed_at=now,
        answer_by=now + ANSWER_MS,
        resume=item.checkpoint,
        until_stopped=order.until_stopped,
    )
