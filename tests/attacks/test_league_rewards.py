"""A league of n owners and a buyer who deal with each other for incentives: the whole way from deals to a fold.

The market's real rounds with a real ledger in memory, checks and the reserve in play, nodes' own records and the
network's decisions folded epoch by epoch under rules that mint as much as they may. What the league has in money and in
tokens at the network's price is compared with what it began with. Tests print it.
"""

from __future__ import annotations

import msgspec
import pytest

from fallow.domain.billing import FeePolicy
from fallow.domain.chart import Credit, Kind
from fallow.domain.checks import Starting
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import Folded, fold
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import State
from fallow.domain.leases import Lease
from fallow.domain.records import Record, make_record
from fallow.domain.rewards.pools import ByDate
from tests.attacks.test_purse import FAIR, HONEST, LEAGUE, Says, Town, anything, truth
from tests.epoch_world import METERINGS
from tests.market_twins import Node
from tests.market_world import NET

NETWORK = b"n" * 32
BEGAN_WITH = 10**8
GENEROUS = Rules(
    model="work_only",
    credit=2,
    settlement=b"c" * 20,
    token=b"t" * 20,
    schedule=ByDate(base=(10**24).to_bytes(32), period=1000),
    price=10**18,
)
"""A unit of the token is a micro-US-dollar, and the caps by fees alone decide how many there are."""


class Economy:
    """A town whose epochs are closed. `aside` says whether its market knows of the rules, as every real one does."""

    def __init__(self, league: int, rules: Rules, *, aside: bool = True) -> None:
        fee = FeePolicy(aside_ppm=rules.cap_ppm if aside else 0)
        self.town = Town(league + 3, Starting(0), fee=fee)
        self.rules = rules
        self.league, self.honest = self.town.nodes[:league], self.town.nodes[league:]
        owners = {node.id: node.account for node in self.town.world.nodes}
        self.state = State(0, 0, owners, {}, {}, {})
        self.heard = self.decided = 0
        self.town.world.grant(LEAGUE, BEGAN_WITH, Credit.PAID)
        self.town.world.grant(HONEST, 10 * BEGAN_WITH, Credit.PAID)
        self.town.sell(FAIR, *self.town.nodes)
        self.town.buy(HONEST, self.honest, items=60)  # others' money lies in the purse and in the reserve
        self.close()

    def close(self) -> Folded:
        """Close an epoch of all that was said since the last one."""
        world = self.town.world
        said: list[Record] = world.heard[self.heard :]
        decided = list(world.decisions.waiting.values())[self.decided :]
        for at, body in decided:
            said.append(make_record(body, net=NET, node=NETWORK, boot=0, seq=0, at=at, new_salt=lambda: bytes(32))[0])
        self.heard, self.decided = len(world.heard), self.decided + len(decided)
        records = [Filed(0, place, record.node, record, b"") for place, record in enumerate(said)]
        epoch = Epoch(NET, self.state.epochs, world.now, NETWORK)
        folded = fold(self.state, epoch, records, self.rules, METERINGS)
        wrong = {code for line in folded.lines for verdict, code, _ in line.verdicts if code.startswith("settle.")}
        assert not wrong, "what the market decides holds against what nodes signed"
        self.state = folded.state
        return folded

    def tokens(self, nodes: list[Node]) -> int:
        """Tokens of the owners of nodes, in micro-US-dollars."""
        return sum(self.state.owed.get((node.account, self.rules.token), 0) for node in nodes)

    def worth(self) -> int:
        """What the league has."""
        return self.town.has(Credit.PAID, LEAGUE, *self.league) + self.tokens(self.league)

    def came_back(self) -> int:
        """What the network paid to the league for checks, and the reserve to its buyer."""
        log = self.town.world.ledger.log.values()
        refunds = sum(one.amount for one in log if one.code in {Kind.REFUND, Kind.LOST} and one.ledger == Credit.PAID)
        return self.town.by_network(Credit.PAID, *self.league) + refunds


def liars(lease: Lease) -> bytes:
    """Half of the league says one thing, half another."""
    return bytes([lease.node[0] % 2]) * 32


DEALS: tuple[tuple[Says, int, int], ...] = (
    (truth, 1, 60),
    (anything, 1, 6),
    (liars, 2, 12),
    (truth, 2, 20),
    (truth, 1, 60),
)
"""What the buyer's nodes say, how many results he orders of each item, how many items."""


def deal(economy: Economy, says: Says, replicas: int, items: int) -> None:
    economy.town.buy(LEAGUE, economy.league, says=says, replicas=replicas, items=items)
    economy.close()


@pytest.mark.parametrize("league", [2, 6])
@pytest.mark.parametrize("cap_ppm", [500_000, 1_000_000])
def test_a_league_ends_negative_whatever_its_nodes_say(league: int, cap_ppm: int) -> None:
    economy = Economy(league, msgspec.structs.replace(GENEROUS, cap_ppm=cap_ppm))
    has = [economy.worth()]
    for says, replicas, items in DEALS:
        deal(economy, says, replicas, items)
        has.append(economy.worth())
    tokens, back = economy.tokens(economy.league), economy.came_back()
    print(f"{league} nodes, cap {cap_ppm}: {has[-1] - has[0]} after {tokens} in tokens and {back} back from fees")
    assert min(tokens, back) > 0
    assert max(has[1:]) < has[0]


def test_of_fees_that_incentives_may_reach_a_market_gives_less_back() -> None:
    """Its twin, a market that does not know of the rules, sets nothing of a fee aside for them."""
    knowing, unknowing = (
        Economy(2, msgspec.structs.replace(GENEROUS, cap_ppm=1_000_000), aside=aside) for aside in (True, False)
    )
    for economy in (knowing, unknowing):
        for says, replicas, items in DEALS:
            deal(economy, says, replicas, items)
    assert knowing.came_back() < unknowing.came_back()
