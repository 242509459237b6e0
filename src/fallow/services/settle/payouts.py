"""Earnings that a closed epoch's root owes leave the ledger: nobody has them in both places.

Only what the epoch's lines say is moved. What was earned since belongs to a later epoch, and so does what a node claims
late. An id follows from epoch and account, so that copies of this, and one that begins again, move it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fallow.domain.chart import accounts_of, pay_out
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.paying import earned, lines_that_pay
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import FallowError
from fallow.domain.identity import address_text
from fallow.domain.ledger import BATCH_MAX
from fallow.ports.archive import Archive
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.epochs import EpochStore
from fallow.ports.ledger import Ledger
from fallow.ports.mishaps import steadily
from fallow.ports.payout_store import PayoutStore
from fallow.ports.tasks import background

LOOK_S = 2.0

_log = logging.getLogger(__name__)


class Payouts:
    """Takes earnings of closed epochs out of circulation. Several copies may run."""

    def __init__(
        self,
        *,
        network_key: bytes,
        clock: Clock,
        database: Database,
        ledger: Ledger,
        epochs: EpochStore,
        store: PayoutStore,
        archive: Archive,
    ) -> None:
        self._network_key = network_key
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._epochs = epochs
        self._store = store
        self._archive = archive

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for closed epochs while the context is open."""
        async with background(steadily("settle.payouts", self._look_for_ever, self._clock)):
            yield

    async def look(self) -> bool:
        """Do the next closed epoch; tells whether there was one.

        Raises:
            Unavailable: database or archive are away; what was done is found again.
            InvalidInput: the archive's lines are not those of the statement.
        """
        async with self._database.transaction() as tx:
            closed = await self._epochs.after(tx, await self._store.last(tx))
        if closed is None:
            return False
        file = lines_that_pay(Statement.open(closed.statement, self._network_key))
        if file is not None:
            lines = self._archive.read(path_of(closed.epoch, file.name))
            await self._move(closed.epoch, await asyncio.to_thread(earned, file, lines))
        async with self._database.transaction() as tx:
            await self._store.add(tx, closed.epoch)
        return True

    async def _move(self, epoch: int, sums: Mapping[bytes, int]) -> None:
        due = sorted(sums.items())
        for start in range(0, len(due), BATCH_MAX):
            page = due[start : start + BATCH_MAX]
            async with self._database.transaction() as tx:
                await self._ledger.open_accounts(tx, [each for owner, _ in page for each in accounts_of(owner)])
                transfers = [pay_out(epoch, owner, amount) for owner, amount in page]
                results = await self._ledger.post(tx, transfers, self._clock.now_ms())
            for (owner, amount), result in zip(page, results, strict=True):
                if not result.ok:  # the lines owe what the ledger never moved: its audit goes on naming it
                    owed = f"epoch {epoch} owes {address_text(owner)} {amount}"
                    _log.error("%s, which the ledger does not let go: %s", owed, result)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                if await self.look():
                    continue
            except FallowError as error:
                _log.warning("earnings stay in the ledger for now: %s", error)
            await self._clock.sleep(LOOK_S)
