"""Taking capacity back from spot leases for orders on demand that find no room.

A spot lease is asked to end, politely, as its owner would; what it held is free once its node's last receipt is in,
and only then sold again: nothing is sold twice, and the node's own book has the last word. Until then nobody else on
spot gets what was freed for an order on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from fallow.domain.leases import Lease
from fallow.domain.matching import Wish, candidates, price_of
from fallow.domain.resources import Resources
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot


class Preemption:
    """One round of it. `claimed` are the nodes on which room is being made."""

    def __init__(self, brain: Brain, now: int) -> None:
        self._brain = brain
        self._now = now
        self._coming: dict[bytes, Resources] = {}
        """What a node will have free once those that give way have ended, less what is claimed."""
        self._victims: dict[bytes, list[Lease]] = {}
        """Spot leases that may be ended, by node, the one that has worked longest first."""
        self.claimed: set[bytes] = set()
        for slot in brain.floor.slots.values() if any(lease.spot for lease in brain.leases.values()) else ():
            self._look_at(slot)

    def make_room(self, wish: Wish, barred: Collection[bytes], affords: Callable[[int], bool]) -> int:
        """Claim room for one lease, on the best node where ending spot leases gives it; returns how many were ended.

        `barred` are accounts whose nodes the lease may not go to; `affords` says whether its payer can pay a price
        per hour.
        """
        resources = wish.requirements.resources
        slots = [self._brain.floor.slots[node] for node in self._coming]
        places = [
            self._brain.place_of(slot, self._now)._replace(free=self._at_most(slot.offer.node))
            for slot in slots
            if slot.offer.account not in barred and not slot.life.rests(self._now)
        ]
        best = next((place.node for place in candidates(places, wish) if affords(price_of(place, wish))), None)
        if best is None:
            return 0
        ended = self._end_leases(best, resources)
        self._coming[best] = self._coming[best].minus(resources)
        self.claimed.add(best)
        return ended

    def _look_at(self, slot: Slot) -> None:
        coming, victims = slot.free, []
        for lease in slot.leases.values():
            if self._brain.giving_way.get(lease.id, 0) > self._now:
                coming = coming.plus(lease.resources)
            elif lease.spot and not lease.stop_reason and not self._brain.moves_money(lease.id):
                victims.append(lease)
        if victims or coming != slot.free:
            node = slot.offer.node
            self._coming[node] = coming
            self._victims[node] = sorted(victims, key=lambda lease: (_began_at(lease), lease.id))

    def _at_most(self, node: bytes) -> Resources:
        room = self._coming[node]
        for lease in self._victims[node]:
            room = room.plus(lease.resources)
        return room

    def _end_leases(self, node: bytes, resources: Resources) -> int:
        """End no more than it takes, the latest first: it loses the least."""
        ended = 0
        while not self._coming[node].holds(resources):
            lease = self._victims[node].pop()
            self._coming[node] = self._coming[node].plus(lease.resources)
            self._brain.preempt(lease, self._now)
            ended += 1
        return ended


def _began_at(lease: Lease) -> int:
    return lease.started_at if lease.started_at is not None else lease.proposed_at
