"""Audits of the ledger: in an honest network nothing differs at any moment, and of what was planted exactly it."""

# ruff: noqa: D102

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from fallow.adapters.memory.audits import MemoryAuditStore
from fallow.adapters.memory.burn_store import MemoryBurnStore
from fallow.adapters.memory.chain_store import MemoryChainStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain.batches import seal_batch
from fallow.domain.calls.money import BeginAudit
from fallow.domain.chain_events import read_event
from fallow.domain.chain_facts import ChainClaimed, ChainRootSubmitted, ChainRootsWithdrawn
from fallow.domain.chart import Credit, Kind, Purpose, account_id, deposit, pay_out, withdraw
from fallow.domain.epochs.manifest import STATEMENT, path_of
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.statement import Statement
from fallow.domain.facts import CreditWithdrawn
from fallow.domain.ledger import transfer
from fallow.domain.reconciling import Item
from fallow.domain.records import Body, make_record
from fallow.domain.views.audits import AuditView
from fallow.services.settle import audits
from fallow.services.settle.audit import Audit, Sources
from fallow.services.settle.audit_chain import ChainMoney
from fallow.services.settle.audits import Audits
from fallow.services.settle.chain_events import ChainEvents
from fallow.services.settle.recorded import Recorded
from fallow.services.settle.sorting import Sorter
from tests.epoch_files import NET, NETWORK, NETWORK_KEY
from tests.epoch_world import ACCOUNTS, COIN
from tests.money_world import BUYER, CHAIN_ID, FIRST, INCOME, PAID, MoneyWorld
from tests.unit.test_chain_events import CONTRACTS, DEPTH, DISTRIBUTOR, EventChain
from tests.unit.test_chain_events import FIRST as FIRST_BLOCK

ONE, TWO = "01" * 16, "02" * 16


class MoneyChain(EventChain):
    """A chain whose distributor has what was deposited and not claimed, less what was `stolen`."""

    stolen = 0

    async def call(self, to: bytes, data: bytes, block: int | None = None) -> bytes:
        assert to == COIN
        assert data.endswith(DISTRIBUTOR)
        held, claimed = 0, dict[bytes, int]()
        for event in self.happened:
            if block is None or event.block <= block:
                amount = int.from_bytes(event.data[:32])
                if len(event.topics) == 3 and event.topics[2].endswith(COIN):
                    claimed[event.topics[1]] = amount
                elif event.topics[2:3] and not event.topics[1].strip(b"\0"):
                    held += amount
        return (held - sum(claimed.values()) - self.stolen).to_bytes(32)


