"""Farming the reserve: a buyer and two owners in league, who have results disagree."""

from __future__ import annotations

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import Credit, Kind, Purpose, account_id, accounts_of
from fallow.domain.leases import LeaseState
from fallow.domain.orders import Order
from fallow.domain.resources import Resources, Terms
from tests.market_twins import finish
from tests.market_world import World

ROOM = Resources(cpu_milli=8000, memory_mib=8000, disk_mib=8000)
PRICE = Terms(price_microusd_per_core_hour=3_600_000)  # 1000 micro-US-dollars a second
GRANTED = 1_000_000
USED_MS = 5_000


class League:
    """Two owners of a node each, and a buyer; whoever runs an item says what he is told to."""

    def __init__(self) -> None:
        self.world = World(nodes=4)
        self.members = (self.world.nodes[0], self.world.nodes[2])
        for member in self.members:
            finish(self.world.ledger.open_accounts(MemoryTransaction(), accounts_of(member.account)))
            self.world.offer(member, ROOM, PRICE)
        self.world.grant(self.world.buyers[0], GRANTED)
        self.world.fund_reserve(GRANTED)
        self.world.settle()

    def deal(self, number: int, *, agree: bool) -> None:
        """Buy one item twice, and let the results agree or not."""
        world = self.world
        world.submit(
            Order(id=f"{number:032x}", vertical="compute", work={"compares": True}, items=[], replicas=2),
            world.buyers[0],
        )
        world.round()
        nodes = {node.id: node for node in world.nodes}
        while world.brain.jobs:
            for number_, lease in enumerate(list(world.brain.leases.values())):
                if lease.state is LeaseState.PROPOSED:
                    world.accept(nodes[lease.node], lease.id)
                elif lease.state is LeaseState.RUNNING:
                    said = bytes([0 if agree else number_]) * 32
                    world.final(nodes[lease.node], lease.id, 0, USED_MS, result=said)
            world.wait(USED_MS)
            world.settle()

    def has(self) -> int:
        """All that the three of them have."""
        purses = [(Purpose.WALLET, self.world.buyers[0]), *((Purpose.EARNED, one.account) for one in self.members)]
        balances = [self.world.ledger.accounts[account_id(what, Credit.GRANTED, who)].balance for what, who in purses]
        return sum(balance.credits_posted - balance.debits_posted for balance in balances)

    def refunded(self) -> int:
        """What the reserve gave to the buyer."""
        return sum(entry.amount for entry in self.world.ledger.log.values() if entry.code == Kind.REFUND)


def test_disagreeing_for_ever_costs_more_than_it_brings() -> None:
    league = League()
    for number in range(1, 21):
        league.deal(number, agree=False)
        assert league.has() <= GRANTED
    assert 0 < league.refunded() <= GRANTED - league.has() + league.refunded()
    # Each item costs 10,000, of which 1,000 is fee: no more than that ever comes back.
    assert league.refunded() <= 20 * 1_000


def test_saving_up_by_honest_work_first_brings_no_more() -> None:
    league = League()
    for number in range(1, 41):
        league.deal(number, agree=number <= 20)
        assert league.has() <= GRANTED
    assert league.refunded() > 10_000  # they do get back what they paid in, and not a micro-dollar more
