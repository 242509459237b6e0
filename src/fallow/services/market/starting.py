"""The starting credit for checks: what each node was paid from it, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fallow.domain.checks import Starting, StartKey


class StartingCredit:
    """Counts what was spent, with what is held for checks that run, by node and day."""

    def __init__(self, limits: Starting, spent: Mapping[StartKey, int]) -> None:
        self.limits = limits
        self.spent: dict[StartKey, int] = {}
        self._by_node: Counter[bytes] = Counter()
        self._by_day: Counter[int] = Counter()
        self._total = 0
        for key, amount in spent.items():
            self.add(key, amount)

    def left(self, key: StartKey) -> int:
        """What a node can still get of it on a day, micro-US-dollars."""
        node, day = key
        limits = self.limits
        return min(limits.a_node - self._by_node[node], limits.a_day - self._by_day[day], limits.total - self._total)

    def add(self, key: StartKey, amount: int) -> None:
        """Count an amount as spent; a negative one was given back."""
        node, day = key
        self.spent[key] = self.spent.get(key, 0) + amount
        self._by_node[node] += amount
        self._by_day[day] += amount
        self._total += amount
