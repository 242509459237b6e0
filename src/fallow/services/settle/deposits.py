"""Deposits on the chain become paid credits, each once: a transfer's id follows from the event that it stands for.

Nothing else is kept: a start looks at all blocks since the contracts were made, and the ledger knows what it has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fallow.domain import calls
from fallow.domain.chart import accounts_of, deposit
from fallow.domain.errors import Conflict, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.ledger import BATCH_MAX
from fallow.domain.transactions import answer_of, topic
from fallow.ports.bus import Bus
from fallow.ports.chain import Chain, Event
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.ledger import Ledger
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background

DEPOSITED = topic("Deposited(address,address,uint256)")
POLL_S = 2.0
BLOCKS_MAX = 2_000
"""Of one request; public nodes answer no more."""


class Deposits:
    """Several copies may run: the ledger takes each deposit once. `depth` blocks deep counts as final."""

    def __init__(
        self,
        *,
        chain: Chain,
        distributor: bytes,
        first_block: int,
        depth: int,
        bus: Bus,
        clock: Clock,
        database: Database,
        ledger: Ledger,
    ) -> None:
        self._chain = chain
        self._distributor = distributor
        self._next = first_block
        self._span = BLOCKS_MAX
        self._depth = depth
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for deposits while the context is open."""
        async with background(steadily("settle.deposits", partial(self._look_for_ever), self._clock)):
            yield

    async def look(self) -> bool:
        """Take the deposits of some blocks; tells whether there are more.

        Raises:
            Unavailable: the chain or the database is away; nothing was lost.
            Conflict: the ledger refuses a deposit.
        """
        final = await self._chain.head() - self._depth + 1
        last = min(final, self._next + self._span - 1)
        if last < self._next:
            return False
        events = await self._events(last)
        for start in range(0, len(events), BATCH_MAX):
            await self._post(events[start : start + BATCH_MAX], await self._chain.chain_id())
        self._next = last + 1
        return last < final

    async def _events(self, last: int) -> list[Event]:
        """Those up to a block. Where the node refuses, the next look asks for half as many.

        For anybody can fill some blocks with more deposits than one answer holds.
        """
        try:
            events = await self._chain.events(self._distributor, DEPOSITED, self._next, last)
        except Unavailable:
            self._span = max(1, (last - self._next + 1) // 2)
            raise
        self._span = min(BLOCKS_MAX, self._span * 2)
        return events

    async def _look_for_ever(self) -> None:
        while True:
            try:
                more = await self.look()
            except Unavailable:
                more = False
            if not more:
                await self._clock.sleep(POLL_S)

    async def _post(self, events: list[Event], chain_id: int) -> None:
        owners = [event.topics[2][-20:] for event in events]
        transfers = [
            deposit(chain_id, event.transaction, event.place, owner, answer_of("(uint256)", event.data)[0])
            for event, owner in zip(events, owners, strict=True)
        ]
        async with self._database.transaction() as tx:
            await self._ledger.open_accounts(tx, [each for owner in set(owners) for each in accounts_of(owner)])
            results = await self._ledger.post(tx, transfers, self._clock.now_ms())
            if refused := next((result for result in results if not result.ok), None):
                raise Conflict("deposit.refused", f"The ledger refused a deposit: {refused}.")
        for owner in set(owners):
            await self._bus.publish(calls.CREDITED, address_text(owner).encode())
