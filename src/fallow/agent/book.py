"""The resource book: what this node has sold. It is what keeps one core or GPU from being sold twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fallow.domain.resources import Resources


class Book:
    """Offered resources, and the leases that hold parts of them. `left` is what is not held.

    `gpus` names the graphics processors (NVML's UUIDs) of which leases get their own.
    """

    def __init__(self, offered: Resources, gpus: Sequence[str] = ()) -> None:
        self.offered = offered
        self.left = offered
        self._held: dict[str, Resources] = {}
        self._gpus_free = list(gpus)
        self._gpus_held: dict[str, tuple[str, ...]] = {}

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
        if not resources.is_amount or not self.left.holds(resources) or resources.gpus > len(self._gpus_free):
            return False
        self._gpus_held[lease_id] = tuple(self._gpus_free[: resources.gpus])
        del self._gpus_free[: resources.gpus]
        self._held[lease_id] = resources
        self.left = self.left.minus(resources)
        return True

    def gpus_of(self, lease_id: str) -> tuple[str, ...]:
        """Which graphics processors a lease holds, for itself alone."""
        return self._gpus_held.get(lease_id, ())

    def resize(self, offered: Resources) -> None:
        """Offer another amount from now on. What is held stays so; `left` may become negative, which holds nothing."""
        self.left = self.left.plus(offered).minus(self.offered)
        self.offered = offered

    def free(self, lease_id: str) -> None:
        """Give back what a lease holds; nothing happens when it holds nothing."""
        resources = self._held.pop(lease_id, None)
        if resources is not None:
            self.left = self.left.plus(resources)
            self._gpus_free += self._gpus_held.pop(lease_id)
