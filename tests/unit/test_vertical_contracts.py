"""The contract that a vertical's policy keeps: run by those in the package, by the example, and by broken ones."""

# ruff: noqa: D101, D102

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from bench._devices import DeviceReading, Devices
from fallow.domain.epochs.metering import ACCEPTED, Found, Known, Metering, Use, Verifier
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, LeaseSettled, Moved, UsageReceipt
from fallow.domain.network_facts import LendingUsed
from fallow.domain.resources import Resources
from fallow.domain.verification import Standing
from fallow.ports.vertical.plugin import Vertical
from fallow.testing.verticals import FROM_MS, NETWORK, NODES, OWNERS, Said, VerticalContract
from fallow.verticals.compute.plugin import VERTICAL as COMPUTE
from fallow.verticals.storage.plugin import VERTICAL as STORAGE
from tests.unit.test_air_quality import AIR

MINUTE_MS = 60_000


class TestCompute(VerticalContract):
    vertical = COMPUTE

    def honest(self, chance: random.Random) -> Sequence[Said]:
        said: list[Said] = []
        for _ in range(6):
            said += self._lease(chance.choice(NODES), chance.randbytes(16), chance)
        return said

    @staticmethod
    def _lease(node: bytes, lease: bytes, chance: random.Random) -> list[Said]:
        used_ms = chance.randrange(1, 3_600_000)
        income = used_ms * 36_000 // 3_600_000
        settled = LeaseSettled(
            vertical="compute",
            lease=lease,
            node=node,
            payee=OWNERS[node],
            resources=Resources(cpu_milli=1000, memory_mib=128),
            price_microusd_per_hour=40_000,
            spot=False,
            checks=False,
            window=0,
            charged_ms=used_ms,
            moved=[Moved(credit=2, income=income, fee=income // 100)],
            final=True,
            ok=True,
            caused_by="nobody",
        )
        return [
            Said(node, LeaseAccepted(lease=lease)),
            Said(node, LeaseCheckpoint(lease=lease, window=0, used_ms=used_ms // 2, blob=bytes(32))),
            Said(node, UsageReceipt(lease=lease, window=0, used_ms=used_ms, final=True, ok=True)),
            Said(NETWORK, settled),
        ]


class TestStorage(VerticalContract):
    vertical = STORAGE

    def honest(self, chance: random.Random) -> Sequence[Said]:
        return [self._hour(node, window, chance) for window in range(1, 6) for node in NODES]

    @staticmethod
    def _hour(node: bytes, window: int, chance: random.Random) -> Said:
        used = LendingUsed(
            vertical="storage",
            node=node,
            payee=OWNERS[node],
            window=window,
            until_ms=window * 3_600_000,
            used={"stored_byte_hours": chance.randrange(10**12), "egress_bytes": chance.randrange(1, 10**12)},
            orders=chance.randrange(1, 1000),
            root=chance.randbytes(32),
            begins=[1, 10 * window],
            ends=[1, 10 * window + 10],
        )
        return Said(NETWORK, used)


class TestAirQuality(VerticalContract):
    vertical = AIR.VERTICAL

    def honest(self, chance: random.Random) -> Sequence[Said]:
        at = [FROM_MS + minute * MINUTE_MS for minute in range(10) for _ in NODES]
        return [
            Said(node, AIR.Reading(measured_ms=each, samples=[chance.randrange(90, 400) for _ in range(10)]), each)
            for each, node in zip(at, NODES * 10, strict=True)
        ]


class Plugin:
    """A vertical of which only its policy matters."""

    def __init__(self, metering: Metering) -> None:
        self.name = metering.name
        self.metering: Metering | None = metering


def plugin(metering: Metering) -> Vertical:
    made: Any = Plugin(metering)
    vertical: Vertical = made
    return vertical


class OfDevices(VerticalContract):
    def honest(self, chance: random.Random) -> Sequence[Said]:
        return [
            Said(node, DeviceReading(device=device, measured_ms=FROM_MS + device, watt_hours=chance.randrange(1000)))
            for device in range(10)
            for node in NODES
        ]


class TestDevices(OfDevices):
    vertical = plugin(Devices())


class Broken(Devices):
    """Goes wrong in one way."""

    digest = b"\1" * 32

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        del known
        return Trusting(carried)

    def meter(self, filed: Filed) -> Use:
        return Use(filed.node, units=1)


class Trusting:
    """Believes everybody."""

    def __init__(self, carried: Sequence[Row]) -> None:
        self.rows = list(carried)

    def verify(self, filed: Filed) -> Found:
        filed.record.read(DeviceReading)
        return ACCEPTED

    def carried(self) -> Sequence[Row]:
        return self.rows


class Careless(Broken):
    """Looks into a body without reading it."""

    def meter(self, filed: Filed) -> Use:
        return Use(filed.node, units=filed.record.body["watt_hours"] // filed.record.body["device"])


class Forgetful(Broken):
    """Carries what it makes up."""

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        del known
        return Trusting([*carried, [b"new", len(carried)]])


class Neighbourly(Broken):
    """Says that it judges nodes apart, and counts them all."""

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        del known
        return Counting(carried)


class Counting(Trusting):
    def verify(self, filed: Filed) -> Found:
        self.rows.append([filed.node, len(self.rows)])
        return super().verify(filed) if len(self.rows) % 3 else Found(ACCEPTED.verdict, "third")


class Generous(Broken):
    """Its score is more than all."""

    def score(self, standing: Standing, at: int) -> int:
        return at + standing.missed


class Impersonated(Broken):
    """Pays whom a record names."""

    by_node = False

    def meter(self, filed: Filed) -> Use:
        return Use(NODES[filed.record.read(DeviceReading).device % len(NODES)], units=1)


class Unordered(Broken):
    """Depends on the order of a set."""

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        del known
        return Drawing(carried)


class Drawing(Trusting):
    def verify(self, filed: Filed) -> Found:
        return Found(super().verify(filed).verdict, next(iter({"one", "two", "three", "four", "five", "six"})))


@pytest.mark.parametrize(
    ("policy", "test"),
    [
        (Careless(), VerticalContract.test_nothing_that_can_be_signed_makes_it_fail),
        (Broken(), VerticalContract.test_saying_it_again_earns_nothing_more),
        (Forgetful(), VerticalContract.test_what_is_carried_goes_on),
        (Neighbourly(), VerticalContract.test_other_nodes_change_nothing_where_it_says_so),
        (Generous(), VerticalContract.test_scores_are_millionths),
        (Impersonated(), VerticalContract.test_a_node_speaks_for_itself_only),
        (Unordered(), VerticalContract.test_the_same_records_give_the_same_files),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Devices) else "",
)
def test_a_policy_that_breaks_the_contract_is_found(policy: Metering, test: Callable[[VerticalContract], None]) -> None:
    class Of(OfDevices):
        vertical: ClassVar[Vertical] = plugin(policy)

    with pytest.raises(AssertionError):
        test(Of())
