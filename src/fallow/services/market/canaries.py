"""Which nodes are due for a canary, what canaries can be made of, and making them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice

from fallow.domain.canaries import Known, Owed, canary, crowded_out, met
from fallow.domain.draws import Seed
from fallow.domain.jobs import Job
from fallow.domain.matching import BUSY, Place, Wish, obstacles
from fallow.services.market.floor import Slot

DUE_MAX = 10_000
TURNS_A_ROUND = 16
"""Nodes for which a round looks for a canary, so that many who find none do not hold it up."""


class Canaries:
    """What is known, oldest first, and for each node that is due, the lease after which it was drawn.

    Who is due is kept in memory only: a market that starts anew forgets some canaries, and no node can tell which.
    """

    def __init__(self, known: Iterable[Known] = ()) -> None:
        self.known = {entry.key: entry for entry in known}
        self.due: dict[bytes, Owed] = {}

    def owe(self, node: bytes, owed: Owed) -> None:
        """A draw has hit: the node is given a canary when there is one for it."""
        if len(self.due) < DUE_MAX:
            self.due[node] = owed

    def learn(self, known: Known, changed: dict[tuple[str, int], Known | None]) -> None:
        """Keep an item whose result is known now, and note what is to be written: None where an entry goes."""
        for entry in crowded_out(list(self.known.values()), known):
            del self.known[entry.key]
            changed[entry.key] = None
        self.known[known.key] = changed[known.key] = known

    def make(
        self,
        slots: Mapping[bytes, Slot],
        look: Callable[[Slot], Place],
        busy: Collection[bytes],
        seed: Seed,
        changed: dict[tuple[str, int], Known | None],
        now: int,
    ) -> list[Job]:
        """Make canaries for nodes whose turn it is; those of `busy` have one already, and wait like those without."""
        jobs: list[Job] = []
        for node in list(islice(self.due, TURNS_A_ROUND)) if self.known else ():
            owed, slot = self.due.pop(node), slots.get(node)
            if slot is None:
                continue
            place, account = look(slot), slot.offer.account
            known = () if node in busy else self.known.values()
            fitting = [entry for entry in known if _fits(entry, owed, place, account)]
            if fitting:
                chosen = _pick(fitting, seed, owed.lease)
                jobs.append(canary(chosen, node, owed, seed, now))
                self._meet(chosen, account, changed)
            else:
                self.due[node] = owed
        return jobs

    def _meet(self, known: Known, account: bytes, changed: dict[tuple[str, int], Known | None]) -> None:
        left = changed[known.key] = met(known, account)
        if left is None:
            del self.known[known.key]
        else:
            self.known[known.key] = left


def _fits(known: Known, owed: Owed, place: Place, account: bytes) -> bool:
    order, needs = owed.order_of(known), known.job.needs
    wish = Wish(
        order.requirements,
        needs.attributes,
        order.max_price_microusd_per_hour,
        trust_min=needs.trust_min(order),
        spot=order.spot,
    )
    return account not in known.accounts and obstacles(place, wish) in {(), (BUSY,)}


def _pick(fitting: Sequence[Known], seed: Seed, lease: bytes) -> Known:
    drawn = hmac.digest(seed.value, b"pick\0" + lease, "sha256")
    return fitting[int.from_bytes(drawn, "big") % len(fitting)]
