"""Stake in the fold: whose it is, and the delegators' shares of what an operator's work earned. Pure.

Pools are followed by the vault's own numbers: tokens and shares, so that they are what they are on the chain to the
last unit. Stake counts from the epoch after it came, so that none is there for the close alone; what is unbonding
counts no more, and a slash takes from all shares of a pool alike.

An operator shares nothing until he says so: what he keeps of others' stake's part is his word, and anything else would
let anybody who delegates a unit take from what he worked for. A change counts from the epoch after it was recorded,
so that delegators see it in an archive before it costs them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.chain_facts import ChainFact, ChainSlashed, ChainStaked, ChainUnbonded
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.state import Owed, Row, amount
from fallow.domain.rewards.split import delegated
from fallow.domain.stake_facts import TAKE_ALL_PPM, StakeTake
from fallow.domain.verification import Verdict

POOLS: Final = "core.pools"
HOLDERS: Final = "core.stakes"
TAKES: Final = "core.takes"
SHARED: Final = "core.shared"
"""What each holder got of what each operator earned in this epoch: nothing goes on from it, but people ask why."""


class Shared(NamedTuple):
    """Units of the token that `holder` got of what `operator` earned in an epoch."""

    operator: bytes
    holder: bytes
    units: int


def read_shared(carried: Mapping[str, Sequence[Row]], account: bytes) -> list[Shared]:
    """What an account got or gave, by the state that an epoch closed with."""
    rows = [Shared(key[:20], key[20:], int.from_bytes(units)) for key, units in carried.get(SHARED, ())]
    return [one for one in rows if account in one[:2]]


class Take(NamedTuple):
    """What an operator keeps now and from the next epoch on (millionths), and the time that he gave his word."""

    now_ppm: int
    next_ppm: int
    at_ms: int


class Stakes:
    """The pools: tokens by operator, shares by operator and holder."""

    def __init__(self, carried: Mapping[str, Sequence[Row]]) -> None:
        self.tokens = Counter({operator: int.from_bytes(held) for operator, held in carried.get(POOLS, ())})
        self.shares: dict[bytes, Counter[bytes]] = defaultdict(Counter)
        for key, held in carried.get(HOLDERS, ()):
            self.shares[key[:20]][key[20:]] = int.from_bytes(held)
        self._opening = {operator: Counter(pool) for operator, pool in self.shares.items()}
        self._given: Counter[bytes] = Counter()
        self._takes = {operator: Take(*rest) for operator, *rest in carried.get(TAKES, ())}

    def see(self, fact: ChainFact) -> Found:
        """Follow an event of the vault; others change nothing here."""
        if isinstance(fact, ChainStaked):
            self.tokens[fact.operator] += int.from_bytes(fact.amount)
            self.shares[fact.operator][fact.holder] += int.from_bytes(fact.shares)
        elif isinstance(fact, ChainUnbonded):
            left = self.shares[fact.operator][fact.holder] - int.from_bytes(fact.shares)
            if left < 0 or not self._leaves(fact.operator, fact.amount):
                return Found(Verdict.REJECTED, "stake.unknown")
            self.shares[fact.operator][fact.holder] = left
        elif isinstance(fact, ChainSlashed) and not self._leaves(fact.operator, fact.from_staked):
            return Found(Verdict.REJECTED, "stake.unknown")
        return ACCEPTED

    def take(self, body: StakeTake) -> Found:
        """Hear an operator; that he signed it was checked. Raising is for the next epoch, and so is lowering."""
        before = self._takes.get(body.account, Take(TAKE_ALL_PPM, TAKE_ALL_PPM, -1))
        if body.at_ms <= before.at_ms:
            return Found(Verdict.REJECTED, "stake.old")
        self._takes[body.account] = Take(before.now_ppm, body.take_ppm, body.at_ms)
        return ACCEPTED

    def shared(self, earned: Mapping[Owed, int], token: bytes) -> Counter[Owed]:
        """What everybody is owed when delegators get their shares of incentives. The sum is what was earned."""
        owed: Counter[Owed] = Counter()
        for (account, asset), reward in sorted(earned.items()):
            take = self._takes.get(account)
            if asset != token or take is None or take.now_ppm == TAKE_ALL_PPM:
                owed[account, asset] += reward
                continue
            counts = self._counting(account)
            holders = sorted(counts.keys() - {account})
            own, parts = delegated(reward, take.now_ppm, counts[account], [counts[holder] for holder in holders])
            owed[account, asset] += own
            owed.update({(holder, asset): part for holder, part in zip(holders, parts, strict=True)})
            self._given.update({account + holder: part for holder, part in zip(holders, parts, strict=True)})
        return +owed

    def _counting(self, operator: bytes) -> Counter[bytes]:
        """Shares that were there all the epoch long."""
        return self._opening.get(operator, Counter()) & self.shares[operator]

    def rows(self) -> dict[str, list[Row]]:
        """What the next epoch begins with: what was said in this one counts there."""
        holders = [
            [operator + holder, amount(held)]
            for operator, pool in self.shares.items()
            for holder, held in pool.items()
            if held
        ]
        pools = [[operator, amount(held)] for operator, held in self.tokens.items() if held]
        takes = [[operator, take.next_ppm, take.next_ppm, take.at_ms] for operator, take in self._takes.items()]
        given = [[key, amount(units)] for key, units in self._given.items() if units]
        return {POOLS: pools, HOLDERS: holders, TAKES: takes, SHARED: given}

    def _leaves(self, operator: bytes, word: bytes) -> bool:
        """Take tokens out of a pool, if they are there."""
        left = self.tokens[operator] - int.from_bytes(word)
        if left < 0:
            return False
        self.tokens[operator] = left
        return True
