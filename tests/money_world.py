# ruff: noqa: D102
"""A network's money without its machines: deposits, work, withdrawals, and epochs that are really closed from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from fallow.adapters.archive import StoreArchive, memory_archive
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.epochs import MemoryEpochStore
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.payouts import MemoryPayoutStore
from fallow.domain.batches import open_batch
from fallow.domain.billing import Charge
from fallow.domain.calls.payouts import Withdraw, Withdrawal
from fallow.domain.chart import (
    Credit,
    Purpose,
    account_id,
    accounts_of,
    chain,
    collect,
    deposit,
    grant,
    hold,
    network_accounts,
)
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.reading import checked_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.statement import NONE, Statement
from fallow.domain.identity import address_text
from fallow.domain.ledger import Transfer
from fallow.domain.records import Body
from fallow.domain.views.payouts import WithdrawalView
from fallow.ports.epochs import Closed
from fallow.ports.ingest_store import BatchKey, StoredBatch
from fallow.services.settle.payouts import Payouts
from fallow.services.settle.withdrawals import Withdrawals
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, EpochFiles, Node
from tests.epoch_world import ACCOUNTS, COIN, METERINGS, enrolled, finished, lease, settled
from tests.faulty_database import FaultyDatabase
from tests.unit.agent_fakes import FakeClock

CHAIN_ID, FIRST = 7, 10
BUYER = b"b" * 20
INCOME, FEE, RESERVE = 900, 80, 20
"""What a lease of `epoch_world` brings."""

PAID = Rules(credit=2, settlement=COIN)


class MoneyWorld:
    """Its ledger, its archive, and what moves money between them."""

    def __init__(self, rules: Rules = PAID) -> None:
        self.rules = rules
        self.clock = FakeClock()
        self.database, self.ledger, self.decisions = FaultyDatabase(), MemoryLedger(), MemoryDecisionStore()
        self.epochs, self.payout_store, self.log = MemoryEpochStore(), MemoryPayoutStore(), MemoryIngestStore()
        self.archive: StoreArchive = memory_archive()
        self.network, self.members = Node(0), [Node(number) for number in (1, 2, 3)]
        self.network.key, self.network.id, self.network.boot = NETWORK, NETWORK_KEY, 0
        for number, member in enumerate(self.members):
            member.key = type(NETWORK)(bytes([number + 1]) * 32)
            member.id = bytes(member.key.verify_key)
        self.next_epoch, self._leases = FIRST, 0
        self._words: list[tuple[Node, list[Body]]] = []
        self._opening, self._statement = b"", b""
        self.bus = MemoryBus(MemoryHub())
        self.withdrawals = Withdrawals(
            bus=self.bus, clock=self.clock, database=self.database, ledger=self.ledger, decisions=self.decisions
        )

    def payouts(self) -> Payouts:
        return Payouts(
            network_key=NETWORK_KEY,
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            epochs=self.epochs,
            store=self.payout_store,
            archive=self.archive,
        )

    async def begin(self) -> None:
        owners = (BUYER, *ACCOUNTS)
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, network_accounts())
            await self.ledger.open_accounts(tx, [one for owner in owners for one in accounts_of(owner)])
        self._words += [(self.members[at], [enrolled(at, at)]) for at in range(3)]

    async def post(self, *transfers: Transfer) -> None:
        async with self.database.transaction() as tx:
            results = await self.ledger.post(tx, transfers, self.clock.now_ms())
        assert all(result.ok for result in results), results

    async def deposit(self, number: int, amount: int, to: bytes = BUYER) -> None:
        await self.post(deposit(CHAIN_ID, number.to_bytes(32), 0, to, amount))

    async def grant(self, amount: int, to: bytes = BUYER) -> None:
        await self.post(grant("ab" * 16, to, amount))

    async def work(self, member: int, *, told: bool = True) -> None:
        """A lease that goes well; unless it is `told`, it is in the ledger alone for now."""
        key, parts = lease(self._leases), ((int(Credit.PAID), INCOME + FEE + RESERVE),)
        charge = [(ACCOUNTS[member], Charge(INCOME, FEE, RESERVE))]
        await self.post(*chain(hold(key, 0, BUYER, parts)))
        await self.post(*chain(collect(key, 0, parts, charge)))
        if told:
            self._words.append((self.members[member], finished(self._leases)))
            self._words.append((self.network, [settled(self._leases, member, member)]))
        self._leases += 1

    async def withdraw(self, id_: str, amount: int, *, account: bytes = BUYER, to: bytes = BUYER) -> WithdrawalView:
        wanted = Withdrawal(id=id_, to=address_text(to), amount_microusd=amount)
        return await self.withdrawals.withdraw(Withdraw(account=address_text(account), withdrawal=wanted))

    async def _write_log(self, epoch: int, batches: Sequence[bytes]) -> None:
        """What an epoch is made of stands in ingest's log before."""
        opened = [open_batch(data, net=NET) for data in batches]
        stored = [
            StoredBatch(BatchKey(one.node, one.boot, one.seq), epoch, len(one.records), one.root, one.data, b"p", 1)
            for one in opened
        ]
        async with self.database.transaction() as tx:
            await self.log.append(tx, stored, [])

    def say(self, *bodies: Body) -> None:
        """Have the network say something in the open epoch."""
        if bodies:
            self._words.append((self.network, list(bodies)))

    async def close(self, extra: Sequence[Body] = (), **forged: Any) -> Statement:
        """Seal what was decided, and close the epoch; fields of its statement may be `forged`."""
        async with self.database.transaction() as tx:
            decided = [one.body for one in await self.decisions.take(tx, 1000)]
        self.say(*decided, *extra)
        number, words = self.next_epoch, self._words
        batches = [node.batch(*bodies) for node, bodies in words]
        await self._write_log(number, batches)
        files = EpochFiles(number, batches)
        read = checked_records(files.manifest, files.read, NETWORK_KEY)
        closing = close(
            self._opening, Epoch(NET, number, self.clock.now_ms(), NETWORK_KEY), read, self.rules, METERINGS
        )
        for name, data in closing.files.items():
            self.archive.put(path_of(number, name), data)
        previous = hashlib.sha256(self._statement).digest() if self._statement else NONE
        fields = {**closing.fields, "previous": previous, "until_ms": self.clock.now_ms(), **forged}
        files.put(self.archive, **fields)
        self._statement, self._opening = files.sealed(**fields), closing.files["state"]
        async with self.database.transaction() as tx:
            await self.epochs.add(tx, Closed(number, self._statement))
        self.next_epoch, self._words = number + 1, []
        return Statement.open(self._statement, NETWORK_KEY)

    async def balance(self, purpose: Purpose, owner: bytes, credit: Credit = Credit.PAID) -> int:
        account = account_id(purpose, credit, owner)
        async with self.database.transaction() as tx:
            found = (await self.ledger.balances(tx, [account]))[account]
        return found.credits_posted - found.debits_posted

    async def circulation(self) -> int:
        """Paid credits that anybody has."""
        return -await self.balance(Purpose.ISSUER, b"")
