"""A network of air sensors, as a plugin of Fallow: what a node measures, and which of its readings hold.

Sensors write a line each minute, the fine dust (PM2.5) of ten single measurements in tenths of a microgram per cubic
metre: `123,125,122,...`. The agent signs them; the network's closing, every validator and every auditor run the policy
below on what it signed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from fallow.domain.encoding import encode
from fallow.domain.epochs.metering import ACCEPTED, Found, Known, Metering, Use
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.records import Body, Count
from fallow.domain.verification import Standing, Verdict, suspended_until
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.worker import Probe, Say, Worker, WorkerGround

NAME = "air_quality"
MINUTE_MS = 60_000
PM25_MAX = 10_000
"""Tenths of a microgram per cubic metre: what the usual optical sensors can tell (Plantower PMS5003: 1000 µg/m³)."""
RISE_MAX = 3000
"""So much between two readings a minute apart is no weather, but a broken sensor or a faked one."""
LATE_MS = 24 * 60 * MINUTE_MS
SKEW_MS = MINUTE_MS
SAMPLES = 10
LOOK_S = 0.2


class Reading(Body, frozen=True, kw_only=True):
    """A minute's single measurements, and when the sensor made them (milliseconds since 1970)."""

    kind: ClassVar[str] = "air_quality.reading"
    version: ClassVar[int] = 1
    measured_ms: Count
    samples: Annotated[list[Annotated[int, Meta(ge=0, le=PM25_MAX)]], Meta(min_length=SAMPLES, max_length=SAMPLES)]

    @property
    def mean(self) -> int:
        """Tenths of a microgram per cubic metre, rounded down."""
        return sum(self.samples) // len(self.samples)


class AirVerifier:
    """Judges readings in the order of ingest; `last` is each node's last accepted one: time, mean, fingerprint."""

    def __init__(self, carried: Sequence[Row]) -> None:
        self._last: dict[bytes, tuple[int, int, bytes]] = {node: (at, mean, seen) for node, at, mean, seen in carried}
        self._seen = {seen: node for node, (_, _, seen) in self._last.items()}

    def verify(self, filed: Filed) -> Found:
        """See `Verifier`. A body that is malformed raises, and is rejected with that code."""
        reading = filed.record.read(Reading)
        code = self._wrong(filed, reading)
        if code:
            return Found(Verdict.REJECTED, code)
        fingerprint = hashlib.sha256(encode(reading.samples)).digest()
        self._seen[fingerprint] = filed.node
        self._last[filed.node] = (reading.measured_ms, reading.mean, fingerprint)
        return ACCEPTED

    def carried(self) -> Sequence[Row]:
        """See `Verifier`."""
        return [[node, *last] for node, last in sorted(self._last.items())]

    def _wrong(self, filed: Filed, reading: Reading) -> str:
        if not -SKEW_MS <= filed.received_ms - reading.measured_ms <= LATE_MS:
            return "air.not_its_time"  # of the future, or old, by the network's clock: a node's own proves nothing
        if len(set(reading.samples)) == 1:
            return "air.stuck"  # ten equal measurements are a stuck sensor, or somebody's constant
        if hashlib.sha256(encode(reading.samples)).digest() in self._seen:
            return "air.replayed"  # noise does not repeat, neither one's own nor a neighbour's
        if filed.node in self._last:
            at, mean, _ = self._last[filed.node]
            if reading.measured_ms < at + MINUTE_MS // 2:
                return "air.too_soon"  # one sensor, one reading a minute
            if abs(reading.mean - mean) > RISE_MAX * max(1, (reading.measured_ms - at) // MINUTE_MS):
                return "air.implausible"
        return ""


class AirMetering:
    """Version 1: each reading that holds is one unit; a node that is suspended has a score of nothing.

    `digest` is of what it makes of the golden readings in `test_air_quality.py`: no other behaviour has it.
    """

    name = NAME
    version = 1
    digest = bytes.fromhex("413bd615965438c4e1bd54f820cd4885c9e9982ce037e5449c4b0973265883b9")
    kinds = frozenset({Reading.kind})
    by_node = False

    def verifier(self, carried: Sequence[Row], known: Known) -> AirVerifier:
        """See `Metering`."""
        del known
        return AirVerifier(carried)

    def meter(self, filed: Filed) -> Use:
        """See `Metering`."""
        return Use(filed.node, units=1)

    def score(self, standing: Standing, at: int) -> int:
        """See `Metering`."""
        return 0 if suspended_until(standing) > at else 1_000_000


class AirWorker(Worker):
    """Follows what the sensor writes: `FALLOW_AIR_SENSOR` names its file or serial line."""

    def __init__(self, sensor: str) -> None:
        self._sensor = Path(sensor) if sensor else None

    async def probe(self) -> Probe:
        """See the port."""
        if self._sensor and await asyncio.to_thread(self._sensor.exists):
            return Probe({"air_quality.sensor": "pm2.5"}, {})
        return Probe({}, {NAME: "No sensor: FALLOW_AIR_SENSOR names no file."})

    async def report(self, say: Say) -> None:
        """See the port. What was written before this began has no time, and is left out."""
        if self._sensor is None:
            return
        with await asyncio.to_thread(self._sensor.open, encoding="ascii", errors="replace") as lines:
            await asyncio.to_thread(lines.seek, 0, os.SEEK_END)
            line = ""
            while True:
                line += await asyncio.to_thread(lines.readline)
                if not line.endswith("\n"):
                    await asyncio.sleep(LOOK_S)
                    continue
                if (samples := samples_of(line)) is not None:
                    await say(Reading(measured_ms=time.time_ns() // 1_000_000, samples=samples))
                line = ""


def samples_of(line: str) -> list[int] | None:
    """Read a line; None where it is none, as when the sensor was just plugged in."""
    parts = line.strip().split(",")
    return [int(part) for part in parts] if len(parts) == SAMPLES and all(map(str.isdecimal, parts)) else None


class AirQuality(Vertical):
    """The plugin that the entry point names."""

    name = NAME
    metering: Metering | None = AirMetering()

    def worker(self, _ground: WorkerGround) -> AirWorker:
        """See the port."""
        return AirWorker(os.environ.get("FALLOW_AIR_SENSOR", ""))


VERTICAL: Vertical = AirQuality()
