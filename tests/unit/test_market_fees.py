"""Leases pay the fee that held when each of their windows began, whatever operators say meanwhile."""

from __future__ import annotations

from fallow.domain.chart import Credit, Purpose, account_id
from fallow.domain.fees import FeeWord
from tests.market_world import WINDOW_MS, World
from tests.unit.market_orders import accept_all, order, submit


def taken(world: World) -> int:
    """What fee and reserve have got."""
    accounts = [account_id(purpose, credit) for purpose in (Purpose.FEE, Purpose.RESERVE) for credit in Credit]
    return sum(world.ledger.accounts[one].balance.credits_posted for one in accounts)


def test_a_running_lease_pays_another_fee_from_its_next_window_on(world: World) -> None:
    submit(world, order(until_stopped=True))
    (lease,) = accept_all(world)
    world.fees.words = [FeeWord(world.now + 1, 200_000, 500_000)]
    shares = []
    for window in range(3):
        before = taken(world)
        world.wait(WINDOW_MS)
        world.interim(world.nodes[0], lease, window, WINDOW_MS)
        world.settle()
        shares.append(taken(world) - before)
    assert world.store.lease(lease).owed_microusd == 3000
    assert shares == [100, 200, 200]


def test_another_market_takes_the_same(world: World) -> None:
    submit(world, order(until_stopped=True))
    (lease,) = accept_all(world)
    world.fees.words = [FeeWord(world.now + 1, 200_000, 500_000)]
    world.wait(WINDOW_MS)
    world.restart()
    before = taken(world)
    world.interim(world.nodes[0], lease, 0, WINDOW_MS)
    world.settle()
    assert taken(world) - before == 100
