"""Farming the network's purses: a buyer and two owners in league, who have results disagree, or check each other."""

from __future__ import annotations

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import Credit, Kind, Purpose, account_id, accounts_of
from fallow.domain.leases import LeaseState
from fallow.domain.orders import Order
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import TRUSTED_AFTER
from tests.market_world import World, finish

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

    def deal(self, number: int, *, agree: bool, replicas: int = 2) -> None:
        """Buy one item, twice as a rule, and let the results agree or not."""
        world = self.world
        world.submit(
            Order(id=f"{number:032x}", vertical="compute", work={"compares": True}, items=[], replicas=replicas),
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


def test_a_league_that_checks_itself_gains_the_price_of_some_ten_items_and_then_no_more() -> None:
    """What remains: the network pays for checks of new nodes, whoever they are, until they have proven themselves."""
    league = League()
    league.world.fund(10 * GRANTED)
    gains = []
    for number in range(1, 61):
        league.deal(number, agree=True, replicas=1)
        gains.append(league.has() - GRANTED)
    price = USED_MS  # a thousand a second
    # Each of the first ten brings nine tenths of its price and costs one; later ones are checked once in ten and less.
    assert 0 < max(gains) <= (TRUSTED_AFTER + 2) * price
    assert gains[-1] - gains[29] <= price
    print(f"at most {max(gains) / price:.1f} items' price, {gains[-1] / price:.1f} after {len(gains)}")
