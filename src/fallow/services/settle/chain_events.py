"""What happens on the chain becomes credits and records, each event once.

How far the chain was read is noted in the transaction that takes what was read: deposits into the ledger, burns to
those which wait for a price, and each event into the network's outbox, in the chain's order. So a crash loses no
event and repeats none, and several copies may run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fallow.domain import calls
from fallow.domain.chain_events import TOPICS, read_event
from fallow.domain.chain_facts import ChainBurned, ChainDeposited, ChainFact
from fallow.domain.chart import accounts_of, deposit
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.ledger import BATCH_MAX, Transfer
from fallow.domain.metrics import Family, gauge
from fallow.ports.burn_store import Burn, BurnStore
from fallow.ports.bus import Bus
from fallow.ports.chain import Chain, Event
from fallow.ports.chain_store import ChainStore
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.ledger import Ledger
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background, within

POLL_S = 2.0
HEAD_S = 2.0
"""A chain that takes longer to say how long it is counts as away."""

BLOCKS_MAX = 2_000
"""Of one request; public nodes answer no more."""


_log = logging.getLogger(__name__)


class ChainEvents:
    """Reads what `contracts` (addresses by name) emit from `first_block` on. `depth` blocks deep counts as final.

    On another chain than `chain_id` nothing is read: one where tokens are play money can have the same contracts at
    the same addresses.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        chain_id: int,
        contracts: Mapping[str, bytes],
        first_block: int,
        depth: int,
        bus: Bus,
        clock: Clock,
        database: Database,
        ledger: Ledger,
        store: ChainStore,
        burns: BurnStore,
        decisions: DecisionStore,
    ) -> None:
        self._chain = chain
        self._chain_id = chain_id
        self._names = {contract: name for name, contract in contracts.items()}
        self._first = first_block
        self._span = BLOCKS_MAX
        self._depth = depth
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._store = store
        self._burns = burns
        self._decisions = decisions

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the chain while the context is open."""
        async with background(steadily("settle.chain", partial(self._look_for_ever), self._clock)):
            yield

    async def measure(self) -> Sequence[Family]:
        """See `fallow.ports.measuring.Measure`."""
        up = partial(gauge, "fallow_chain_up", "Whether the network's chain answers.")
        async with self._database.transaction() as tx:
            following = await self._store.next_block(tx, self._chain_id, self._first)
        read = gauge("fallow_chain_blocks_read", "Blocks whose events are records.", following)
        try:
            head = await within(self._clock, HEAD_S, self._chain.head())
        except Unavailable:
            return [up(0), read]
        unread = max(0, head - self._depth + 2 - following)
        return [
            up(1),
            read,
            gauge("fallow_chain_blocks", "The newest block's number.", head),
            gauge("fallow_chain_blocks_unread", "Final blocks that were not read yet.", unread),
        ]

    async def look(self) -> bool:
        """Take the events of some blocks; tells whether there are more.

        Raises:
            Unavailable: the chain or the database is away, or it is another chain; nothing was lost.
            Conflict: the ledger refuses a deposit.
        """
        chain_id = await self._chain.chain_id()
        if chain_id != self._chain_id:
            raise Unavailable("chain.other", f"The chain that answers is {chain_id}, not {self._chain_id}.")
        async with self._database.transaction() as tx:
            start = await self._store.next_block(tx, chain_id, self._first)
        final = await self._chain.head() - self._depth + 1
        last = min(final, start + self._span - 1)
        if last < start:
            return False
        facts = self._read(await self._events(start, last))
        async with self._database.transaction() as tx:
            if not await self._store.advance(tx, chain_id, start, last + 1):
                return True  # another copy has read them
            credited = await self._take(tx, facts, chain_id)
        for owner in credited:
            await self._bus.publish(calls.money.CREDITED, address_text(owner).encode())
        return last < final

    async def _events(self, start: int, last: int) -> list[Event]:
        """Those up to a block. Where the node refuses, the next look asks for half as many.

        For anybody can fill some blocks with more deposits than one answer holds.
        """
        try:
            events = await self._chain.events(list(self._names), TOPICS, start, last)
        except Unavailable:
            self._span = max(1, (last - start + 1) // 2)
            raise
        self._span = min(BLOCKS_MAX, self._span * 2)
        return events

    def _read(self, events: Sequence[Event]) -> list[ChainFact]:
        read = (
            read_event(
                self._names[event.contract],
                event.topics,
                event.data,
                block=event.block,
                place=event.place,
                transaction=event.transaction,
            )
            for event in events
        )
        return sorted((fact for fact in read if fact is not None), key=lambda fact: fact.position)

    async def _take(self, tx: Transaction, facts: Sequence[ChainFact], chain_id: int) -> set[bytes]:
        """Take what was read; returns whose credits have grown."""
        deposits = [fact for fact in facts if isinstance(fact, ChainDeposited)]
        owners = {fact.account for fact in deposits}
        await self._ledger.open_accounts(tx, [each for owner in sorted(owners) for each in accounts_of(owner)])
        await self._post(tx, [_transfer(fact, chain_id) for fact in deposits])
        await self._burns.wait(tx, [_burn(fact, chain_id) for fact in facts if isinstance(fact, ChainBurned)])
        now = self._clock.now_ms()
        await self._decisions.add(tx, [Decision(now, fact) for fact in facts])
        return owners

    async def _post(self, tx: Transaction, transfers: Sequence[Transfer]) -> None:
        for start in range(0, len(transfers), BATCH_MAX):
            results = await self._ledger.post(tx, transfers[start : start + BATCH_MAX], self._clock.now_ms())
            if refused := next((result for result in results if not result.ok), None):
                raise Conflict("deposit.refused", f"The ledger refused a deposit: {refused}.")

    async def _look_for_ever(self) -> None:
        said = ""
        while True:
            try:
                more, said = await self.look(), ""
            except Unavailable as error:
                if str(error) != said:
                    _log.warning("the chain is not read for now: %s", error)
                more, said = False, str(error)
            if not more:
                await self._clock.sleep(POLL_S)


def _transfer(fact: ChainDeposited, chain_id: int) -> Transfer:
    return deposit(chain_id, fact.transaction, fact.place, fact.account, int.from_bytes(fact.amount))


def _burn(fact: ChainBurned, chain_id: int) -> Burn:
    return Burn(chain_id, fact.transaction, fact.place, fact.account, int.from_bytes(fact.amount))
