"""Numbers of storage for `/metrics`: what is lent and kept, and what waits to be repaired or deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from fallow.domain.metrics import Family, gauge, gauges
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row
from fallow.verticals.storage.control.nodes import Nodes

QUEUE_MAX: Final = 10_000
SUM_EVERY_MS: Final = 60_000
"""Each bucket has a few rows that say what is in it."""

STATES: Final = ("online", "offline", "troubled", "suspended", "disqualified", "banned")
_QUEUES: Final = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM storage.repair LIMIT $1) AS few) AS repairs,
    (SELECT min(days) FROM storage.repair) AS days,
    (SELECT count(*) FROM (SELECT 1 FROM storage.short LIMIT $1) AS few) AS short,
    (SELECT count(*) FROM (SELECT 1 FROM storage.garbage LIMIT $1) AS few) AS garbage,
    (SELECT ended_ms FROM storage.scan) AS scanned_ms
"""
_SUMS: Final = "SELECT coalesce(sum(objects), 0) AS objects, coalesce(sum(bytes), 0) AS bytes FROM storage.tally"


class Measuring:
    """Measures what this process and the database know."""

    def __init__(self, clock: Clock, database: Database, nodes: Nodes) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._sums: Row = {}
        self._summed_ms = 0

    async def measure(self) -> Sequence[Family]:
        """See `fallow.ports.measuring.Measure`."""
        async with self._database.transaction() as tx:
            (queues,) = await tx.fetch(_QUEUES, QUEUE_MAX)
            if not self._sums or self._clock.monotonic_ms() - self._summed_ms >= SUM_EVERY_MS:
                (self._sums,) = await tx.fetch(_SUMS)
                self._summed_ms = self._clock.monotonic_ms()
        days, scanned_ms = queues["days"], queues["scanned_ms"]
        return [
            *self._lenders(),
            gauge("fallow_storage_objects", "Versions of objects that are kept.", float(self._sums["objects"])),
            gauge("fallow_storage_object_bytes", "Their bytes, as buyers count.", float(self._sums["bytes"])),
            gauge("fallow_storage_repairs_waiting", "Segments that wait to be repaired.", queues["repairs"]),
            gauge("fallow_storage_short_waiting", "Segments that began short and wait for the rest.", queues["short"]),
            gauge("fallow_storage_garbage_waiting", "Pieces that wait to be deleted.", queues["garbage"]),
            *_where_known("fallow_storage_repair_days", "Days that the most endangered segment has, on average.", days),
            *_where_known(
                "fallow_storage_scan_timestamp_seconds",
                "When all segments had been looked at (since 1970).",
                scanned_ms / 1000 if scanned_ms else None,
            ),
        ]

    def _lenders(self) -> Sequence[Family]:
        online = {one.alias: one for one in self._nodes.online()}
        states = Counter(
            "banned" if one.banned
            else one.standing or (("troubled" if one.trouble else "online") if one.alias in online else "offline")
            for one in self._nodes.all()
        )  # fmt: skip
        lent = sum(one.limit_bytes for one in online.values())
        used = sum(one.used_bytes for one in online.values())
        return [
            gauges("fallow_storage_nodes", "Nodes that lend, by state.", "state", {s: states[s] for s in STATES}),
            gauges("fallow_storage_lent_bytes", "What those online lend, and use.", "of", {"lent": lent, "used": used}),
        ]


def _where_known(name: str, says: str, value: float | None) -> Sequence[Family]:
    return [] if value is None else [gauge(name, says, value)]