class AuditWorld(MoneyWorld):
    """A network with its chain, and an auditor beside it."""

    def __init__(self, folder: Path, rules: Rules = PAID, *, run_items: int = 2, with_chain: bool = True) -> None:
        super().__init__(rules)
        self.chain, self.blocks = MoneyChain(), MemoryChainStore()
        self.chain.newest = FIRST_BLOCK + DEPTH
        self.events = ChainEvents(
            chain=self.chain,
            chain_id=CHAIN_ID,
            contracts=CONTRACTS,
            first_block=FIRST_BLOCK,
            depth=DEPTH,
            bus=self.bus,
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.blocks,
            burns=MemoryBurnStore(),
            decisions=self.decisions,
        )
        self.place = ChainMoney(self.chain, CONTRACTS, COIN, FIRST_BLOCK) if with_chain else None
        self.folder, self.run_items = folder, run_items

    @property
    def audit(self) -> Audit:
        sources = Sources(
            database=self.database,
            ledger=self.ledger,
            epochs=self.epochs,
            payouts=self.payout_store,
            blocks=self.blocks,
            recorded=Recorded(self.database, self.decisions, self.log, NETWORK_KEY),
            archive=self.archive,
            network_key=NETWORK_KEY,
            chain=self.place,
        )
        return Audit(sources, self.clock, self.folder, run_items=self.run_items)

    def mine(self) -> int:
        """One more block, which is final when the chain is next looked at; its number."""
        self.chain.newest += DEPTH
        return self.chain.newest - DEPTH

    async def look(self) -> None:
        while await self.events.look():
            pass

    async def come_in(self, amount: int, owner: bytes = BUYER) -> None:
        self.chain.deposit(self.mine(), owner, amount)
        await self.look()

    async def pay(self) -> None:
        while await self.payouts().look():
            pass

    def submit(self, said: Statement, archive: bytes) -> None:
        amounts = [int.from_bytes(said.root), int.from_bytes(archive), 0, 0, 0]
        self.chain.emit(ChainRootSubmitted, self.mine(), [said.epoch.to_bytes(32)], amounts)

    def claim(self, account: bytes, cumulative: int) -> None:
        self.chain.emit(ChainClaimed, self.mine(), [bytes(12) + account, bytes(12) + COIN], [cumulative])

    async def archived(self) -> bytes:
        """The hash of the last statement."""
        async with self.database.transaction() as tx:
            closed = await self.epochs.last(tx)
        assert closed is not None
        return hashlib.sha256(closed.statement).digest()

    async def log_waiting(self) -> None:
        """Seal what waits into ingest's log, from where it comes into the open epoch."""
        async with self.database.transaction() as tx:
            decided = [one.body for one in await self.decisions.take(tx, 1000)]
        await self.write_log(self.next_epoch, *decided)
        self.say(*decided)

    async def write_log(self, epoch: int, *bodies: Body) -> None:
        records = [
            make_record(body, net=NET, node=NETWORK_KEY, boot=1, seq=at, at=5, new_salt=lambda: bytes(32))[0]
            for at, body in enumerate(bodies)
        ]
        await self._write_log(epoch, [seal_batch(records, lambda message: NETWORK.sign(message).signature)])


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def busy(world: AuditWorld) -> AuditWorld:
    """A network in which everything has happened once, and something of each kind is on its way."""
    await world.begin()
    await world.come_in(1_000_000)
    for member in (0, 0, 1):
        await world.work(member)
    await world.withdraw(ONE, 30_000, to=ACCOUNTS[2])
    said = await world.close()
    await world.pay()
    world.submit(said, await world.archived())
    world.claim(ACCOUNTS[0], 2 * INCOME)
    await world.look()
    await world.work(1)
    await world.withdraw(TWO, 20_000)
    return world


@pytest.fixture
async def world(tmp_path: Path) -> AuditWorld:
    return await busy(AuditWorld(tmp_path))


async def found(world: AuditWorld) -> list[tuple[str, str, str]]:
    view = await world.audit.run()
    assert not view.trouble
    assert (view.ok, view.found) == (not view.differences, len(view.differences))
    return [(one.code, one.here, one.there) for one in view.differences]


async def test_an_honest_network_differs_in_nothing_at_any_moment(tmp_path: Path) -> None:
    world = AuditWorld(tmp_path)
    assert await found(world) == []
    await world.begin()
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: world.come_in(1_000_000),
        lambda: world.work(0),
        lambda: world.withdraw(ONE, 30_000, to=ACCOUNTS[2]),
        world.close,
        world.pay,
        lambda: world.work(1),
        lambda: world.withdraw(TWO, 20_000),
        world.log_waiting,
        lambda: world.come_in(5, ACCOUNTS[1]),
        world.close,
    ]
    for step in steps:
        await step()
        world.chain.deposit(world.mine(), ACCOUNTS[0], 7)  # nobody has looked at it yet
        assert await found(world) == []
    assert left_in(tmp_path) == []


async def test_sums_say_where_each_dollar_is(world: AuditWorld) -> None:
    view = await world.audit.run()
    assert (view.deposited, view.circulation, view.owed) == (
        1_000_000,
        1_000_000 - 50_000 - 3 * INCOME,
        50_000 + 3 * INCOME,
    )
    assert (view.claimed, view.held) == (2 * INCOME, 1_000_000 - 2 * INCOME)
    assert view.circulation + view.owed - (view.claimed or 0) == view.held
    assert (view.epochs, view.ok) == (1, True)


