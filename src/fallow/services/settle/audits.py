"""Audits all the time, and when somebody asks; what they find is an alarm in the log, and shown to the operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from fallow.domain import calls
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.metrics import Family, gauge
from fallow.domain.views.audits import AuditView
from fallow.ports.acting import action_of, note
from fallow.ports.audit_store import AuditStore
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.mishaps import steadily
from fallow.ports.registry_store import ActionLog
from fallow.ports.rpc import serve
from fallow.ports.tasks import background, within
from fallow.services.settle.audit import Audit

QUEUE = "settle"
PAUSE_S = 600.0
SHARE = 50
"""An audit may take one part in so many of the time: what is long is done more rarely."""

NAMED_MAX = 20

_log = logging.getLogger(__name__)


class Audits:
    """Answers `settle.audit` and `settle.audited`. Several copies may run; each audits for itself."""

    def __init__(
        self, *, audit: Audit, bus: Bus, clock: Clock, database: Database, store: AuditStore, log: ActionLog
    ) -> None:
        self._audit = audit
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._log = log
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Audit while the context is open."""
        async with (
            background(steadily("settle.audits", self._for_ever, self._clock)),
            serve(self._bus, calls.money.AUDIT, calls.money.BeginAudit, self.begin, queue=QUEUE),
            serve(self._bus, calls.money.AUDITED, dict[str, str], self.audited, queue=QUEUE),
        ):
            yield

    async def begin(self, request: calls.money.BeginAudit) -> int:
        """Have an audit begin, after the one that runs; it began at this time (milliseconds since 1970) or later."""
        now = self._clock.now_ms()
        if request.by is not None:
            async with self._database.transaction() as tx:
                await note(self._log, tx, action_of(request.by, "ledger.audit", now, once=str(now)))
        self._wanted.set()
        return now

    async def audited(self, _: dict[str, str]) -> list[AuditView]:
        """Show the latest audit that is over, if there is any."""
        async with self._database.transaction() as tx:
            found = await self._store.latest(tx)
        return [] if found is None else [found]

    async def measure(self) -> Sequence[Family]:
        """See `fallow.ports.measuring.Measure`."""
        found = await self.audited({})
        return [
            family
            for one in found
            for family in (
                gauge("fallow_audit_ok", "Whether the latest audit of the ledger found nothing.", one.ok),
                gauge("fallow_audit_differences", "Items in which ledger, archive and chain differ.", one.found),
                gauge("fallow_audit_timestamp_seconds", "When it ended (since 1970).", one.ended_at / 1000),
            )
        ]

    async def once(self) -> AuditView:
        """Audit, keep what was found, and raise the alarm where that is anything."""
        found = await self._audit.run()
        async with self._database.transaction() as tx:
            await self._store.add(tx, found)
        if found.trouble:
            _log.warning("the ledger could not be audited: %s", found.trouble)
        for one in found.differences[:NAMED_MAX]:
            here, there = one.here or "nothing", one.there or "nothing"
            _log.error("ALARM %s: %s: here %s, there %s. %s", one.code, one.subject, here, there, one.detail)
        if found.found:
            _log.error("ALARM: ledger, archive and chain differ in %d items: fallow ledger audit", found.found)
        return found

    async def _for_ever(self) -> None:
        while True:
            self._wanted.clear()
            began = self._clock.monotonic_ms()
            try:
                await self.once()
            except FallowError as error:
                _log.warning("the ledger could not be audited: %s", error)
            took_s = (self._clock.monotonic_ms() - began) / 1000
            with suppress(Unavailable):  # nobody has asked meanwhile
                await within(self._clock, max(PAUSE_S, took_s * (SHARE - 1)), self._wanted.wait())
