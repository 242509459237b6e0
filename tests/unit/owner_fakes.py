# ruff: noqa: D102
"""A machine and its owner, for tests of the policy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec

from fallow.agent.owner import Owner
from fallow.agent.policy import Now, Reading, Unknown
from fallow.agent.traffic import Traffic
from fallow.domain.billing import FeePolicy
from fallow.domain.fees import Fees
from fallow.domain.resources import Resources, Terms
from fallow.ports.clock import Clock
from tests.unit.agent_fakes import Inline

QUIET = Reading(
    others_cpu_percent=1.0,
    idle_s=100_000.0,
    on_battery=False,
    metered=False,
    temperature_c=40.0,
    power_w=50.0,
    programs=(),
    gpu_mib={},
)
BLIND = Unknown("nothing to see with")
MACHINE = Resources(cpu_milli=4000, memory_mib=4096, disk_mib=4096)
AGREED = Resources(cpu_milli=2000, memory_mib=2048, disk_mib=1024)
FEE_PPM = 100_000
TERMS = Terms(price_microusd_per_core_hour=10_000)


def reading(**changes: Any) -> Reading:
    """A quiet machine, but for `changes`."""
    return msgspec.structs.replace(QUIET, **changes)


def at(seconds: float = 0, *, weekday: int = 0, minute: int = 720) -> Now:
    """A moment on a Monday at noon."""
    return Now(round(seconds * 1000), weekday, minute)


class FakeProbes:
    """Reads what `reading` was set to; `error` breaks it."""

    def __init__(self) -> None:
        self.sources: Mapping[str, str] = {"idle_s": "the test"}
        self.reading = QUIET
        self.error: Exception | None = None
        self.asked: list[Collection[str]] = []
        self.closed = False

    def read(self, programs: Collection[str]) -> Reading:
        self.asked.append(programs)
        if self.error is not None:
            raise self.error
        return self.reading

    def refresh(self) -> None:
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


def new_owner(home: Path, probes: FakeProbes, clock: Clock) -> Owner:
    """An owner with the policy in `home`, on UTC."""
    traffic = Traffic(home / "traffic.json", clock)
    return Owner(
        home, probes, clock, traffic,
        machine=MACHINE, agreed=AGREED, terms=TERMS, fees=Fees(FeePolicy(FEE_PPM)), zone=UTC, executor=Inline(),
    )  # fmt: skip
