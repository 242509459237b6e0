"""Where all nodes are, for everybody to see."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from fallow.domain.errors import InvalidInput
from fallow.domain.field_map import FINER, OWNERS_MIN, Layers, Tally, grouped
from fallow.domain.places import RESOLUTION_MAX, is_cell, resolution_of
from fallow.domain.views.market import CellView, MapView
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot
from fallow.services.market.rounds import Rounds
from fallow.services.market.show import node_state
from fallow.services.market.totals import HERE, slots_of

DRAWN_EVERY_MS = 30_000

ONLINE = HERE | {"paused"}


class FieldMap:
    """All nodes as they were `at` a moment, counted by the cells that may be told of them; `told` is empty then."""

    def __init__(self, told: dict[str, Tally], at: int) -> None:
        groups = grouped(told)
        self._layers = Layers(groups)
        self._rest = groups.rest
        self._at = at
        self._whole = [self._view(*self._layers.whole(resolution)) for resolution in range(RESOLUTION_MAX + 1)]

    def view(self, resolution: int, around: str = "") -> MapView:
        """Show the whole of it, or what lies around a cell.

        Raises:
            InvalidInput: `around` is no cell, or too fine a one (`place.around`).
        """
        if not around:
            return self._whole[resolution]
        if not (is_cell(around) and resolution_of(around) <= RESOLUTION_MAX - FINER):
            raise InvalidInput(
                "place.around",
                f"The map cannot be looked at around {around}.",
                f"Name a cell of H3 of a resolution up to {RESOLUTION_MAX - FINER}.",
            )
        return self._view(*self._layers.around(around))

    def _view(self, resolution: int, cells: Mapping[str, Tally]) -> MapView:
        return MapView(
            at=self._at,
            resolution=resolution,
            owners_min=OWNERS_MIN,
            cells=[_cell_view(cell, tally) for cell, tally in sorted(cells.items())],
            rest=self._rest.nodes,
            countries=dict(self._rest.countries),
        )


async def draw(rounds: Rounds, now: int) -> FieldMap:
    """Put all nodes on the map as they are now."""
    told: defaultdict[str, Tally] = defaultdict(Tally)
    for portion in slots_of(rounds.brain):
        for slot in portion:
            _count(told[slot.offer.cell], rounds.brain, slot, now)
        await asyncio.sleep(0)  # others get their turn
    return await asyncio.to_thread(FieldMap, told, now)


def _count(tally: Tally, brain: Brain, slot: Slot, now: int) -> None:
    """Count one node: nothing where it is banned or cannot be reached."""
    state = node_state(slot, now, banned=brain.shut_out(slot))
    if state not in ONLINE:
        return
    made = slot.offer.made
    tally.meet(slot.offer.account)
    tally.nodes += 1
    if made.country:
        tally.countries[made.country] = tally.countries.get(made.country, 0) + 1
    if state not in HERE:
        return
    tally.open += 1
    tally.busy += state == "busy"
    tally.cpu_milli += made.total.cpu_milli
    tally.sold_milli += sum(lease.resources.cpu_milli for lease in slot.leases.values())


def _cell_view(cell: str, tally: Tally) -> CellView:
    return CellView(
        cell=cell,
        nodes=tally.nodes,
        open=tally.open,
        busy=tally.busy,
        cpu_milli=tally.cpu_milli,
        sold_milli=tally.sold_milli,
    )
