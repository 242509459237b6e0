"""Which nodes a segment's pieces go to: drawn by their room, all of distinct owners on distinct networks. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.verticals.storage.control.health import Holder
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.profiles import LAB, PROFILES, WIDE, Profile

Uniform = Callable[[], float]
"""Draws from [0, 1)."""
SPARE_MIN: Final = 2
SPARE_FRACTION: Final = 5
DRAWS_EACH: Final = 4
UNASKED: Final = (WIDE, LAB)
"""Profiles of buckets that name none: the first that there are nodes for is taken, and none keeps less than one behind
it. `small` keeps less than `lab` where nodes come and go: who has nodes that stay asks for it."""


class Candidate(Holder, Protocol):
    """A node that could take a piece. All whose `network` is not known ("") count as one network: they may be one."""

    @property
    def room_bytes(self) -> int:
        """What it can still take."""
        ...


CandidateT = TypeVar("CandidateT", bound=Candidate)


class Placed(NamedTuple, Generic[CandidateT]):
    """Nodes for a segment: one for each piece, and behind these the spare ones."""

    profile: Profile
    nodes: list[CandidateT]


def enough_of(profile: Profile) -> int:
    """Return how many pieces must be there for a segment to count as stored.

    Half of the parity, and more than where repair begins: a fresh segment needs none, and as few slow nodes as can be
    are waited for.
    """
    return max(profile.needed + -(-(profile.pieces - profile.needed) // 2), profile.repair + 1)


def spare_of(profile: Profile) -> int:
    """How many nodes more than pieces are named, as far as there are."""
    return max(SPARE_MIN, -(-profile.pieces // SPARE_FRACTION))


def read_spare_of(profile: Profile) -> int:
    """How many pieces more than needed are named for a read: a quarter of the parity, and one."""
    return -(-(profile.pieces - profile.needed) // 4) + 1


def place(
    candidates: Sequence[CandidateT], profile: str, countries: Collection[str], payload: int, uniform: Uniform
) -> Placed[CandidateT]:
    """Draw nodes for a segment of a bucket with this profile ("": the first of `UNASKED` that there are nodes for).

    Raises:
        Unavailable: `storage.too_few_nodes`.
    """
    here = [one for one in candidates if not countries or one.country in countries]
    choice = [_named(profile)] if profile else UNASKED
    drawn: list[CandidateT] = []
    for one in choice:
        needs, wanted = one.nodes_min, one.pieces + spare_of(one)
        size = Layout(payload, one.needed).piece_bytes
        roomy = [node for node in here if node.room_bytes >= size]
        if one is choice[-1] or _may_fit(roomy, needs):
            drawn = draw(roomy, max(needs, wanted), uniform)
            if len(drawn) >= needs:
                return Placed(one, drawn[:wanted])
    where = f" in {', '.join(sorted(countries))}" if countries else ""
    raise Unavailable(
        "storage.too_few_nodes",
        f"{len(drawn)} nodes of distinct owners on distinct networks have room{where}; the profile"
        f" {choice[-1].name} needs {choice[-1].nodes_min}.",
        "Have more machines lend disk, or allow more countries.",
    )


def no_more() -> Unavailable:
    """What is said where a segment was begun, and no further node fits."""
    return Unavailable(
        "storage.too_few_nodes",
        "No further node of another owner on another network has room for this segment.",
        "Do with the pieces that are stored, or have more machines lend disk.",
    )


def _may_fit(nodes: Iterable[Candidate], needs: int) -> bool:
    """Whether there are so many owners, and so many networks."""
    owners: set[bytes] = set()
    networks: set[str] = set()
    for one in nodes:
        owners.add(one.account)
        networks.add(one.network)
        if len(owners) >= needs and len(networks) >= needs:
            return True
    return False


def draw(candidates: Iterable[CandidateT], count: int, uniform: Uniform) -> list[CandidateT]:
    """Draw up to `count` nodes, likelier the more room they have; no two share an owner or a network.

    There are fewer only where no choice has more.
    """
    roomy = [one for one in candidates if one.room_bytes > 0]
    choice = _Choice[CandidateT](count)
    if len(roomy) > count:
        _draw_some(choice, roomy, uniform)
    if len(choice.nodes) < count:
        order = sorted(roomy, key=lambda one: _key(one.room_bytes, uniform), reverse=True)
        for one in order:
            choice.offer(one)
        if len(choice.nodes) < count:
            return _widened(order, choice.nodes, count)
    return choice.nodes


class _Choice(Generic[CandidateT]):
    """Up to `count` nodes, no two of which share an owner or a network."""

    def __init__(self, count: int) -> None:
        self.nodes: list[CandidateT] = []
        self.count = count
        self._owners: set[bytes] = set()
        self._networks: set[str] = set()

    def offer(self, one: CandidateT) -> bool:
        """Take a node if it fits in; whether the choice is complete."""
        free = one.account not in self._owners and one.network not in self._networks
        if free and len(self.nodes) < self.count:
            self._owners.add(one.account)
            self._networks.add(one.network)
            self.nodes.append(one)
        return len(self.nodes) == self.count


def _draw_some(choice: _Choice[CandidateT], roomy: Sequence[CandidateT], uniform: Uniform) -> None:
    """Draw by weight, one after the other, as long as that is likely to meet somebody new: large networks end here."""
    bounds = list(accumulate(one.room_bytes for one in roomy))
    for _ in range(DRAWS_EACH * choice.count):
        if choice.offer(roomy[bisect_right(bounds, uniform() * bounds[-1])]):
            return


def _key(room_bytes: int, uniform: Uniform) -> float:
    """Sorting by these draws without replacement, by weight (Efraimidis and Spirakis, 2006)."""
    return math.log(1.0 - uniform()) / room_bytes


def _widened(order: Sequence[CandidateT], chosen: Sequence[CandidateT], count: int) -> list[CandidateT]:
    """Exchange nodes so that more fit: owners and networks are the two sides of a graph, nodes its edges."""
    edges: dict[bytes, dict[str, CandidateT]] = {}
    for one in order:
        edges.setdefault(one.account, {}).setdefault(one.network, one)
    taken = {one.network: one for one in chosen}
    owners = {one.account for one in chosen}
    hopeless: set[str] = set()
    for owner in edges:
        if len(taken) == count:
            break
        if owner not in owners:
            _augment(edges, taken, owner, hopeless)
    return list(taken.values())


def _augment(
    edges: dict[bytes, dict[str, CandidateT]], taken: dict[str, CandidateT], owner: bytes, hopeless: set[str]
) -> None:
    """Find a way from an owner without a node to a network without one, and exchange along it.

    What was met in vain leads nowhere later on either.
    """
    came: dict[str, bytes] = {}
    waiting = deque([owner])
    while waiting:
        here = waiting.popleft()
        for network in edges[here]:
            if network in came or network in hopeless:
                continue
            came[network] = here
            if network not in taken:
                _exchange(edges, taken, came, network)
                return
            waiting.append(taken[network].account)
    hopeless |= came.keys()


def _exchange(
    edges: dict[bytes, dict[str, CandidateT]], taken: dict[str, CandidateT], came: dict[str, bytes], network: str
) -> None:
    left = {one.account: place for place, one in taken.items()}
    free: str | None = network
    while free is not None:
        owner = came[free]
        before = left.get(owner)
        taken[free] = edges[owner][free]
        free = before


def _named(profile: str) -> Profile:
    if profile not in PROFILES:
        raise InvalidInput("storage.profile", f"There is no profile {profile!r}; there are {', '.join(PROFILES)}.")
    return PROFILES[profile]
