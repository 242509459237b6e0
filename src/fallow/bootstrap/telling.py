"""What a process tells of itself over the bus, so that one gateway can show the whole network (ADR 61)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Metric, ProcessCollector

from fallow.adapters.nats.bus import NatsBus
from fallow.bootstrap.lag import LoopLag, measured_lag
from fallow.domain.calls.processes import LAG_BOUNDS_MS
from fallow.domain.errors import FallowError
from fallow.domain.metrics import (
    TELL_S,
    TOLD,
    Family,
    Sample,
    Told,
    bounded,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
)
from fallow.ports.clock import Clock
from fallow.ports.measuring import Measure, Watch
from fallow.ports.mishaps import MISHAPS, steadily
from fallow.ports.rpc import REFUSED
from fallow.ports.tasks import background, first_error

ANSWER_S: Final = 3.0
"""What takes longer to be measured is left out, and not asked again until it has answered: a process that tells nothing
is taken for dead, and what hangs would hide that it does."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def telling(process: str, roles: Collection[str], bus: NatsBus, clock: Clock) -> AsyncIterator[Watch]:
    """Tell every few seconds, beginning at once, what this process is like; yields what has a measure told, too."""
    with first_error():
        async with measured_lag(process, bus, clock) as lag, asyncio.TaskGroup() as group:
            teller = Teller(bus, lag, group)
            me = Told(process=process, roles=sorted(roles), id=secrets.token_hex(8), families=[])

            async def tell_for_ever() -> None:
                while True:
                    await teller.tell(me)
                    await clock.sleep(TELL_S)

            async with background(steadily("metrics.telling", tell_for_ever, clock)):
                yield teller.measures.append
            teller.end()


class Teller:
    """Gathers what there is to tell, and tells it; `measures` are asked each time, by tasks of `group`."""

    def __init__(self, bus: NatsBus, lag: LoopLag, group: asyncio.TaskGroup) -> None:
        self.measures: list[Measure] = []
        self._bus = bus
        self._lag = lag
        self._group = group
        self._asked: dict[Measure, asyncio.Task[Sequence[Family] | Exception]] = {}
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="fallow", registry=self._registry)

    def end(self) -> None:
        """Wait for no answer any more."""
        for asked in self._asked.values():
            asked.cancel()

    async def tell(self, me: Told) -> None:
        """Tell it once. Without the bus nobody hears it, and the next time is soon."""
        found, missing = await self._gather()
        kept = list(bounded(found))
        missing += len(found) - len(kept)
        says = "Parts of the process that could not be measured now, or that were too many numbers."
        told = msgspec.structs.replace(me, families=[gauge("fallow_unmeasured_parts", says, missing), *kept])
        try:
            await self._bus.publish(TOLD, msgspec.msgpack.encode(told))
        except FallowError as error:
            _log.info("nothing is told of this process for now: %s", error)

    async def _gather(self) -> tuple[list[Family], int]:
        """What can be measured now, and how many parts cannot."""
        for measure in self.measures:
            if measure not in self._asked:
                self._asked[measure] = self._group.create_task(_answer_of(measure))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=ANSWER_S)
        found = [*self._own(), *from_registry(self._registry)]
        missing = 0
        for measure, asked in list(self._asked.items()):
            if not asked.done():
                missing += 1
                _log.info("something takes too long to be measured")
                continue
            del self._asked[measure]
            answer = asked.result()
            if isinstance(answer, FallowError):
                missing += 1
                _log.info("something is not measured for now: %s", answer)
            elif isinstance(answer, Exception):
                raise answer
            else:
                found += answer
        return found, missing

    def _own(self) -> list[Family]:
        bus = self._bus
        lost = {"dropped": bus.dropped, "reply_lost": bus.replies_lost, "reply_refused": bus.replies_refused}
        failed = Counter[str]()
        for place, count in MISHAPS.counts().items():
            failed[place.replace(" ", ".").split(".")[0]] += count  # the rest may name a node, or a lease
        return [
            gauges("fallow_build_info", "The version that runs; always 1.", "version", {version("fallow"): 1}),
            histogram(
                "fallow_event_loop_late_seconds",
                "How late the process's loop came round, looked at every 10 ms.",
                [bound / 1000 for bound in LAG_BOUNDS_MS],
                self._lag.counts,
            ),
            counters("fallow_mishaps", "What failed that no rule foresees: each is a bug.", "part", failed),
            counters("fallow_bus_lost", "Messages that came to nothing, by why.", "why", lost),
            counter("fallow_bus_violations", "Subjects that this process used and may not.", bus.violations),
            _refused(),
        ]


async def _answer_of(measure: Measure) -> Sequence[Family] | Exception:
    try:
        return await measure()
    except Exception as error:  # noqa: BLE001 - raised by whoever looks at it
        return error


def _refused() -> Family:
    name = "fallow_requests_refused"
    says = "Requests over the bus that were answered with an error; ingest is the door for records."
    samples = [
        Sample(f"{name}_total", {"service": service, "code": code}, count)
        for service, counts in REFUSED.counts().items()
        for code, count in counts.items()
    ]
    return Family(name, "counter", says, samples)


def from_registry(registry: CollectorRegistry) -> list[Family]:
    """Return what Prometheus' own client has counted."""
    return [_family(metric) for metric in registry.collect()]


def _family(metric: Metric) -> Family:
    samples = [Sample(each.name, dict(each.labels), each.value) for each in metric.samples]
    kept = [each for each in samples if not each.name.endswith("_created")]
    return msgspec.convert((metric.name, metric.type, metric.documentation, kept), Family)
