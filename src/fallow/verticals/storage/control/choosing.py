"""Which nodes a segment's pieces go to: drawn by their room, all of distinct owners on distinct networks. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.profiles import LAB, PROFILES, Profile

Uniform = Callable[[], float]
"""Draws from [0, 1)."""
SPARE_MIN: Final = 2
SPARE_FRACTION: Final = 5
_WIDEST_FIRST: Final = sorted(PROFILES.values(), key=lambda profile: -profile.pieces)


class Candidate(NamedTuple):
    """A node that could take a piece. All whose `network` is not known ("") count as one network: they may be one."""

    alias: int
    account: bytes
    network: str
    country: str
    room_bytes: int


class Placed(NamedTuple):
    """Nodes for a segment: one for each piece, and behind these the spare ones."""

    profile: Profile
    nodes: list[Candidate]


def enough_of(profile: Profile) -> int:
    """Return how many pieces must be there for a segment to count as stored.

    Half of the parity, and more than where repair begins: a fresh segment needs none, and as few slow nodes as can be
    are waited for.
    """
    return max(profile.needed + -(-(profile.pieces - profile.needed) // 2), profile.repair + 1)


def spare_of(profile: Profile) -> int:
    """How many nodes more than pieces are named, as far as there are."""
    return max(SPARE_MIN, -(-profile.pieces // SPARE_FRACTION))


def place(
    candidates: Sequence[Candidate], profile: str, countries: Collection[str], payload: int, uniform: Uniform
) -> Placed:
    """Draw nodes for a segment of a bucket with this profile ("": the widest that there are nodes for).

    A profile needs `nodes_min` nodes of distinct owners and networks; `lab`, which is for networks that small, makes do
    with one for each piece, and then repair finds no further node.

    Raises:
        Unavailable: `storage.too_few_nodes`.
    """
    here = [one for one in candidates if not countries or one.country in countries]
    choice = [_named(profile)] if profile else _WIDEST_FIRST
    drawn: list[Candidate] = []
    for one in choice:
        needs, wanted = _needs(one), one.pieces + spare_of(one)
        roomy = [node for node in here if node.room_bytes >= Layout(payload, one.needed).piece_bytes]
        if one is choice[-1] or _fit_at_most(roomy) >= needs:
            drawn = draw(roomy, max(needs, wanted), uniform)
            if len(drawn) >= needs:
                return Placed(one, drawn[:wanted])
    where = f" in {', '.join(sorted(countries))}" if countries else ""
    raise Unavailable(
        "storage.too_few_nodes",
        f"{len(drawn)} nodes of distinct owners on distinct networks have room{where}; the profile"
        f" {choice[-1].name} needs {_needs(choice[-1])}.",
        "Have more machines lend disk, or allow more countries.",
    )


def no_more() -> Unavailable:
    """What is said where a segment was begun, and no further node fits."""
    return Unavailable(
        "storage.too_few_nodes",
        "No further node of another owner on another network has room for this segment.",
        "Do with the pieces that are stored, or have more machines lend disk.",
    )


def _needs(profile: Profile) -> int:
    return profile.pieces if profile is LAB else profile.nodes_min


def _fit_at_most(nodes: Sequence[Candidate]) -> int:
    return min(len({node.account for node in nodes}), len({node.network for node in nodes}))


def draw(candidates: Iterable[Candidate], count: int, uniform: Uniform) -> list[Candidate]:
    """Draw up to `count` nodes, likelier the more room they have; no two share an owner or a network.

    There are fewer only where no choice has more.
    """
    keyed = [(_key(one.room_bytes, uniform), one) for one in candidates if one.room_bytes > 0]
    order = [one for _, one in sorted(keyed, reverse=True)]
    chosen = _greedy(order, count)
    return chosen if len(chosen) == count else _widened(order, chosen, count)


def _key(room_bytes: int, uniform: Uniform) -> float:
    """Sorting by these draws without replacement, by weight (Efraimidis and Spirakis, 2006)."""
    return math.log(1.0 - uniform()) / room_bytes


def _greedy(order: Iterable[Candidate], count: int) -> list[Candidate]:
    owners: set[bytes] = set()
    networks: set[str] = set()
    chosen: list[Candidate] = []
    for one in order:
        if one.account not in owners and one.network not in networks:
            owners.add(one.account)
            networks.add(one.network)
            chosen.append(one)
            if len(chosen) == count:
                break
    return chosen


def _widened(order: Sequence[Candidate], chosen: Sequence[Candidate], count: int) -> list[Candidate]:
    """Exchange nodes so that more fit: owners and networks are the two sides of a graph, nodes its edges."""
    edges: dict[bytes, dict[str, Candidate]] = {}
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
    edges: dict[bytes, dict[str, Candidate]], taken: dict[str, Candidate], owner: bytes, hopeless: set[str]
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
    edges: dict[bytes, dict[str, Candidate]], taken: dict[str, Candidate], came: dict[str, bytes], network: str
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