async def test_a_network_without_a_chain_is_held_against_its_archive(tmp_path: Path) -> None:
    world = AuditWorld(tmp_path, Rules(), with_chain=False)
    await world.begin()
    await world.grant(1_000_000)
    await world.close()
    await world.pay()
    view = await world.audit.run()
    assert (view.ok, view.epochs, view.held, view.claimed) == (True, 1, None, None)
    world.archive.put(path_of(FIRST, STATEMENT), b"another")
    assert [code for code, _, _ in await found(world)] == ["archive.statement"]


async def test_what_is_withdrawn_waits_in_the_log_and_is_found_there(world: AuditWorld) -> None:
    await world.log_waiting()
    assert await found(world) == []


async def test_a_deposit_that_became_no_credits(world: AuditWorld) -> None:
    world.chain.deposit(FIRST_BLOCK, BUYER, 55)
    event = world.chain.happened[-1]
    place, transaction = event.place, event.transaction
    fact = read_event("distributor", event.topics, event.data, block=FIRST_BLOCK, place=place, transaction=transaction)
    assert fact is not None
    await world.close([fact])
    await world.pay()
    wallet = account_id(Purpose.WALLET, Credit.PAID, BUYER).hex()
    assert await found(world) == [("deposit.missing", "", f"55 0x{wallet}")]


async def test_credits_that_nobody_deposited(world: AuditWorld) -> None:
    await world.post(deposit(CHAIN_ID, bytes(32), 9, ACCOUNTS[1], 70))
    wallet = account_id(Purpose.WALLET, Credit.PAID, ACCOUNTS[1]).hex()
    assert await found(world) == [("deposit.unfounded", f"70 0x{wallet}", "")]


async def test_a_deposit_of_another_amount(world: AuditWorld) -> None:
    first = world.chain.happened[0]
    world.chain.happened[0] = first._replace(data=(1_000_001).to_bytes(32))
    wallet = account_id(Purpose.WALLET, Credit.PAID, BUYER).hex()
    ours, recorded = await found(world)
    assert ours == ("deposit.differs", f"1000000 0x{wallet}", f"1000001 0x{wallet}")
    assert recorded[0] == "event.differs", "its record says what the ledger says"


async def test_paid_credits_out_of_nothing(world: AuditWorld) -> None:
    issuer, wallet = account_id(Purpose.ISSUER, Credit.PAID), account_id(Purpose.WALLET, Credit.PAID, BUYER)
    await world.post(transfer(b"x" * 16, issuer, wallet, 9, Credit.PAID.value, Kind.GRANT.value))
    assert await found(world) == [("ledger.issued", "9", "")]


async def test_a_balance_that_does_not_follow_from_the_transfers(world: AuditWorld) -> None:
    fee = account_id(Purpose.FEE, Credit.PAID)
    account = world.ledger.accounts[fee]
    world.ledger.accounts[fee] = account._replace(debits_pending=account.debits_pending + 1)
    codes = {code for code, _, _ in await found(world)}
    assert "ledger.balance_differs" in codes
    assert {code.partition(".")[0] for code in codes} == {"ledger"}


async def test_earnings_that_a_root_owes_and_the_ledger_kept(world: AuditWorld) -> None:
    await world.close()
    async with world.database.transaction() as tx:
        await world.payout_store.add(tx, FIRST + 1)
    earned = account_id(Purpose.EARNED, Credit.PAID, ACCOUNTS[1]).hex()
    assert await found(world) == [("paid_out.missing", "", f"{INCOME} 0x{earned}")]


async def test_earnings_that_left_without_being_owed(world: AuditWorld) -> None:
    await world.post(pay_out(FIRST, ACCOUNTS[1], 0)._replace(id=b"y" * 16, amount=INCOME))
    earned = account_id(Purpose.EARNED, Credit.PAID, ACCOUNTS[1]).hex()
    assert await found(world) == [("paid_out.unfounded", f"{INCOME} 0x{earned}", "")]


