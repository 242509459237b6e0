"""What all nodes and open jobs are together, for everybody to see."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import msgspec

from fallow.domain.resources import Resources
from fallow.domain.views import AmountView, MarketView
from fallow.ports.clock import Clock
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot
from fallow.services.market.rounds import Rounds
from fallow.services.market.show import node_state

FRESH_MS = 2_000
"""However many ask, nodes are counted this rarely."""

LOOKED_AT_ONCE = 1_000
HERE = frozenset({"busy", "idle"})


class Totals:
    """The latest totals, counted when somebody asks and they are no longer fresh."""

    def __init__(self, rounds: Rounds, clock: Clock) -> None:
        self._rounds = rounds
        self._clock = clock
        self._counting = asyncio.Lock()
        self._latest: MarketView | None = None

    async def view(self) -> MarketView:
        """Show them; `at` says as of when."""
        async with self._counting:
            now = self._clock.now_ms()
            if self._latest is None or not 0 <= now - self._latest.at < FRESH_MS:
                count = Count(self._rounds.brain, now)
                for _ in count.portions():
                    await asyncio.sleep(0)  # others get their turn
                self._latest = count.view()
            return self._latest


class Count:
    """Adds up all nodes that are on the market now. `portions` is to be run to its end."""

    def __init__(self, brain: Brain, now: int) -> None:
        self._brain = brain
        self._now = now
        self._states: Counter[str] = Counter()
        self._countries: Counter[str] = Counter()
        self._offered: Counter[str] = Counter()
        self._sold: Counter[str] = Counter()
        self._owners: set[bytes] = set()

    def portions(self) -> Iterator[None]:
        """Look at the nodes, so many at once."""
        for portion in slots_of(self._brain):
            for slot in portion:
                self._add(slot)
            yield

    def view(self) -> MarketView:
        """Show what was counted."""
        return MarketView(
            at=self._now,
            nodes=dict(self._states),
            owners=len(self._owners),
            countries=dict(self._countries),
            offered=AmountView(**self._offered),
            sold=AmountView(**self._sold),
            jobs_open=len(self._brain.jobs),
            leases_open=len(self._brain.leases),
        )

    def _add(self, slot: Slot) -> None:
        state = node_state(slot, self._now, banned=self._brain.shut_out(slot))
        self._states[state] += 1
        if state not in HERE:
            return
        made = slot.offer.made
        self._owners.add(slot.offer.account)
        if made.country:
            self._countries[made.country] += 1
        self._offered.update(_parts(made.total))
        for lease in slot.leases.values():
            self._sold.update(_parts(lease.resources))


def slots_of(brain: Brain) -> Iterator[list[Slot]]:
    """Return the nodes of this moment, so many at once: between two portions others may have their turn."""
    waiting = iter(list(brain.floor.slots.values()))
    while portion := list(islice(waiting, LOOKED_AT_ONCE)):
        yield portion


def _parts(amount: Resources) -> dict[str, int]:
    whole: dict[str, int] = msgspec.structs.asdict(amount)
    return whole
