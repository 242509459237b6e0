"""Where all nodes are, for everybody to see."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

from fallow.domain.field_map import OWNERS_MIN, Groups, Tally, grouped, shown
from fallow.domain.views import CellView, MapView
from fallow.ports.clock import Clock
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot
from fallow.services.market.rounds import Rounds
from fallow.services.market.show import node_state
from fallow.services.market.totals import HERE, slots_of

FRESH_MS = 30_000
"""However many ask, nodes are put on the map this rarely."""

ONLINE = HERE | {"paused"}


class FieldMap:
    """The latest map at each resolution, made when somebody asks and it is no longer fresh."""

    def __init__(self, rounds: Rounds, clock: Clock) -> None:
        self._rounds = rounds
        self._clock = clock
        self._making = asyncio.Lock()
        self._made_at = 0
        self._groups: Groups | None = None
        self._views: dict[int, MapView] = {}

    async def view(self, resolution: int) -> MapView:
        """Show it; `at` says as of when."""
        async with self._making:
            now = self._clock.now_ms()
            if self._groups is None or not 0 <= now - self._made_at < FRESH_MS:
                told = await self._told(now)
                self._groups = await asyncio.to_thread(grouped, told)
                self._made_at, self._views = now, {}
            if resolution not in self._views:
                self._views[resolution] = await asyncio.to_thread(map_view, self._groups, resolution, self._made_at)
            return self._views[resolution]

    async def _told(self, now: int) -> dict[str, Tally]:
        brain = self._rounds.brain
        told: defaultdict[str, Tally] = defaultdict(Tally)
        for portion in slots_of(brain):
            for slot in portion:
                told[slot.offer.cell].add(tally_of(brain, slot, now))
            await asyncio.sleep(0)  # others get their turn
        return dict(told)


def tally_of(brain: Brain, slot: Slot, now: int) -> Tally:
    """Count one node: nothing where it is banned or cannot be reached."""
    state = node_state(slot, now, banned=brain.shut_out(slot))
    if state not in ONLINE:
        return Tally()
    made = slot.offer.made
    return Tally(
        owners={slot.offer.account},
        nodes=1,
        open=int(state in HERE),
        busy=int(state == "busy"),
        cpu_milli=made.total.cpu_milli if state in HERE else 0,
        sold_milli=sum(lease.resources.cpu_milli for lease in slot.leases.values()) if state in HERE else 0,
        countries=Counter([made.country] if made.country else []),
    )


def map_view(groups: Groups, resolution: int, at: int) -> MapView:
    """Show the groups at a resolution, the cells in the order of their names."""
    fitting, cells = shown(groups, resolution)
    return MapView(
        at=at,
        resolution=fitting,
        owners_min=OWNERS_MIN,
        cells=[
            CellView(
                cell=cell,
                nodes=tally.nodes,
                open=tally.open,
                busy=tally.busy,
                cpu_milli=tally.cpu_milli,
                sold_milli=tally.sold_milli,
            )
            for cell, tally in sorted(cells.items())
        ],
        rest=groups.rest.nodes,
        countries=dict(groups.rest.countries),
    )
