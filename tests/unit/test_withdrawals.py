"""Paid credits that are withdrawn leave the ledger once, and are owed once to whom their owner named."""

from __future__ import annotations

import pytest

from fallow.domain.chart import Kind, Purpose, hold
from fallow.domain.epochs.folding import fold
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import NOTHING
from fallow.domain.errors import Conflict, InsufficientFunds, InvalidInput, Unavailable
from fallow.domain.facts import CreditWithdrawn
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import ACCOUNTS, COIN, METERINGS, NODES, epoch, filed
from tests.faulty_database import Fault
from tests.money_world import BUYER, INCOME, PAID, MoneyWorld

ONE, TWO = "01" * 16, "02" * 16
FRIEND = b"f" * 20


@pytest.fixture
async def world() -> MoneyWorld:
    world = MoneyWorld()
    await world.begin()
    await world.deposit(1, 100_000)
    return world


def withdrawn(number: int, amount: int, account: bytes = FRIEND) -> CreditWithdrawn:
    return CreditWithdrawn(withdrawal=number.to_bytes(16), account=account, amount_microusd=amount)


async def test_it_leaves_the_wallet_and_is_owed_by_the_epochs_root(world: MoneyWorld) -> None:
    view = await world.withdraw(ONE, 30_000, to=FRIEND)
    assert await world.balance(Purpose.WALLET, BUYER) == 70_000
    await world.withdraw(TWO, 10_000, to=FRIEND)
    await world.work(0)
    said = await world.close()
    assert int.from_bytes(said.settlement_total) == 40_000 + INCOME
    while await world.payouts().look():
        pass
    assert await world.circulation() + int.from_bytes(said.settlement_total) == 100_000
    (first, _) = [one for one in world.ledger.log.values() if one.code == Kind.WITHDRAWAL]
    assert first.id is not None
    assert (first.id.hex(), first.ref) == (view.transfer, FRIEND)


async def test_the_same_id_counts_once_and_another_one_under_it_is_refused(world: MoneyWorld) -> None:
    assert await world.withdraw(ONE, 30_000) == await world.withdraw(ONE, 30_000)
    for amount, to in ((30_001, BUYER), (30_000, FRIEND)):
        with pytest.raises(Conflict, match="another withdrawal"):
            await world.withdraw(ONE, amount, to=to)
    assert await world.balance(Purpose.WALLET, BUYER) == 70_000
    assert len(world.decisions.waiting) == 1


async def test_two_accounts_may_choose_the_same_id(world: MoneyWorld) -> None:
    await world.deposit(2, 50_000, ACCOUNTS[0])
    await world.withdraw(ONE, 30_000)
    await world.withdraw(ONE, 30_000, account=ACCOUNTS[0], to=FRIEND)
    assert len(world.decisions.waiting) == 2


@pytest.mark.parametrize("fault", [Fault.BEGIN, Fault.COMMIT, Fault.ANSWER])
async def test_a_lost_transaction_leaves_both_or_neither(world: MoneyWorld, fault: Fault) -> None:
    faults = iter([fault])
    world.database.fault = lambda: next(faults, Fault.NONE)
    with pytest.raises(Unavailable):
        await world.withdraw(ONE, 30_000)
    gone = 100_000 - await world.balance(Purpose.WALLET, BUYER)
    assert gone == 30_000 * len(world.decisions.waiting)
    await world.withdraw(ONE, 30_000)
    assert await world.balance(Purpose.WALLET, BUYER) == 70_000
    assert len(world.decisions.waiting) == 1


async def test_granted_credits_are_not_withdrawn(world: MoneyWorld) -> None:
    await world.grant(1_000_000)
    with pytest.raises(InsufficientFunds, match=r"0\.100000 USD of them are free"):
        await world.withdraw(ONE, 100_001)
    assert not world.decisions.waiting
    await world.withdraw(ONE, 100_000)


async def test_what_a_window_holds_is_not_withdrawn_meanwhile(world: MoneyWorld) -> None:
    await world.post(*hold(bytes(16), 0, BUYER, ((2, 95_000),)))
    with pytest.raises(InsufficientFunds):
        await world.withdraw(ONE, 10_000)


async def test_nobody_has_the_address_of_zeros(world: MoneyWorld) -> None:
    with pytest.raises(InvalidInput, match="zeros"):
        await world.withdraw(ONE, 30_000, to=bytes(20))


def test_a_fold_owes_what_the_network_alone_said_and_each_once() -> None:
    records = [
        filed(NETWORK_KEY, withdrawn(1, 20_000), 0),
        filed(NETWORK_KEY, withdrawn(2, 30_000), 1),
        filed(NETWORK_KEY, withdrawn(2, 30_000), 2),
        filed(NODES[0], withdrawn(3, 40_000), 3),
        filed(NETWORK_KEY, withdrawn(4, 50_000, ACCOUNTS[0]), 4),
    ]
    folded = fold(NOTHING, epoch(), records, PAID, METERINGS)
    assert folded.state.owed == {(FRIEND, COIN): 50_000, (ACCOUNTS[0], COIN): 50_000}
    verdicts = {(line.node, code): count for line in folded.lines for _, code, count in line.verdicts}
    assert verdicts == {
        (NETWORK_KEY, ""): 3,
        (NETWORK_KEY, "withdrawn.repeated"): 1,
        (NODES[0], "withdrawn.not_the_network"): 1,
    }


def test_where_nothing_backs_credits_none_are_owed() -> None:
    folded = fold(NOTHING, epoch(), [filed(NETWORK_KEY, withdrawn(1, 20_000))], Rules(), METERINGS)
    assert not folded.state.owed
