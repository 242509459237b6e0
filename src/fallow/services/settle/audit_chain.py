"""The chain's side of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fallow.domain.chain_events import TOPICS, read_event
from fallow.domain.chain_facts import ChainClaimed, ChainDeposited, ChainFact, ChainRootSubmitted, ChainRootsWithdrawn
from fallow.domain.chart import Credit, Purpose, account_id, deposit
from fallow.domain.errors import Unavailable
from fallow.domain.reconciling import Item
from fallow.domain.transactions import answer_of, call_data
from fallow.ports.chain import Chain
from fallow.services.settle.audit_books import Books, Said, event_item
from fallow.services.settle.chain_events import BLOCKS_MAX


class ChainMoney(NamedTuple):
    """Where a network's money lies: its contracts by name, the settlement asset, and the block that they began in."""

    chain: Chain
    contracts: Mapping[str, bytes]
    settlement: bytes
    first_block: int


class ChainSide:
    """Reads the events of the contracts into the books."""

    def __init__(self, place: ChainMoney, books: Books) -> None:
        self._place = place
        self._names = {contract: name for name, contract in place.contracts.items()}
        self._books = books
        self._span = BLOCKS_MAX

    async def read(self, due: int, until: int) -> None:
        """Read all blocks below `until`; the ledger must have what lies below `due`.

        Raises:
            Unavailable: the chain does not answer, even for one block.
        """
        chain_id, start = await self._place.chain.chain_id(), self._place.first_block
        while start < until:
            last = min(until, start + self._span) - 1
            try:
                events = await self._place.chain.events(list(self._names), TOPICS, start, last)
            except Unavailable:
                if last == start:
                    raise
                self._span = (last - start + 1) // 2
                continue
            read = (
                read_event(
                    self._names[one.contract], one.topics, one.data,
                    block=one.block, place=one.place, transaction=one.transaction,
                )
                for one in events
            )  # fmt: skip
            for fact in sorted((fact for fact in read if fact is not None), key=lambda fact: fact.position):
                self._take(fact, chain_id, due=fact.block < due)
            start, self._span = last + 1, min(BLOCKS_MAX, self._span * 2)

    def _take(self, fact: ChainFact, chain_id: int, *, due: bool) -> None:
        books = self._books
        books.events.add([event_item(fact, due=due)])
        if isinstance(fact, ChainDeposited):
            amount = int.from_bytes(fact.amount)
            id_ = deposit(chain_id, fact.transaction, fact.place, fact.account, amount).id
            books.deposited.add([Item(id_, amount, account_id(Purpose.WALLET, Credit.PAID, fact.account), due)])
        elif isinstance(fact, ChainClaimed) and due:
            books.claims.add([Item(fact.account + fact.asset, int.from_bytes(fact.cumulative))])
        elif isinstance(fact, ChainRootSubmitted) and due:
            books.submitted[fact.epoch] = Said(fact.root, fact.archive)
        elif isinstance(fact, ChainRootsWithdrawn) and due:
            for epoch in [one for one in books.submitted if fact.from_epoch <= one <= fact.to_epoch]:
                del books.submitted[epoch]

    async def held(self, block: int) -> int:
        """Units of the settlement asset that the distributor has after a block.

        Raises:
            Unavailable: the node does not know that block's state.
        """
        asked = call_data("balanceOf(address)", self._place.contracts["distributor"])
        answer = await self._place.chain.call(self._place.settlement, asked, block)
        held: int = answer_of("(uint256)", answer)[0]
        return held

    def claimed(self) -> int:
        """Units of the settlement asset that were claimed."""
        asset = self._place.settlement
        return sum(item.amount for item in self._books.highest_claims() if item.key.endswith(asset))
