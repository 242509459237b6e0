"""Deposits become credits once: whoever looks again, from the start or beside another; and only if they lie deep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.chart import Credit, Purpose, account_id, network_accounts
from fallow.domain.errors import Unavailable
from fallow.ports.chain import Event, Fees, Seen
from fallow.services.settle.deposits import BLOCKS_MAX, DEPOSITED, Deposits
from tests.unit.agent_fakes import FakeClock

DISTRIBUTOR, DEPTH, FIRST = b"\xd1" * 20, 3, 5
OWNERS = [bytes([number]) * 20 for number in (1, 2)]


class EventChain:
    """The chain port as far as events go."""

    def __init__(self) -> None:
        self.newest = 0
        self.deposited: list[Event] = []
        self.away = False
        self.answers_max = 10_000

    def deposit(self, block: int, owner: bytes, amount: int) -> None:
        """Let somebody deposit in a block."""
        place = len(self.deposited)
        topics = (DEPOSITED, bytes(32), bytes(12) + owner)
        self.deposited.append(Event(DISTRIBUTOR, topics, amount.to_bytes(32), block, block.to_bytes(32), place))

    async def chain_id(self) -> int:
        """See the port."""
        return 7

    async def head(self) -> int:
        """See the port."""
        if self.away:
            raise Unavailable("chain.silent", "")
        return self.newest

    async def events(self, contract: bytes, topic: bytes, first: int, last: int) -> list[Event]:
        """See the port."""
        assert (contract, topic) == (DISTRIBUTOR, DEPOSITED)
        assert last - first < BLOCKS_MAX
        found = [event for event in self.deposited if first <= event.block <= last]
        if len(found) > self.answers_max:
            raise Unavailable("chain.busy", "query returned more than 10000 results")
        return found

    async def look(self, account: bytes, hashes: Sequence[bytes], depth: int) -> Seen:
        """See the port."""
        raise NotImplementedError

    async def fees(self) -> Fees:
        """See the port."""
        raise NotImplementedError

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """See the port."""
        raise NotImplementedError

    async def call(self, to: bytes, data: bytes) -> bytes:
        """See the port."""
        raise NotImplementedError

    async def submit(self, raw: bytes) -> None:
        """See the port."""
        raise NotImplementedError


class World:
    """A chain, a ledger, and who looks."""

    def __init__(self) -> None:
        self.chain, self.database, self.ledger = EventChain(), MemoryDatabase(), MemoryLedger()

    async def looker(self) -> Deposits:
        """One that just started."""
        clock = FakeClock()
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, network_accounts())
        return Deposits(
            chain=self.chain,
            distributor=DISTRIBUTOR,
            first_block=FIRST,
            depth=DEPTH,
            bus=MemoryBus(MemoryHub()),
            clock=clock,
            database=self.database,
            ledger=self.ledger,
        )

    async def paid(self) -> list[int]:
        """Paid credits of the owners, who may have no account yet."""
        ids = [account_id(Purpose.WALLET, Credit.PAID, owner) for owner in OWNERS]
        async with self.database.transaction() as tx:
            found = await self.ledger.balances(tx, ids)
        return [found[each].credits_posted if each in found else 0 for each in ids]


async def test_each_deposit_counts_once_however_often_it_is_looked_at() -> None:
    world = World()
    world.chain.deposit(6, OWNERS[0], 10)
    world.chain.deposit(6, OWNERS[0], 10)
    world.chain.deposit(7, OWNERS[1], 5)
    world.chain.newest = 9
    first, second = await world.looker(), await world.looker()
    assert not await first.look()
    assert not await second.look()
    assert not await (await world.looker()).look()
    assert await world.paid() == [20, 5]
    world.chain.deposit(10, OWNERS[1], 1)
    world.chain.newest = 12
    await second.look()
    await first.look()
    assert await world.paid() == [20, 6]


async def test_what_does_not_lie_deep_enough_waits() -> None:
    world = World()
    looker = await world.looker()
    world.chain.deposit(FIRST, OWNERS[0], 10)
    for world.chain.newest in range(FIRST + DEPTH - 1):
        await looker.look()
    assert await world.paid() == [0, 0]
    world.chain.newest = FIRST + DEPTH - 1
    await looker.look()
    assert await world.paid() == [10, 0]


async def test_a_long_chain_is_looked_at_in_pieces() -> None:
    world = World()
    looker = await world.looker()
    for at in range(4):
        world.chain.deposit(FIRST + at * BLOCKS_MAX, OWNERS[0], 1)
    world.chain.newest = FIRST + 3 * BLOCKS_MAX + DEPTH
    looks = 1
    while await looker.look():
        looks += 1
    assert (looks, await world.paid()) == (4, [4, 0])


async def test_a_chain_that_was_away_is_caught_up_with() -> None:
    world = World()
    looker = await world.looker()
    world.chain.deposit(FIRST, OWNERS[0], 10)
    world.chain.newest, world.chain.away = 20, True
    with pytest.raises(Unavailable):
        await looker.look()
    world.chain.away = False
    await looker.look()
    assert await world.paid() == [10, 0]


async def test_somebody_who_deposits_very_often_keeps_nobody_out() -> None:
    """A node answers so many events and no more; a cent is ten thousand deposits of one unit."""
    world = World()
    looker = await world.looker()
    world.chain.answers_max = 2
    for block in range(FIRST, FIRST + 20):
        world.chain.deposit(block, OWNERS[0], 1)
        world.chain.deposit(block, OWNERS[0], 1)
    world.chain.deposit(FIRST + 20, OWNERS[1], 7)
    world.chain.newest = FIRST + 20 + DEPTH
    for _ in range(100):
        with suppress(Unavailable):
            await looker.look()
    assert await world.paid() == [40, 7]