async def test_earnings_of_which_less_left(world: AuditWorld) -> None:
    await world.post(pay_out(FIRST + 1, ACCOUNTS[1], 1))
    await world.close()
    await world.pay()
    earned = account_id(Purpose.EARNED, Credit.PAID, ACCOUNTS[1]).hex()
    assert await found(world) == [("paid_out.differs", f"1 0x{earned}", f"{INCOME} 0x{earned}")]


async def test_a_withdrawal_that_no_record_tells_of(world: AuditWorld) -> None:
    await world.post(withdraw("03" * 16, BUYER, ACCOUNTS[0], 600))
    assert await found(world) == [("withdrawal.unfounded", f"600 0x{ACCOUNTS[0].hex()}", "")]


async def test_a_record_of_a_withdrawal_that_never_was(world: AuditWorld) -> None:
    await world.close([CreditWithdrawn(withdrawal=b"z" * 16, account=ACCOUNTS[0], amount_microusd=600)])
    await world.pay()
    assert await found(world) == [("withdrawal.missing", "", f"600 0x{ACCOUNTS[0].hex()}")]


async def test_a_withdrawal_that_is_recorded_twice(world: AuditWorld) -> None:
    id_ = withdraw(ONE, BUYER, ACCOUNTS[2], 30_000).id
    await world.close([CreditWithdrawn(withdrawal=id_, account=ACCOUNTS[2], amount_microusd=30_000)])
    await world.pay()
    assert await found(world) == [("withdrawal.repeated", "", f"30000 0x{ACCOUNTS[2].hex()}")]


@pytest.mark.parametrize("where", ["waiting", "logged", "closed"])
async def test_a_withdrawal_that_is_recorded_for_somebody_else(world: AuditWorld, where: str) -> None:
    for pos, one in world.decisions.waiting.items():
        if isinstance(one.body, CreditWithdrawn):
            body = CreditWithdrawn(withdrawal=one.body.withdrawal, account=ACCOUNTS[1], amount_microusd=20_000)
            world.decisions.waiting[pos] = one._replace(body=body)
    if where == "logged":
        await world.log_waiting()
    elif where == "closed":
        await world.close()
        await world.pay()
    there = f"20000 0x{ACCOUNTS[1].hex()}"
    assert await found(world) == [("withdrawal.differs", f"20000 0x{BUYER.hex()}", there)]


