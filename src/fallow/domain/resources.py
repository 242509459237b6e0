"""What machines have and what work needs."""

from __future__ import annotations

import msgspec

GIB_MIB = 1024
CPU_MILLI_MAX = 10_000_000
MIB_MAX = 1 << 30


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount of a machine: thousandths of a core, and MiB of memory and of disk."""

    cpu_milli: int
    memory_mib: int
    disk_mib: int = 0

    def holds(self, other: Resources) -> bool:
        """Whether `other` fits into this amount."""
        return (
            other.cpu_milli <= self.cpu_milli
            and other.memory_mib <= self.memory_mib
            and other.disk_mib <= self.disk_mib
        )

    def plus(self, other: Resources) -> Resources:
        """Return the sum."""
        return Resources(
            cpu_milli=self.cpu_milli + other.cpu_milli,
            memory_mib=self.memory_mib + other.memory_mib,
            disk_mib=self.disk_mib + other.disk_mib,
        )

    def minus(self, other: Resources) -> Resources:
        """Return what remains; parts may become negative, which `holds` then never satisfies."""
        return Resources(
            cpu_milli=self.cpu_milli - other.cpu_milli,
            memory_mib=self.memory_mib - other.memory_mib,
            disk_mib=self.disk_mib - other.disk_mib,
        )


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an offer asks, in micro-US-dollars: per core and hour, and per GiB of memory and hour."""

    price_microusd_per_core_hour: int
    price_microusd_per_gib_hour: int = 0

    def price_microusd_per_hour(self, resources: Resources) -> int:
        """Price of `resources` for an hour, rounded up, so that nothing that is asked for is free by rounding."""
        millionths = (
            resources.cpu_milli * self.price_microusd_per_core_hour * GIB_MIB
            + resources.memory_mib * self.price_microusd_per_gib_hour * 1000
        )
        return -(-millionths // (1000 * GIB_MIB))
