"""What a closed epoch owes leaves the ledger, exactly that, once."""

from __future__ import annotations

import pytest

from fallow.domain.chart import Kind, Purpose
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.rules import Rules
from fallow.domain.errors import InvalidInput, Unavailable
from tests.epoch_world import ACCOUNTS
from tests.faulty_database import Fault
from tests.money_world import FIRST, INCOME, MoneyWorld


async def begun(world: MoneyWorld) -> MoneyWorld:
    await world.begin()
    await world.deposit(1, 1_000_000)
    for member in (0, 0, 1):
        await world.work(member)
    return world


async def earned(world: MoneyWorld) -> list[int]:
    return [await world.balance(Purpose.EARNED, account) for account in ACCOUNTS]


def moved(world: MoneyWorld) -> list[int]:
    return [one.amount for one in world.ledger.log.values() if one.code == Kind.PAID_OUT]


async def test_what_the_lines_say_leaves_and_what_was_earned_since_stays() -> None:
    world = await begun(MoneyWorld())
    await world.close()
    await world.work(1)
    assert await world.payouts().look()
    assert await earned(world) == [0, INCOME, 0]
    assert not await world.payouts().look()
    await world.close()
    assert await world.payouts().look()
    assert await earned(world) == [0, 0, 0]
    assert sum(moved(world)) + await world.circulation() == 1_000_000


async def test_a_lease_whose_record_comes_late_leaves_with_the_epoch_that_has_it() -> None:
    world = await begun(MoneyWorld())
    await world.work(2, told=False)
    await world.close()
    await world.payouts().look()
    assert await earned(world) == [0, 0, INCOME]


async def test_copies_and_those_that_begin_again_move_it_once() -> None:
    world = await begun(MoneyWorld())
    await world.close()
    assert await world.payouts().look()
    world.payout_store = type(world.payout_store)()
    assert await world.payouts().look()
    assert sorted(moved(world)) == [INCOME, 2 * INCOME]


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("fault", [Fault.BEGIN, Fault.COMMIT, Fault.ANSWER])
async def test_whatever_transaction_is_lost_it_is_moved_once(fault: Fault, at: int) -> None:
    """There are three: finding the epoch, moving, noting."""
    world = await begun(MoneyWorld())
    await world.close()
    faults = iter([*[Fault.NONE] * at, fault])
    world.database.fault = lambda: next(faults, Fault.NONE)
    with pytest.raises(Unavailable):
        await world.payouts().look()
    while await world.payouts().look():
        pass
    assert sorted(moved(world)) == [INCOME, 2 * INCOME]
    assert await earned(world) == [0, 0, 0]


async def test_granted_credits_stay_where_they_are() -> None:
    world = await begun(MoneyWorld(Rules()))
    await world.close()
    assert await world.payouts().look()
    assert not moved(world)
    assert await earned(world) == [2 * INCOME, INCOME, 0]


async def test_lines_that_are_not_those_of_the_statement_move_nothing() -> None:
    world = await begun(MoneyWorld())
    await world.close()
    name = path_of(FIRST, "lines")
    data = bytearray(b"".join(world.archive.read(name)))
    data[-1] ^= 1
    world.archive.put(name, bytes(data))
    with pytest.raises(InvalidInput):
        await world.payouts().look()
    assert not moved(world)


async def test_it_goes_on_by_itself() -> None:
    world = await begun(MoneyWorld())
    async with world.payouts().running():
        await world.close()
        while not moved(world):
            await world.clock.advance(1)
