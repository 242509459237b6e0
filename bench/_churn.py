"""A network whose nodes leave for ever and are replaced, and what becomes of the segments on it."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from fallow.verticals.storage.core.durability import Churn
from fallow.verticals.storage.core.profiles import Profile

NODES_A_NETWORK = 10
NODES_AN_OWNER = 50


class Troubles(NamedTuple):
    """Rates a day at which a node, an owner with all of his nodes, a network with all that are on it goes for ever."""

    node: float
    owner: float
    network: float

    @property
    def of_a_node(self) -> float:
        """Rate at which one node is lost, by whichever of them."""
        return self.node + self.owner + self.network


class Node(NamedTuple):
    """Who has it, and where it is."""

    owner: int
    network: int


class Churning:
    """Segments on nodes, day by day. `spread`: no two pieces of a segment with one owner or on one network."""

    def __init__(self, profile: Profile, nodes: int, segments: int, *, spread: bool, draw: random.Random) -> None:
        self._profile = profile
        self._spread = spread
        self._draw = draw
        self._nodes = {number: self._new_node(nodes) for number in range(nodes)}
        self._holds: defaultdict[int, set[int]] = defaultdict(set)
        self._where: dict[int, set[int]] = {number: set() for number in range(segments)}
        self._repairs: list[tuple[float, int]] = []
        self._waiting: set[int] = set()
        self.lost = 0
        for segment in self._where:
            self._place(segment)

    def live(self, days: float, troubles: Troubles, delay_days: float) -> None:
        """Let time go by."""
        for now, gone in self._departures(days, troubles):
            while self._repairs and self._repairs[0][0] <= now:
                self._repair(heapq.heappop(self._repairs)[1])
            for number in gone:
                self._lose(number, now + delay_days)

    def _departures(self, days: float, troubles: Troubles) -> Iterator[tuple[float, list[int]]]:
        count = len(self._nodes)
        rates = (
            troubles.node * count,
            troubles.owner * count / NODES_AN_OWNER,
            troubles.network * count / NODES_A_NETWORK,
        )
        now = self._draw.expovariate(sum(rates))
        while now < days:
            (kind,) = self._draw.choices(("node", "owner", "network"), rates)
            if kind == "node":
                yield now, [self._draw.randrange(count)]
            else:
                which = self._draw.randrange(count // (NODES_AN_OWNER if kind == "owner" else NODES_A_NETWORK))
                yield now, [number for number, node in self._nodes.items() if getattr(node, kind) == which]
            now += self._draw.expovariate(sum(rates))

    def _lose(self, number: int, until: float) -> None:
        """A node goes, and another comes in its place, with other owner and network in the same proportions."""
        self._nodes[number] = self._new_node(len(self._nodes))
        for segment in self._holds.pop(number, ()):
            left = self._where[segment]
            left.discard(number)
            if len(left) < self._profile.needed:
                self.lost += 1
                self._waiting.discard(segment)
                self._place(segment)
            elif len(left) <= self._profile.repair and segment not in self._waiting:
                self._waiting.add(segment)
                heapq.heappush(self._repairs, (until, segment))

    def _repair(self, segment: int) -> None:
        if segment in self._waiting:
            self._waiting.discard(segment)
            self._place(segment)

    def _place(self, segment: int) -> None:
        """Fill up to all pieces, on nodes drawn by lot."""
        there = self._where[segment]
        owners = {self._nodes[number].owner for number in there}
        networks = {self._nodes[number].network for number in there}
        while len(there) < self._profile.pieces:
            number = self._draw.randrange(len(self._nodes))
            node = self._nodes[number]
            if number in there or (self._spread and (node.owner in owners or node.network in networks)):
                continue
            there.add(number)
            owners.add(node.owner)
            networks.add(node.network)
            self._holds[number].add(segment)

    def _new_node(self, nodes: int) -> Node:
        return Node(self._draw.randrange(nodes // NODES_AN_OWNER), self._draw.randrange(nodes // NODES_A_NETWORK))


def losses_of_one(profile: Profile, churn: Churn, segments: int, days: float, draw: random.Random) -> int:
    """Count losses of segments whose pieces go independently of each other: each is followed by itself."""
    lost = 0
    wait, rate = draw.expovariate, churn.loss_per_day
    for _ in range(segments):
        now, healthy, repaired_at = 0.0, profile.pieces, float("inf")
        while True:
            then = now + wait(healthy * rate)
            if repaired_at <= min(then, days):
                now, healthy, repaired_at = repaired_at, profile.pieces, float("inf")
                continue
            if then >= days:
                break
            now, healthy = then, healthy - 1
            if healthy < profile.needed:
                lost, healthy, repaired_at = lost + 1, profile.pieces, float("inf")
            elif healthy <= profile.repair and repaired_at == float("inf"):
                repaired_at = now + churn.delay_days
    return lost
