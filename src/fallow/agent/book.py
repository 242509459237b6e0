"""The resource book: what this node has sold. It is what keeps one core from being sold twice."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.resources import Resources


class Book:
    """Offered resources, and the leases that hold parts of them. `left` is what is not held."""

    def __init__(self, offered: Resources) -> None:
        self.offered = offered
        self.left = offered
        self._held: dict[str, Resources] = {}

    @property
    def held(self) -> Mapping[str, Resources]:
        """What each lease holds."""
        return self._held

    def take(self, lease_id: str, resources: Resources) -> bool:
        """Set `resources` aside for a lease; False, and nothing changes, when they do not fit.

        The same lease with the same resources again is True and takes nothing more.
        """
        if lease_id in self._held:
            return self._held[lease_id] == resources
        if min(resources.cpu_milli, resources.memory_mib, resources.disk_mib) < 0 or not self.left.holds(resources):
            return False
        self._held[lease_id] = resources
        self.left = self.left.minus(resources)
        return True

    def resize(self, offered: Resources) -> None:
        """Offer another amount from now on. What is held stays so; `left` may become negative, which holds nothing."""
        self.left = self.left.plus(offered).minus(self.offered)
        self.offered = offered

    def free(self, lease_id: str) -> None:
        """Give back what a lease holds; nothing happens when it holds nothing."""
        resources = self._held.pop(lease_id, None)
        if resources is not None:
            self.left = self.left.plus(resources)
