"""Removes blobs that nobody needs any more, in the background.

A blob stays while a job needs it that is open, ended less than `keep_ms` ago, makes canaries, or left evidence
(the market says which), and while it was used within the last day: stored, read, or asked for. So what is uploaded
before its order comes, or written before its record is read, is not touched, and a checkpoint that a later one has
overtaken goes within about a day. Several gateways may do so at once: a blob is removed once, and removing it again
changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from fallow.domain import calls
from fallow.domain.errors import FallowError, NotFound
from fallow.domain.views.processes import BlobsView
from fallow.ports.blobs import Blobs
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.rpc import call
from fallow.ports.tasks import background

DAY_MS: Final = 86_400_000
KEEP_DAYS: Final = 30
FIRST_S: Final = 300.0
EVERY_S: Final = 3600.0
UNUSED_MS: Final = DAY_MS
NAME_DIGITS: Final = 64
NAMES_MAX: Final = 200_000
"""Of what a result names so many are kept: a node may write what it likes."""

_NAME: Final = re.compile(rb"[0-9a-f]{64}")

Name = tuple[str, str]
"""Owner and SHA-256."""


class Collector:
    """Looks every hour; `view` is what it found last."""

    def __init__(self, bus: Bus, blobs: Blobs, clock: Clock, *, keep_ms: int) -> None:
        self.view = BlobsView(keep_days=keep_ms // DAY_MS)
        self._bus = bus
        self._blobs = blobs
        self._clock = clock
        self._keep_ms = keep_ms

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect while the context is open."""
        async with background(steadily("http.collecting", self._run, self._clock)):
            yield

    async def collect(self) -> BlobsView:
        """Look once, and remove what nobody needs.

        Raises:
            FallowError: what is needed cannot be asked; nothing was removed then.
        """
        now = self._clock.now_ms()
        unused_since = now - UNUSED_MS
        stored = [blob async for blob in self._blobs.stored()]
        # First what is there, then what is needed: an order that comes in between is for blobs that were just used.
        needed = (
            await self._needed(now - self._keep_ms) if any(each.used_at < unused_since for each in stored) else set()
        )
        kept = kept_bytes = removed = removed_bytes = 0
        for blob in stored:
            if (blob.owner, blob.sha256) not in needed and await self._blobs.remove(
                blob.owner, blob.sha256, unused_since=unused_since
            ):
                removed, removed_bytes = removed + 1, removed_bytes + blob.size
            else:
                kept, kept_bytes = kept + 1, kept_bytes + blob.size
        self.view = BlobsView(
            keep_days=self.view.keep_days,
            looked_at=now,
            kept=kept,
            kept_bytes=kept_bytes,
            removed=removed,
            removed_bytes=removed_bytes,
        )
        return self.view

    async def _run(self) -> None:
        await self._clock.sleep(FIRST_S)
        while True:
            try:
                await self.collect()
            except FallowError as error:
                self.view = msgspec.structs.replace(self.view, trouble=str(error))
            await self._clock.sleep(EVERY_S)

    async def _needed(self, ended_after: int) -> set[Name]:
        needed: set[Name] = set()
        after = ""
        while True:
            jobs = await call(
                self._bus, calls.jobs.KEPT_JOBS, calls.jobs.KeptJobs(ended_after=ended_after, after=after), list[str]
            )
            for job in jobs:
                await self._needed_by(job, needed)
            if not jobs:
                return needed
            after = jobs[-1]

    async def _needed_by(self, job: str, needed: set[Name]) -> None:
        last: int | None = -1
        while last is not None:
            page = await call(
                self._bus, calls.jobs.JOB_BLOBS, calls.jobs.JobBlobsRef(job=job, after=last), calls.jobs.JobBlobs
            )
            needed |= {(page.owner, blob) for blob in page.blobs}
            for result in page.results:
                if (page.owner, result) not in needed:
                    needed.add((page.owner, result))
                    needed |= {(page.owner, name) for name in await self._named_in(page.owner, result)}
            last = page.last

    async def _named_in(self, owner: str, document: str) -> list[str]:
        """Names in a result's document: whatever looks like one, of whichever vertical it is."""
        names: list[str] = []
        rest = b""
        try:
            async for piece in self._blobs.get(owner, document):
                text = rest + piece
                names += [name.decode() for name in _NAME.findall(text)]
                rest = text[-NAME_DIGITS:]  # a name that is cut in two is whole here, and one that is whole comes again
                if len(names) > NAMES_MAX:
                    return names
        except NotFound:  # the node has not stored it, or it has gone already
            return []
        return names
