"""Which processes of the network there are, and what each has told of itself a moment ago."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.metrics import TOLD, Family, Told
from fallow.domain.views.market import NodesAtView
from fallow.domain.views.processes import NumberView, ProcessView, RunningView
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background

PROCESSES_MAX: Final = 64
PROCESS_PREFIX: Final = "fallow_process_"
SILENT_MS: Final = 20_000
"""A process that has told nothing for so long is gone."""

NODES: Final = "fallow_nodes"
LATE: Final = "fallow_event_loop_late_seconds"
EVERY_MS: Final = 300_000
KEPT: Final = 288
"""Of nodes by state so many are kept: a day of them."""

_log = logging.getLogger(__name__)


class Process(NamedTuple):
    """A process that tells. Of several with the same name each is another `copy`: 0, 1, ..."""

    name: str
    copy: int
    roles: Sequence[str]
    heard_ms: int
    families: Sequence[Family]


class Processes:
    """Hears what the network's processes tell, and holds the latest of each; `roles` are those that should run."""

    def __init__(self, bus: Bus, clock: Clock, roles: Collection[str]) -> None:
        self._bus = bus
        self._clock = clock
        self._roles = roles
        self._known: dict[str, Process] = {}
        self.nodes: deque[NodesAtView] = deque(maxlen=KEPT)
        """Nodes by state, as they were first told in each `EVERY_MS` since this process started, the latest last."""

    @asynccontextmanager
    async def hearing(self) -> AsyncIterator[None]:
        """Hear them while the context is open."""
        async with (
            self._bus.subscribe(TOLD) as told,
            background(steadily("http.metrics", partial(self._hear_all, told), self._clock)),
        ):
            yield

    def hear(self, told: Told) -> None:
        """Take in what a process tells. A place that a process has left is the next one's of its name."""
        known = {one.copy for one in self.there() if one.name == told.process}
        before = self._known.get(told.id)
        if before is None and len(self._known) >= PROCESSES_MAX:
            return
        copy = before.copy if before else min(set(range(len(known) + 1)) - known)
        self._known[told.id] = Process(told.process, copy, told.roles, self._clock.monotonic_ms(), told.families)
        self._keep_nodes(told)

    def there(self) -> list[Process]:
        """Those that were heard a moment ago."""
        since = self._clock.monotonic_ms() - SILENT_MS
        self._known = {id_: one for id_, one in self._known.items() if one.heard_ms > since}
        return sorted(self._known.values(), key=lambda one: (one.name, one.copy))

    def _keep_nodes(self, told: Told) -> None:
        now = self._clock.now_ms()
        states = {
            one.labels.get("state", ""): int(one.value)
            for each in told.families
            if each.name == NODES
            for one in each.samples
        }
        if states and (not self.nodes or now // EVERY_MS > self.nodes[-1].at // EVERY_MS):
            self.nodes.append(NodesAtView(at=now, states=states))

    def silent_ms(self, process: Process) -> int:
        """How long ago a process was heard."""
        return self._clock.monotonic_ms() - process.heard_ms

    def running(self) -> Mapping[str, int]:
        """How many processes run each role, of those that should run and of all others that do."""
        counts = Counter(role for one in self.there() for role in one.roles)
        return {role: counts[role] for role in sorted({*self._roles, *counts})}

    async def _hear_all(self, told: AsyncIterator[Message]) -> None:
        async for message in told:
            try:
                self.hear(msgspec.msgpack.decode(message.data, type=Told))
            except UNREADABLE as error:
                _log.warning("a process tells of itself what makes no sense here: %s", error)


def running_view(processes: Processes) -> RunningView:
    """Show what is heard, without histograms and without what each operating system tells of a process."""
    there = processes.there()
    return RunningView(
        roles=dict(processes.running()),
        processes=[
            ProcessView(
                name=one.name,
                copy=one.copy,
                roles=list(one.roles),
                silent_ms=processes.silent_ms(one),
                late_ms=_late_ms(one.families),
            )
            for one in there
        ],
        numbers=[
            NumberView(name=each.name, process=f"{one.name}/{one.copy}", labels=each.labels, value=each.value)
            for one in there
            for family in one.families
            if family.kind != "histogram" and not family.name.startswith(PROCESS_PREFIX)
            for each in family.samples
        ],
    )


def _late_ms(families: Sequence[Family]) -> int | None:
    """The bound below which 99 of 100 looks at the event loop were; None where it is above all bounds, or not told."""
    samples = [one for family in families if family.name == LATE for one in family.samples]
    looks = next((one.value for one in samples if one.name == f"{LATE}_count"), 0)
    within = [one.labels["le"] for one in samples if "le" in one.labels and one.value * 100 >= looks * 99]
    return int(float(within[0]) * 1000) if looks and within and within[0] != "+Inf" else None
