"""The outbox as the agent uses it: what was appended is signed, on the disk, and will reach the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from fallow.agent.outbox_rows import Entry, Refused, Waiting, finals_of
from fallow.agent.outbox_store import OutboxStore
from fallow.domain.batches import BATCH_RECORDS_MAX
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.records import Body
from fallow.ports.clock import Clock

WAITING_MAX = 1000
"""Batches that may wait before new work is declined. Nothing is dropped beyond it."""

RETRY_S = 2.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


class _Job(NamedTuple):
    entries: list[Entry]
    done: asyncio.Future[None]


class Outbox:
    """One writer and any number of callers: what they append while the disk is busy goes into one batch.

    `waiting` counts batches without a promise, `old_waiting` those of earlier boots; `unsettled` are the leases (hex)
    whose last receipt is among them, `spoken_of` all that they were about at the start. `trouble` is the code of the
    last write's failure, and `changed` is set when there is something new to send.
    `run` must be running for `append` to return. `executor` runs one thing at a time; a thread of its own by default.
    """

    def __init__(
        self, store: OutboxStore, clock: Clock, *, waiting_max: int = WAITING_MAX, executor: Executor | None = None
    ) -> None:
        self.boot = store.boot
        self.waiting = store.count()
        self.old_waiting = store.count(before_boot=self.boot)
        self.unsettled = store.leases(finals=True)
        self.spoken_of = frozenset(store.leases(finals=False))
        self.trouble = ""
        self.changed = asyncio.Event()
        self._store = store
        self._clock = clock
        self._waiting_max = waiting_max
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._thread = executor or ThreadPoolExecutor(1, thread_name_prefix="outbox")

    @property
    def full(self) -> bool:
        """Whether so much waits that no new work should begin."""
        return self.waiting >= self._waiting_max

    @property
    def overfull(self) -> bool:
        """Whether even declines should not be written any more."""
        return self.waiting >= 2 * self._waiting_max

    async def append(self, *bodies: Body) -> None:
        """Record the bodies, one after the other; they are durable when this returns.

        Raises:
            Unavailable: the disk is full or fails; nothing is recorded.
            InvalidInput: a body does not fit into a record; nothing is recorded.
        """
        now = self._clock.now_ms()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._jobs.put(_Job([Entry(body, now) for body in bodies], done))
        await done

    async def append_surely(self, *bodies: Body) -> None:
        """Record the bodies, waiting for as long as the disk is full: for what must not be lost."""
        while True:
            try:
                return await self.append(*bodies)
            except Unavailable as error:
                _log.warning("record kept back: %s", error)
                await self._clock.sleep(RETRY_S)

    async def run(self) -> None:
        """Write what is appended, until cancelled."""
        while True:
            jobs = [await self._jobs.get()]
            entries = len(jobs[0].entries)
            while not self._jobs.empty() and entries < BATCH_RECORDS_MAX:
                jobs.append(self._jobs.get_nowait())
                entries += len(jobs[-1].entries)
            await self._write(jobs)

    async def next(self) -> Waiting | None:
        """The batch that must be sent next; None when none waits."""
        self.changed.clear()
        found = await self._in_thread(lambda: self._store.oldest(1))
        return found[0] if found else None

    async def promised(self, waiting: Waiting, promise: bytes, network_key: bytes) -> None:
        """See `OutboxStore.promised`."""
        await self._in_thread(lambda: self._store.promised(waiting, promise, network_key))
        self.waiting -= 1
        self.old_waiting -= waiting.boot < self.boot
        self.unsettled -= waiting.finals
        self.changed.set()

    async def set_aside(self, waiting: Waiting, reason: str) -> None:
        """See `OutboxStore.set_aside`; `boot` is another one afterwards."""
        await self._in_thread(lambda: self._store.set_aside(waiting, reason))
        await self._recount()

    async def renumber(self, waiting: Waiting) -> None:
        """See `OutboxStore.renumber`; `boot` is another one afterwards."""
        await self._in_thread(lambda: self._store.renumber(waiting))
        await self._recount()

    async def refused(self) -> list[Refused]:
        """The batches that the network would not take."""
        return await self._in_thread(self._store.refused)

    def close(self) -> None:
        """Wait for the write under way and close the file."""
        self._thread.shutdown()
        self._store.close()

    async def _recount(self) -> None:
        def count() -> tuple[int, int, int, set[str]]:
            boot = self._store.boot
            return boot, self._store.count(), self._store.count(before_boot=boot), self._store.leases(finals=True)

        self.boot, self.waiting, self.old_waiting, self.unsettled = await self._in_thread(count)
        self.changed.set()

    async def _write(self, jobs: list[_Job]) -> None:
        entries = [entry for job in jobs for entry in job.entries]
        try:
            batches = await self._in_thread(lambda: self._store.append(entries))
        except InvalidInput as error:
            if len(jobs) == 1:
                _finish(jobs, error)
                return
            for job in jobs:  # one of them does not fit: the others must not suffer for it
                await self._write([job])
        except Unavailable as error:
            self.trouble = error.code
            _finish(jobs, error)
        else:
            self.trouble = ""
            self.waiting += batches
            self.unsettled |= finals_of(entry.body for entry in entries)
            self.changed.set()
            _finish(jobs, None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _finish(jobs: list[_Job], error: Exception | None) -> None:
    for job in jobs:
        if job.done.done():  # its caller was cancelled
            continue
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(error)
