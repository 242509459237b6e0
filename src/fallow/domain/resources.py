"""What machines have and what work needs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

GIB_MIB = 1024
CPU_MILLI_MAX = 10_000_000
MIB_MAX = 1 << 30
GPUS_MAX = 1024
PRICE_MICROUSD_MAX = 10**12

Mib = Annotated[int, Meta(ge=0, le=MIB_MAX)]
Gpus = Annotated[int, Meta(ge=0, le=GPUS_MAX)]
Price = Annotated[int, Meta(ge=0, le=PRICE_MICROUSD_MAX)]


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An amount of a machine: thousandths of a core, MiB of memory and of disk, and whole graphics processors.

    What comes in from outside is never negative; a difference can be.
    """

    cpu_milli: Annotated[int, Meta(ge=0, le=CPU_MILLI_MAX)]
    memory_mib: Mib
    disk_mib: Mib = 0
    gpus: Gpus = 0

    @property
    def is_amount(self) -> bool:
        """Whether no part of it is negative."""
        return min(self.cpu_milli, self.memory_mib, self.disk_mib, self.gpus) >= 0

    def holds(self, other: Resources) -> bool:
        """Whether `other` fits into this amount."""
        return (
            other.cpu_milli <= self.cpu_milli
            and other.memory_mib <= self.memory_mib
            and other.disk_mib <= self.disk_mib
            and other.gpus <= self.gpus
        )

    def plus(self, other: Resources) -> Resources:
        """Return the sum."""
        return Resources(
            cpu_milli=self.cpu_milli + other.cpu_milli,
            memory_mib=self.memory_mib + other.memory_mib,
            disk_mib=self.disk_mib + other.disk_mib,
            gpus=self.gpus + other.gpus,
        )

    def minus(self, other: Resources) -> Resources:
        """Return what remains; parts may become negative, which `holds` then never satisfies."""
        return Resources(
            cpu_milli=self.cpu_milli - other.cpu_milli,
            memory_mib=self.memory_mib - other.memory_mib,
            disk_mib=self.disk_mib - other.disk_mib,
            gpus=self.gpus - other.gpus,
        )

    def or_nothing(self) -> Resources:
        """Return this amount with zero for what is negative."""
        return Resources(
            cpu_milli=max(0, self.cpu_milli),
            memory_mib=max(0, self.memory_mib),
            disk_mib=max(0, self.disk_mib),
            gpus=max(0, self.gpus),
        )


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an offer asks, in micro-US-dollars an hour: per core, per GiB of memory, and per graphics processor."""

    price_microusd_per_core_hour: Price
    price_microusd_per_gib_hour: Price = 0
    price_microusd_per_gpu_hour: Price = 0

    def price_microusd_per_hour(self, resources: Resources) -> int:
        """Price of `resources` for an hour, rounded up, so that nothing that is asked for is free by rounding."""
        millionths = (
            resources.cpu_milli * self.price_microusd_per_core_hour * GIB_MIB
            + resources.memory_mib * self.price_microusd_per_gib_hour * 1000
            + resources.gpus * self.price_microusd_per_gpu_hour * 1000 * GIB_MIB
        )
        return -(-millionths // (1000 * GIB_MIB))
