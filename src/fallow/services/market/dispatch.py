"""Placing waiting items on nodes: each round gives every open job its turn, one item at a time.

No item waits behind another that cannot be placed: an order that fits nowhere now is passed over.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator

from fallow.domain.jobs import Item, Job
from fallow.domain.leases import Lease
from fallow.domain.matching import Place, Wish, candidates
from fallow.services.market.brain import ANSWER_MS, Brain, Entry
from fallow.services.market.floor import Slot

PLACED_A_ROUND_MAX = 500


def wish_of(job: Job) -> Wish:
    """What a job's items need of a node."""
    order = job.order
    return Wish(order.requirements, job.needs.attributes, order.max_price_microusd_per_hour)


def lease_id(job_id: str, item: Item) -> bytes:
    """16 bytes that name an item's next attempt: the same attempt has the same id, also after a crash."""
    return hashlib.sha256(f"fallow/lease/1\0{job_id}\0{item.index}\0{item.attempts}".encode()).digest()[:16]


def dispatch(brain: Brain, now: int, *, window_ms: int) -> int:
    """Propose leases for waiting items; returns how many."""
    places = brain.floor.places(now)
    turns = deque(_Turn(brain, entry, places) for entry in brain.jobs.values() if entry.waiting)
    count = 0
    while turns and count < PLACED_A_ROUND_MAX:
        turn = turns.popleft()
        if turn.place_one(now, window_ms):
            count += 1
            turns.append(turn)
    return count


class _Turn:
    """One job's part in a round."""

    def __init__(self, brain: Brain, entry: Entry, places: list[Place]) -> None:
        self.brain = brain
        self.entry = entry
        self.waiting: Iterator[int] = iter(list(entry.waiting))
        self.slots: list[Slot] | None = None
        self.places = places

    def place_one(self, now: int, window_ms: int) -> bool:
        """Place the next item that fits anywhere; False when the job's turn in this round is over."""
        job = self.entry.job
        if job.account in self.brain.unfunded:
            return False
        if self.slots is None:
            found = candidates(self.places, wish_of(job))
            self.slots = [self.brain.floor.slots[place.node] for place in found]
        for index in self.waiting:
            slot = self._slot_for(self.entry.items[index])
            if slot is not None:
                return self._place(index, slot, now, window_ms)
            if not self.slots:
                return False
        return False

    def _slot_for(self, item: Item) -> Slot | None:
        resources = self.entry.job.order.requirements.resources
        slots = self.slots or []
        while slots and not slots[0].free.holds(resources):
            slots.pop(0)
        for slot in slots:
            if slot.offer.node not in item.shunned and slot.free.holds(resources):
                return slot
        return None

    def _place(self, index: int, slot: Slot, now: int, window_ms: int) -> bool:
        lease = _lease(self.entry.job, self.entry.items[index], slot, now, window_ms)
        if not self.entry.affords(lease.deposit_microusd(0)):
            self.brain.over_budget(self.entry, now)
            return False
        self.brain.place(self.entry.job.order.id, index, lease)
        return True


def _lease(job: Job, item: Item, slot: Slot, now: int, window_ms: int) -> Lease:
    order, offer = job.order, slot.offer
    resources = order.requirements.resources
    return Lease(
        id=lease_id(order.id, item),
        job=order.id,
        item=item.index,
        payer=job.account,
        payee=offer.account,
        node=offer.node,
        boot=slot.boot,
        resources=resources,
        price_microusd_per_hour=offer.made.terms.price_microusd_per_hour(resources),
        price_version=offer.made.offer,
        window_ms=window_ms,
        time_limit_ms=order.time_limit_s * 1000,
        proposed_at=now,
        answer_by=now + ANSWER_MS,
    )
