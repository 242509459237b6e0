"""What all nodes and open jobs are together, for everybody to see."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from fallow.domain.chronicle import DAY_HOURS, DAY_MS, MONTH_HOURS
from fallow.domain.jobs import JobState
from fallow.domain.resources import Resources
from fallow.domain.views.market import AmountView, EndedView, MarketView, NodesOnDayView, SoldView
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot
from fallow.services.market.rounds import Rounds
from fallow.services.market.show import node_state

COUNTED_EVERY_MS = 2_000

LOOKED_AT_ONCE = 200
"""Of very many nodes. Each turn of the loop waits for so many here, as many on the map, and as many at a roll call."""

HERE = frozenset({"busy", "idle"})
DAYS_SHOWN = 30
OUTCOMES = (JobState.DONE.value, JobState.FAILED.value, JobState.CANCELLED.value)


async def count(rounds: Rounds, now: int) -> MarketView:
    """Count all nodes as they are now, and have the market note how many are there."""
    counting = Count(rounds.brain, now)
    for _ in counting.portions():
        await asyncio.sleep(0)  # others get their turn
    if counting.knows:
        rounds.tell(partial(Brain.counted, nodes=counting.here))
    return counting.view()


class Count:
    """Adds up all nodes that are on the market now. `portions` is to be run to its end."""

    def __init__(self, brain: Brain, now: int) -> None:
        self._brain = brain
        self._now = now
        self._states: Counter[str] = Counter()
        self._countries: Counter[str] = Counter()
        self._offered: Counter[Resources] = Counter()
        self._sold: defaultdict[str, Counter[Resources]] = defaultdict(Counter)
        """By vertical."""
        self._working: Counter[str] = Counter()
        """Nodes with a lease, by vertical."""
        self._owners: set[bytes] = set()

    @property
    def knows(self) -> bool:
        """Whether who is away is known to be: after a silence of its own the market believes in all nodes."""
        return self._brain.floor.knows(self._now)

    @property
    def here(self) -> int:
        """How many are busy or idle."""
        return sum(self._states[state] for state in HERE)

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
            offered=_sum(self._offered),
            sold=_sum(sum(self._sold.values(), Counter())),
            jobs_open=len(self._brain.jobs),
            leases_open=len(self._brain.leases),
            jobs_ended=self._jobs_ended(),
            nodes_by_day=[
                NodesOnDayView(at=day * DAY_MS, nodes=most)
                for day, most in self._brain.chronicle.nodes_by_day(self._now, DAYS_SHOWN).items()
            ],
            sold_to={
                name: SoldView(nodes=self._working[name], leases=held.total(), sold=_sum(held))
                for name, held in sorted(self._sold.items())
            },
        )

    def _jobs_ended(self) -> dict[str, EndedView]:
        ever, month, day = (self._brain.chronicle.jobs(self._now, hours) for hours in (None, MONTH_HOURS, DAY_HOURS))
        return {
            outcome: EndedView(ever=getattr(ever, outcome), month=getattr(month, outcome), day=getattr(day, outcome))
            for outcome in OUTCOMES
        }

    def _add(self, slot: Slot) -> None:
        state = node_state(slot, self._now, banned=self._brain.shut_out(slot))
        self._states[state] += 1
        if state not in HERE:
            return
        made = slot.offer.made
        self._owners.add(slot.offer.account)
        if made.country:
            self._countries[made.country] += 1
        self._offered[made.total] += 1
        held = [(self._brain.jobs[lease.job].job.order.vertical, lease.resources) for lease in slot.leases.values()]
        for vertical, resources in held:
            self._sold[vertical][resources] += 1
        self._working.update({vertical for vertical, _ in held})


def slots_of(brain: Brain) -> Iterator[list[Slot]]:
    """Return the nodes of this moment, so many at once: between two portions others may have their turn."""
    slots = brain.floor.in_turn
    for start in range(0, len(slots), LOOKED_AT_ONCE):
        yield slots[start : start + LOOKED_AT_ONCE]


def _sum(amounts: Mapping[Resources, int]) -> AmountView:
    """So many of each: machines of a kind are many, and kinds are few."""
    sums: Counter[str] = Counter()
    for amount, times in amounts.items():
        sums.update({name: times * part for name, part in msgspec.structs.asdict(amount).items()})
    return AmountView(**sums)
