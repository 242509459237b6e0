"""Where nodes are, for everybody to see: counts in cells of H3, none of which gives away a home.

Nodes are put into groups once, at the finest resolution: a cell in which too few owners have nodes is merged into its
parent, until that holds enough of them. What is shown at any coarser resolution is made of whole groups, so that no
difference between two resolutions tells more than a group does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from fallow.domain.identity import ADDRESS_BYTES
from fallow.domain.places import RESOLUTION_MAX, near, parent, resolution_of

FINER = 3
"""Resolutions between a cell that is looked around in and what is shown there: seven times 343 cells, and coarser ones.
That is less than `CELLS_MAX`."""

OWNERS_MIN = 3
"""Of a group: accounts, which are not persons. Who holds three can be alone in a cell that he chose himself."""

OWNERS_BYTES_MIN = OWNERS_MIN * ADDRESS_BYTES

CELLS_MAX = 3_000
"""That are shown at once; where there were more, the resolution is coarser than asked for."""


class Tally(msgspec.Struct, gc=False):
    """Nodes counted together: how many `open` take work, how many are `busy` with it, thousandths of cores.

    `owners` are their addresses, one behind the other, as far as it takes to tell whether they are enough: of
    `OWNERS_MIN` or more not all are kept. `countries` is how many say which country they are in.

    Very many are made and forgotten. Python's search for cycles passes them over; sets and lists it would look at.
    """

    owners: bytes = b""
    nodes: int = 0
    open: int = 0
    busy: int = 0
    cpu_milli: int = 0
    sold_milli: int = 0
    countries: dict[str, int] = {}

    @property
    def may_be_shown(self) -> bool:
        """Whether it has enough owners."""
        return len(self.owners) >= OWNERS_BYTES_MIN

    def meet(self, owner: bytes) -> None:
        """Note whose they are, while it is not enough."""
        if not self.may_be_shown and owner not in self.owners:
            self.owners += owner

    def add(self, other: Tally) -> None:
        """Count what another counted, too."""
        if not self.may_be_shown:
            for start in range(0, len(other.owners), ADDRESS_BYTES):
                self.meet(other.owners[start : start + ADDRESS_BYTES])
        self.nodes += other.nodes
        self.open += other.open
        self.busy += other.busy
        self.cpu_milli += other.cpu_milli
        self.sold_milli += other.sold_milli
        for country, nodes in other.countries.items():
            self.countries[country] = self.countries.get(country, 0) + nodes


@dataclass(frozen=True, slots=True)
class Groups:
    """Nodes by the cell that may be shown of them, and those of which none may."""

    placed: Mapping[str, Tally]
    rest: Tally


def grouped(told: dict[str, Tally]) -> Groups:
    """Merge what is counted by the cell that nodes tell ("" for none) until each group has enough owners.

    It is taken out of `told`, and forgotten, one by one: to forget very many at once holds up all threads.
    """
    rest = told.pop("", Tally())
    levels: list[dict[str, Tally]] = [{} for _ in range(RESOLUTION_MAX + 1)]
    while told:
        cell, tally = told.popitem()
        levels[resolution_of(cell)][cell] = tally
    placed: dict[str, Tally] = {}
    for resolution in range(RESOLUTION_MAX, -1, -1):
        while levels[resolution]:
            cell, tally = levels[resolution].popitem()
            if tally.may_be_shown:
                tally.countries.clear()  # they are told of the rest alone
                placed[cell] = tally
            elif resolution:
                _put(levels[resolution - 1], parent(cell, resolution - 1), tally)
            else:
                rest.add(tally)
    return Groups(placed, rest)


def _put(level: dict[str, Tally], cell: str, tally: Tally) -> None:
    if cell in level:
        level[cell].add(tally)
    else:
        level[cell] = tally


class Layers:
    """Groups at every resolution: in cells of it, and in coarser ones where a group is no finer."""

    def __init__(self, groups: Groups) -> None:
        self._layers: list[Mapping[str, Tally]] = [groups.placed]
        for resolution in range(RESOLUTION_MAX - 1, -1, -1):
            self._layers.insert(0, _rolled_up(self._layers[0], resolution))
        self._inside = [_inside(layer, resolution) for resolution, layer in enumerate(self._layers[FINER:])]

    def whole(self, resolution: int) -> tuple[int, Mapping[str, Tally]]:
        """Return the layer of `resolution`, or the finest one that there is room for, and which resolution that is."""
        for fitting in range(resolution, 0, -1):
            if len(self._layers[fitting]) <= CELLS_MAX:
                return fitting, self._layers[fitting]
        return 0, self._layers[0]

    def around(self, centre: str) -> tuple[int, dict[str, Tally]]:
        """Return what of the layer `FINER` than a cell lies in it and in those next to it, and its resolution."""
        coarse = resolution_of(centre)
        tiles = near(centre)
        tiles |= {parent(tile, above) for tile in tiles for above in range(coarse)}
        layer, inside = self._layers[coarse + FINER], self._inside[coarse]
        return coarse + FINER, {cell: layer[cell] for tile in tiles for cell in inside.get(tile, ())}


def _rolled_up(finer: Mapping[str, Tally], resolution: int) -> dict[str, Tally]:
    """Make a layer of the next finer one."""
    cells = {cell: tally for cell, tally in finer.items() if resolution_of(cell) <= resolution}
    merged: defaultdict[str, Tally] = defaultdict(Tally)
    for cell, tally in finer.items():
        if resolution_of(cell) > resolution:
            merged[parent(cell, resolution)].add(tally)
    for cell, tally in merged.items():
        if cell in cells:
            tally.add(cells[cell])
    return cells | merged


def _inside(cells: Iterable[str], coarse: int) -> dict[str, list[str]]:
    """List them by their parent at a resolution; what is coarser itself, by itself."""
    inside: defaultdict[str, list[str]] = defaultdict(list)
    for cell in cells:
        inside[cell if resolution_of(cell) <= coarse else parent(cell, coarse)].append(cell)
    return dict(inside)
