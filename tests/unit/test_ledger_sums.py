"""The ledger is added up once for all who ask, and however often they ask, for a part of the time alone."""

from __future__ import annotations

import asyncio

import pytest

from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.chart import network_accounts
from fallow.domain.errors import Unavailable
from fallow.domain.ledger import LedgerCheck
from fallow.domain.views.audits import LedgerCheckView
from fallow.ports.database import Transaction
from fallow.services.settle.sums import SHARE, Sums
from tests.unit.fake_network import HandClock

TAKES_MS = 2_000


class Long(MemoryLedger):
    """A ledger that takes two seconds to be added up, and waits for a test to let it."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self._clock = clock
        self.begun = 0
        self.begun_one, self.go_on = asyncio.Event(), asyncio.Event()
        self.away = False

    async def check(self, tx: Transaction) -> LedgerCheck:
        """Add it up."""
        self.begun += 1
        self.begun_one.set()
        await self.go_on.wait()
        self._clock.advance(TAKES_MS)
        if self.away:
            raise Unavailable("database.slow", "It took too long.")
        return await super().check(tx)


@pytest.fixture
async def ledger() -> Long:
    made = Long(HandClock())
    async with MemoryDatabase().transaction() as tx:
        await made.open_accounts(tx, network_accounts())
    return made


@pytest.fixture
def sums(ledger: Long) -> Sums:
    return Sums(ledger._clock, MemoryDatabase(), ledger)


async def ask(sums: Sums) -> LedgerCheckView:
    return await sums.check({})


async def test_all_who_ask_meanwhile_share_one_sum(ledger: Long, sums: Sums) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(sums)) for _ in range(5)]
        await ledger.begun_one.wait()
        ledger.go_on.set()
    assert [one.result().ok for one in asked] == [True] * 5
    assert {one.result().at for one in asked} == {ledger._clock.now_ms() - TAKES_MS}
    assert ledger.begun == 1


@pytest.mark.parametrize("away", [False, True])
async def test_whoever_asks_all_the_time_has_it_added_up_in_a_part_of_it(ledger: Long, sums: Sums, away: bool) -> None:
    ledger.go_on.set()
    ledger.away = away
    answers = list[int]()
    for _ in range(10 * SHARE):
        try:
            answers.append((await ask(sums)).at)
        except Unavailable:
            assert away
        ledger._clock.advance(TAKES_MS // 2)
    assert len(set(answers)) == (0 if away else ledger.begun)
    assert 5 <= ledger.begun <= 7
