"""What happens on the chain becomes credits and records once, and only if it lies deep.

Whoever looks again, from the start or beside another, takes nothing twice; a look that dies loses nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files

import pytest

from fallow.adapters.memory.burn_store import MemoryBurnStore
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.chain_store import MemoryChainStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.chain_events import TOPICS
from fallow.domain.chain_facts import CHAIN_FACTS, ChainDeposited, ChainFact, ChainSlashed, ChainStaked, ChainUnbonded
from fallow.domain.chart import Credit, Purpose, account_id, network_accounts
from fallow.domain.errors import Unavailable
from fallow.domain.ledger import Result, Transfer
from fallow.domain.transactions import topic
from fallow.ports.chain import Event, Fees, Seen
from fallow.ports.database import Transaction
from fallow.services.settle.chain_events import BLOCKS_MAX, HEAD_S, POLL_S, ChainEvents
from tests.unit.agent_fakes import FakeClock

DISTRIBUTOR, TOKEN, VAULT = (bytes([0xD1 + at]) * 20 for at in range(3))
CONTRACTS = {"distributor": DISTRIBUTOR, "token": TOKEN, "vault": VAULT}
DEPTH, FIRST, CHAIN_ID = 3, 5, 7
OWNERS = [bytes([number]) * 20 for number in (1, 2)]
RENAMED = {"from": "sender", "id": "slash"}
"""Arguments of events whose fields have another name; units stand at the end of a field's name."""


class EventChain:
    """The chain port as far as events go."""

    def __init__(self) -> None:
        self.newest, self.number = 0, CHAIN_ID
        self.happened: list[Event] = []
        self.away = False
        self.hangs = False
        self.answers_max = 10_000

    def deposit(self, block: int, owner: bytes, amount: int) -> None:
        """Let somebody deposit in a block."""
        self.emit(ChainDeposited, block, [bytes(32), bytes(12) + owner], [amount])

    def emit(self, fact: type[ChainFact], block: int, indexed: Sequence[bytes], data: Sequence[int]) -> None:
        """Let a contract emit an event."""
        topics, place = (topic(fact.event), *indexed), len(self.happened)
        words = b"".join(word.to_bytes(32) for word in data)
        self.happened.append(Event(CONTRACTS[fact.contract], topics, words, block, block.to_bytes(32), place))

    async def chain_id(self) -> int:
        """See the port."""
        return self.number

    async def head(self) -> int:
        """See the port."""
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.away:
            raise Unavailable("chain.silent", "")
        return self.newest

    async def events(self, contracts: Sequence[bytes], topics: Sequence[bytes], first: int, last: int) -> list[Event]:
        """See the port."""
        assert (set(contracts), topics) == (set(CONTRACTS.values()), TOPICS)
        assert last - first < BLOCKS_MAX
        found = [event for event in self.happened if first <= event.block <= last]
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

    async def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        """See the port."""
        raise NotImplementedError

    async def submit(self, raw: bytes) -> None:
        """See the port."""
        raise NotImplementedError


class World:
    """A chain, a ledger, and who looks."""

    def __init__(self) -> None:
        self.chain, self.database, self.ledger = EventChain(), MemoryDatabase(), MemoryLedger()
        self.store, self.decisions = MemoryChainStore(), MemoryDecisionStore()
        self.burns, self.clock = MemoryBurnStore(), FakeClock()

    async def looker(self) -> ChainEvents:
        """One that just started."""
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, network_accounts())
        return ChainEvents(
            chain=self.chain,
            chain_id=CHAIN_ID,
            contracts=CONTRACTS,
            first_block=FIRST,
            depth=DEPTH,
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.store,
            burns=self.burns,
            decisions=self.decisions,
        )

    def recorded(self) -> list[ChainFact]:
        """What waits to be sealed, in its order."""
        bodies = [decision.body for _, decision in sorted(self.decisions.waiting.items())]
        return [body for body in bodies if isinstance(body, ChainFact)]

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
    assert [fact.position for fact in world.recorded()] == [(6, 0), (6, 1), (7, 2)]
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


async def test_how_far_it_is_behind_is_told_and_that_the_chain_is_away() -> None:
    world = World()
    looker = await world.looker()

    async def told() -> dict[str, float]:
        return {family.name: family.samples[0].value for family in await looker.measure()}

    world.chain.newest = FIRST + DEPTH + 6
    before = await told()
    assert (before["fallow_chain_up"], before["fallow_chain_blocks_unread"]) == (1, 8)
    await looker.look()
    assert (await told())["fallow_chain_blocks_unread"] == 0
    world.chain.away = True
    after = await told()
    assert (after["fallow_chain_up"], "fallow_chain_blocks_unread" in after) == (0, False)
    world.chain.away, world.chain.hangs = False, True
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        asked = group.create_task(told())
        await world.clock.advance(HEAD_S)
        assert (await asked)["fallow_chain_up"] == 0  # who tells numbers is not held up by a chain that is silent


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


