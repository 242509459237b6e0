"""A network of metering devices, as a plugin would bring it: gateways that sign a reading a day for each device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from fallow.domain.epochs.metering import ACCEPTED, Found, Known, Use, Verifier
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.records import Body, Count
from fallow.domain.verification import Standing, Verdict, suspended_until

DAY_MS = 86_400_000
DEVICES_MAX = 4096
WATT_HOURS_MAX = 1_000_000


class DeviceReading(Body, frozen=True, kw_only=True):
    """What one of a gateway's devices has measured in a day."""

    kind: ClassVar[str] = "devices.reading"
    version: ClassVar[int] = 1
    device: Annotated[int, Meta(ge=0, lt=DEVICES_MAX)]
    measured_ms: Count
    watt_hours: Annotated[int, Meta(ge=0, le=WATT_HOURS_MAX)]


class DeviceVerifier:
    """Each device once a day, on this very day, and after what its gateway said the day before."""

    def __init__(self, carried: Sequence[Row], known: Known) -> None:
        self._before: dict[bytes, int] = {node: latest for node, latest in carried}  # noqa: C416 - rows are lists
        self._latest = dict(self._before)
        self._seen: dict[bytes, int] = {}
        """A bit a device, by node."""
        self._day = known.epoch

    def verify(self, filed: Filed) -> Found:
        """See `Verifier`."""
        reading, node = filed.record.read(DeviceReading), filed.node
        if reading.measured_ms // DAY_MS != self._day or reading.measured_ms <= self._before.get(node, -1):
            return Found(Verdict.REJECTED, "devices.not_its_day")
        bit, seen = 1 << reading.device, self._seen.get(node, 0)
        if seen & bit:
            return Found(Verdict.REJECTED, "devices.again")
        self._seen[node] = seen | bit
        self._latest[node] = max(self._latest.get(node, 0), reading.measured_ms)
        return ACCEPTED

    def carried(self) -> Sequence[Row]:
        """See `Verifier`."""
        return [[node, latest] for node, latest in self._latest.items()]


class Devices:
    """See `Metering`: a unit for each reading that holds."""

    name = "devices"
    version = 1
    digest = bytes(32)
    kinds = frozenset({DeviceReading.kind})
    by_node = True

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        """See `Metering`."""
        return DeviceVerifier(carried, known)

    def meter(self, filed: Filed) -> Use:
        """See `Metering`."""
        return Use(filed.node, units=1)

    def score(self, standing: Standing, at: int) -> int:
        """See `Metering`."""
        return 0 if suspended_until(standing) > at else 1_000_000