@pytest.mark.parametrize(
    "name", ["lines", "leaves", "records/credit.withdrawn", "records/chain.deposited", "manifest", "statement"]
)
async def test_a_flipped_bit_of_the_archive_is_one_difference(world: AuditWorld, name: str) -> None:
    """The log still has what that epoch's records said; what its lines said is left open."""
    data = bytearray(b"".join(world.archive.read(path_of(FIRST, name))))
    data[len(data) // 2] ^= 4
    world.archive.put(path_of(FIRST, name), bytes(data))
    codes = [code for code, _, _ in await found(world)]
    assert codes == ["archive.statement" if name == "statement" else "archive.damaged"]


async def test_an_event_that_nobody_recorded(world: AuditWorld) -> None:
    """Its record is lost between the chain and the archive."""
    world.claim(ACCOUNTS[2], 5)
    await world.look()
    for pos, one in list(world.decisions.waiting.items()):
        if isinstance(one.body, ChainClaimed) and one.body.account == ACCOUNTS[2]:
            del world.decisions.waiting[pos]
    ((code, here, there),) = await found(world)
    assert (code, here) == ("event.missing", "")
    assert there.startswith(f"{world.chain.happened[-1].block} 0x")


@pytest.mark.parametrize("closed", [False, True])
async def test_an_event_that_is_recorded_otherwise(world: AuditWorld, closed: bool) -> None:
    world.claim(ACCOUNTS[2], 5)
    await world.look()
    for pos, one in list(world.decisions.waiting.items()):
        if isinstance(one.body, ChainClaimed) and one.body.account == ACCOUNTS[2]:
            body = msgspec.structs.replace(one.body, cumulative=(6).to_bytes(32))
            world.decisions.waiting[pos] = one._replace(body=body)
    if closed:
        await world.close()
        await world.pay()
    assert [code for code, _, _ in await found(world)] == ["event.differs"]


async def test_a_record_of_an_event_that_never_was(world: AuditWorld) -> None:
    amount = (7).to_bytes(32)
    event = ChainClaimed(block=6, place=99, transaction=bytes(32), account=BUYER, asset=COIN, cumulative=amount)
    await world.close([event])
    await world.pay()
    assert [code for code, _, _ in await found(world)] == ["event.unfounded"]


async def test_a_root_on_the_chain_that_nobody_stated(tmp_path: Path) -> None:
    world = AuditWorld(tmp_path)
    await world.begin()
    await world.come_in(1_000_000)
    said = await world.close()
    world.submit(said, bytes(32))
    await world.look()
    root, archive = said.root.hex(), (await world.archived()).hex()
    assert await found(world) == [("root.differs", f"0x{root} {archive}", f"0x{root} {bytes(32).hex()}")]
    world.chain.emit(ChainRootsWithdrawn, world.mine(), [FIRST.to_bytes(32)], [FIRST, 1])
    await world.look()
    assert await found(world) == []
    world.submit(msgspec.structs.replace(said, epoch=FIRST + 5), await world.archived())
    await world.look()
    assert await found(world) == [("root.differs", "", f"0x{root} {archive}")]


async def test_a_claim_of_more_than_is_owed(world: AuditWorld) -> None:
    world.claim(ACCOUNTS[1], INCOME + 1)
    await world.look()
    assert await found(world) == [("claim.exceeds", str(INCOME + 1), str(INCOME))]
    world.claim(BUYER, 3)
    await world.look()
    assert ("claim.exceeds", "3", "") in await found(world)


async def test_money_that_is_not_where_it_should_be(world: AuditWorld) -> None:
    world.chain.stolen = 1
    there = 1_000_000 - 2 * INCOME
    assert await found(world) == [("money.short", str(there), str(there - 1))]
    world.chain.stolen = -500  # somebody sent there what nobody has deposited
    assert await found(world) == []


async def test_a_root_that_owes_more_than_was_earned(world: AuditWorld) -> None:
    due = 50_000 + 4 * INCOME
    await world.close(settlement_total=(due + 1).to_bytes(32))
    await world.pay()
    assert await found(world) == [("owed.exceeds", str(due), str(due + 1))]


async def test_a_chain_that_is_away_is_no_difference_and_no_clean_bill(world: AuditWorld) -> None:
    world.chain.answers_max = -1
    view = await world.audit.run()
    assert (view.ok, view.found) == (False, 0)
    assert "chain.busy" in view.trouble


async def test_it_audits_all_the_time_and_when_asked_and_raises_the_alarm(
    world: AuditWorld, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryAuditStore()
    service = Audits(
        audit=world.audit,
        bus=world.bus,
        clock=world.clock,
        database=world.database,
        store=store,
        log=MemoryRegistryStore(),
    )

    async def latest_after(asked_at: int) -> AuditView:
        while not (seen := await service.audited({})) or seen[0].began_at < asked_at:
            await world.clock.advance(1)
        return seen[0]

    async with service.running():
        assert (await latest_after(0)).ok
        await world.clock.advance(1)
        asked = await latest_after(await service.begin(BeginAudit()))
        assert asked.ok
        assert "ALARM" not in caplog.text
        world.chain.stolen = 1
        found = await latest_after(world.clock.now_ms() + 1)
    assert found.began_at - asked.began_at >= audits.PAUSE_S * 1000, "unasked it takes its time"
    assert [one.code for one in found.differences] == ["money.short"]
    assert "ALARM money.short: distributor 0x" in caplog.text


async def test_items_come_in_the_order_of_their_keys_however_many(tmp_path: Path) -> None:
    items = [Item(bytes([at * 7 % 256]) * 16, at, b"who" * (at % 2), at % 3 == 0) for at in range(256)]
    sorter = Sorter(tmp_path, run_items=10)
    sorter.add(items)
    assert list(sorter) == sorted(items)
    assert list(sorter) == sorted(items)
    assert (sorter.count, sorter.total) == (256, sum(range(256)))
    sorter.close()
    assert left_in(tmp_path) == []
