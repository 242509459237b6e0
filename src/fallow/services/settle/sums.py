"""The whole ledger added up: once for all who ask at a time, and for a part of the time at most."""

from __future__ import annotations

import asyncio
from typing import Final

from fallow.domain.chart import Credit
from fallow.domain.errors import FallowError
from fallow.domain.views.audits import LedgerCheckView
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.ledger import Ledger

SHARE: Final = 10
"""One part in so many of the time: whoever asks sooner gets the answer that there is, with the moment that it is of."""


class Sums:
    """Adds the ledger up for whoever asks."""

    def __init__(self, clock: Clock, database: Database, ledger: Ledger) -> None:
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._one_at_a_time = asyncio.Lock()
        self._latest: LedgerCheckView | FallowError | None = None
        self._again_ms = 0

    async def check(self, _: dict[str, str]) -> LedgerCheckView:
        """Recompute the whole ledger from its transfers and compare.

        Raises:
            Unavailable: the database is away, or took too long.
        """
        async with self._one_at_a_time:
            if self._latest is None or self._clock.monotonic_ms() >= self._again_ms:
                began_ms = self._clock.monotonic_ms()
                try:
                    self._latest = await self._add_up()
                except FallowError as error:
                    self._latest = error
                now_ms = self._clock.monotonic_ms()
                self._again_ms = now_ms + (SHARE - 1) * (now_ms - began_ms)
            if isinstance(self._latest, FallowError):
                raise self._latest
            return self._latest

    async def _add_up(self) -> LedgerCheckView:
        at = self._clock.now_ms()
        async with self._database.transaction() as tx:
            found = await self._ledger.check(tx)
        return LedgerCheckView(
            ok=found.ok,
            at=at,
            sums={
                Credit(number).name.lower(): total.debits_posted - total.credits_posted
                for number, total in sorted(found.totals.items())
            },
            transfers=found.movements,
            problems=[f"{fault.code}: {fault.detail} ({fault.subject.hex()})" for fault in found.faults],
        )