async def test_deposits_on_another_chain_are_no_credits() -> None:
    """The RPC leads to a chain for tests, say, where somebody has the same contracts at the same addresses."""
    world = World()
    looker = await world.looker()
    world.chain.deposit(FIRST, OWNERS[0], 10)
    world.chain.newest, world.chain.number = 20, CHAIN_ID + 1
    with pytest.raises(Unavailable, match=r"chain\.other"):
        await looker.look()
    assert (await world.paid(), world.recorded()) == ([0, 0], [])
    world.chain.number = CHAIN_ID
    await looker.look()
    assert await world.paid() == [10, 0]


async def test_why_the_chain_is_not_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.chain.away = True
    looker = await world.looker()
    async with looker.running():
        for _ in range(3):
            await world.clock.advance(POLL_S)
        assert [one.message for one in caplog.records] == ["the chain is not read for now:  [chain.silent]"]


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


async def test_two_that_read_the_same_blocks_at_one_time_take_them_once() -> None:
    world = World()
    world.chain.deposit(6, OWNERS[0], 10)
    world.chain.newest = 9
    first, second = await world.looker(), await world.looker()
    await asyncio.gather(first.look(), second.look())
    assert (await world.paid(), len(world.recorded())) == ([10, 0], 1)


class DyingLedger(MemoryLedger):
    """Dies once after it has posted: what was done in the same transaction is undone with it."""

    def __init__(self) -> None:
        super().__init__()
        self.dies = True

    async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
        """See the port."""
        results = await super().post(tx, transfers, now_ms)
        if transfers and self.dies:
            self.dies = False
            raise Unavailable("database.away", "")
        return results


async def test_a_look_that_dies_takes_nothing_and_the_next_one_all() -> None:
    world = World()
    world.ledger = DyingLedger()
    world.chain.deposit(6, OWNERS[0], 10)
    world.chain.newest = 9
    with pytest.raises(Unavailable):
        await (await world.looker()).look()
    assert (await world.paid(), world.recorded()) == ([0, 0], [])
    await (await world.looker()).look()
    assert (await world.paid(), len(world.recorded())) == ([10, 0], 1)


async def test_events_of_all_contracts_are_recorded_in_the_order_of_the_chain() -> None:
    world = World()
    operator, holder = (bytes(12) + owner for owner in OWNERS)
    world.chain.emit(ChainStaked, 6, [operator, holder], [10**27, 10**33])
    world.chain.deposit(7, OWNERS[0], 1)
    world.chain.emit(ChainUnbonded, 7, [operator, holder], [4, 4 * 10**6, 99])
    world.chain.emit(ChainSlashed, 8, [(3).to_bytes(32), operator], [5, 6])
    world.chain.happened.reverse()
    world.chain.newest = 10
    await (await world.looker()).look()
    staked, deposited, unbonded, slashed = world.recorded()
    assert isinstance(staked, ChainStaked)
    assert (staked.operator, staked.holder, staked.amount) == (*OWNERS, (10**27).to_bytes(32))
    assert isinstance(deposited, ChainDeposited)
    assert isinstance(unbonded, ChainUnbonded)
    assert (unbonded.shares, unbonded.released_at_s) == ((4 * 10**6).to_bytes(32), 99)
    assert isinstance(slashed, ChainSlashed)
    assert [int.from_bytes(word) for word in (slashed.slash, slashed.from_staked, slashed.from_leaving)] == [3, 5, 6]


@pytest.mark.parametrize("fact", CHAIN_FACTS, ids=lambda fact: fact.kind)
def test_what_is_recorded_is_what_the_contracts_emit(fact: type[ChainFact]) -> None:
    """Each event is in the ABI as it is read, its indexed arguments first, and has a field of each argument's name."""
    name = {"distributor": "Distributor", "token": "FallowToken", "vault": "StakeVault"}[fact.contract]
    abi = json.loads((files("fallow.data") / "contracts" / f"{name}.json").read_text())["abi"]
    events = {
        f"{one['name']}({','.join(each['type'] for each in one['inputs'])})": one["inputs"]
        for one in abi
        if one["type"] == "event"
    }
    indexed = [each["indexed"] for each in events[fact.event]]
    assert indexed == sorted(indexed, reverse=True)
    own = [field for field in fact.__struct_fields__ if field not in ChainFact.__struct_fields__]
    assert [field.removesuffix("_s").removesuffix("_ppm") for field in own] == [
        RENAMED.get(each["name"]) or re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", each["name"])
        for each in events[fact.event]
    ]
