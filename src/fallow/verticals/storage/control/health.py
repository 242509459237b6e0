"""Which pieces of a segment count: those on nodes that are there, each of another owner on another network. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Protocol, TypeVar

KeyT = TypeVar("KeyT", bytes, str)
NOBODY: Final = 0


class Holder(Protocol):
    """A node that is there."""

    @property
    def alias(self) -> int:
        """Its short name."""
        ...

    @property
    def account(self) -> bytes:
        """Its owner."""
        ...

    @property
    def network(self) -> str:
        """Where it connects from, as the network itself sees it; all that are not known ("") count as one."""
        ...

    @property
    def country(self) -> str:
        """Where it is, by its owner's word."""
        ...


class _Groups(dict[int, int]):
    """Numbers of owners or networks by alias. Its lookup is what a pass over all segments consists of."""

    def __missing__(self, alias: int) -> int:
        return NOBODY


class Whereabouts:
    """Owners, networks and countries of the nodes that are there; what is on any other node is lost."""

    def __init__(self, holders: Iterable[Holder]) -> None:
        there = list(holders)
        self._owners = _numbered([(one.alias, one.account) for one in there])
        self._networks = _numbered([(one.alias, one.network) for one in there])
        self._countries = {one.alias: one.country for one in there}
        self._clans = _clans(self._owners, self._networks)

    def __len__(self) -> int:
        return len(self._countries)

    def __contains__(self, alias: int) -> bool:
        return alias in self._countries

    def at_least(self, nodes: Sequence[int]) -> int:
        """How many pieces count at least, wherever they may be: found in half the time, and mostly all there is to ask.

        Nodes that are linked by owners and networks, over others too, are taken for one.
        """
        clans = set(map(self._clans.__getitem__, nodes))
        return len(clans) - (NOBODY in clans)

    def healthy(self, nodes: Sequence[int], countries: Collection[str] = ()) -> int:
        """How many pieces count of those on `nodes` (0: nobody), where they may be in these countries (none: in all).

        As many as there are owners, or networks, whichever are fewer.
        """
        here = [alias for alias in nodes if self._countries.get(alias) in countries] if countries else nodes
        owners = set(map(self._owners.__getitem__, here))
        networks = set(map(self._networks.__getitem__, here))
        return min(len(owners) - (NOBODY in owners), len(networks) - (NOBODY in networks))

    def is_abroad(self, nodes: Sequence[int], countries: Collection[str]) -> bool:
        """Whether a piece is on a node that is there, and outside of these countries (none: it may be anywhere)."""
        return bool(countries) and any(alias in self and self._countries[alias] not in countries for alias in nodes)

    def counted(self, nodes: Sequence[int], countries: Collection[str] = ()) -> list[int]:
        """The numbers of pieces that can stay where they are: no two of one owner, or on one network."""
        found, owners, networks = [], {NOBODY}, {NOBODY}
        for number, alias in enumerate(nodes):
            owner, network = self._owners[alias], self._networks[alias]
            if owner in owners or network in networks or (countries and self._countries[alias] not in countries):
                continue
            owners.add(owner)
            networks.add(network)
            found.append(number)
        return found


def _clans(owners: _Groups, networks: _Groups) -> _Groups:
    """Numbers of what owners and networks connect: sets are joined, the smaller into the larger."""
    of_owner: dict[int, list[int]] = {}
    for alias, owner in owners.items():
        of_owner.setdefault(owner, []).append(alias)
    clans = _Groups(owners)
    members = dict(of_owner)
    first: dict[int, int] = {}
    for alias, network in networks.items():
        one, other = clans[first.setdefault(network, alias)], clans[alias]
        if one != other:
            large, small = sorted((one, other), key=lambda clan: -len(members[clan]))
            for moved in members[small]:
                clans[moved] = large
            members[large] += members.pop(small)
    return clans


def _numbered(pairs: Sequence[tuple[int, KeyT]]) -> _Groups:
    numbers: dict[KeyT, int] = {}
    return _Groups((alias, numbers.setdefault(key, len(numbers) + 1)) for alias, key in pairs)
