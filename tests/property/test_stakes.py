"""Delegated stake: the fold's pools are the vault's to the last unit, and shares add up to what was earned."""

from __future__ import annotations

from collections import Counter
from typing import Any

from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.chain_facts import (
    TOKENS_MIN,
    ChainBurned,
    ChainFact,
    ChainSlashAnnounced,
    ChainSlashed,
    ChainStaked,
    ChainUnbonded,
)
from fallow.domain.epochs.chain_records import SECTION, ChainRecords
from fallow.domain.epochs.metering import ACCEPTED
from fallow.domain.epochs.stakes import HOLDERS, POOLS, SHARED, TAKES, Stakes, read_shared
from fallow.domain.epochs.state import NOTHING, read_state, write_state
from fallow.domain.price_facts import PriceReported, price_text
from fallow.domain.records import Body
from fallow.domain.stake_facts import TAKE_ALL_PPM, StakeTake, take_text
from fallow.domain.wallets import address_of, sign_text
from tests.epoch_files import NET
from tests.epoch_files import NETWORK_KEY as NETWORK
from tests.epoch_world import COIN, NODES, TOKEN, filed
from tests.vault_world import VaultWorld

KEY = PrivateKey(b"\x07" * 32)
OPERATOR, ANN, BOB = address_of(KEY), b"\xa1" * 20, b"\xb2" * 20
UNIT = 10**18
STEPS = st.lists(
    st.tuples(st.sampled_from(["stake", "stake", "unbond", "slash", "release"]), st.integers(0, 1), st.integers(0, 2),
              st.integers(1, 10**20)),
    min_size=1,
    max_size=12,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_the_folds_pools_are_the_vaults_to_the_last_unit(steps: list[tuple[str, int, int, int]]) -> None:
    """On the real bytecode: whoever stakes, unbonds, is slashed, in whatever order and amounts."""
    world = VaultWorld()
    for what, operator, holder, size in steps:
        pool, me = world.holders[operator].address, world.holders[holder].address
        if what == "stake":
            world.send(holder, world.vault, "stake(address,uint256)", pool, TOKENS_MIN + size)
        elif what == "unbond":
            (held,) = world.ask(world.vault, "sharesOf(address,address)", "(uint256)", pool, me)
            world.send(holder, world.vault, "unbond(address,uint256)", pool, held * (size % 100 + 1) // 100)
        elif what == "slash":
            before = len(world.facts)
            share = size % TAKE_ALL_PPM + 1
            world.send(0, world.vault, "announceSlash(address,uint32,bytes32,bytes32)", pool, share, b"r", b"e")
            (announced,) = world.facts[before:]
            assert isinstance(announced, ChainSlashAnnounced)
            slash = int.from_bytes(announced.slash)
            world.send(0, world.vault, "takeSlash(uint256)", slash)
        else:
            world.send(holder, world.vault, "release(address)", pool)
    stakes = Stakes({})
    for fact in world.facts:
        assert stakes.see(fact) == ACCEPTED
    again = Stakes(read_state(write_state(NOTHING._replace(carried=stakes.rows()))).carried)
    accounts = [one.address for one in world.holders]
    for pool in accounts:
        staked, shares = world.ask(world.vault, "pools(address)", "(uint256,uint256)", pool)
        for one in (stakes, again):
            assert (one.tokens[pool], one.shares[pool].total()) == (staked, shares)
        for me in accounts:
            (held,) = world.ask(world.vault, "sharesOf(address,address)", "(uint256)", pool, me)
            assert again.shares[pool][me] == held


class Epochs:
    """Epochs with records of the chain, one after the other."""

    def __init__(self) -> None:
        self.carried: dict[str, list[list[Any]]] = {}
        self.block = 0

    def fact(self, kind: type[ChainFact], **fields: Any) -> ChainFact:
        """The next event of the chain."""
        self.block += 1
        numbers = {name: value.to_bytes(32) if isinstance(value, int) else value for name, value in fields.items()}
        numbers |= {"released_at_s": 0} if kind is ChainUnbonded else {}
        return kind(block=self.block, place=0, transaction=bytes(32), **numbers)

    def epoch(self, *bodies: Body, node: bytes = NETWORK) -> tuple[ChainRecords, list[str]]:
        """Read an epoch's records; returns what they showed, and the codes of those that were rejected."""
        records = ChainRecords(NET, NETWORK, self.carried)
        codes = [records.takes[body.kind](filed(node, body)).code for body in bodies]
        self.carried = {name: rows for name, rows in records.rows().items() if rows}
        return records, [code for code in codes if code]

    def staked(self, holder: bytes, tokens: int) -> ChainFact:
        """Stake with the operator, a million shares for a unit as in a new pool."""
        return self.fact(ChainStaked, operator=OPERATOR, holder=holder, amount=tokens, shares=tokens * 10**6)


def take(ppm: int, at_ms: int, key: PrivateKey = KEY, net: str = NET) -> StakeTake:
    signature = sign_text(key, take_text(net, OPERATOR, ppm, at_ms))
    return StakeTake(account=OPERATOR, take_ppm=ppm, at_ms=at_ms, signature=signature)


def test_delegators_get_their_shares_less_what_the_operator_keeps() -> None:
    """Own stake 1, Ann 2, Bob 1, and he keeps a fifth: of 1,000 Ann has 400 and Bob 200."""
    epochs = Epochs()
    epochs.epoch(
        epochs.staked(OPERATOR, UNIT), epochs.staked(ANN, 2 * UNIT), epochs.staked(BOB, UNIT), take(200_000, 1)
    )
    records, _ = epochs.epoch()
    earned = {(OPERATOR, TOKEN): 1_000, (OPERATOR, COIN): 50, (ANN, TOKEN): 7}
    assert records.stakes.shared(earned, TOKEN) == Counter(
        {(OPERATOR, TOKEN): 400, (ANN, TOKEN): 407, (BOB, TOKEN): 200, (OPERATOR, COIN): 50}
    )
    assert read_shared(records.rows(), ANN) == [(OPERATOR, ANN, 400)]
    assert read_shared(records.rows(), OPERATOR) == [(OPERATOR, ANN, 400), (OPERATOR, BOB, 200)]
    records, _ = epochs.epoch()
    assert read_shared(records.rows(), ANN) == [], "each epoch says what it gave"


def test_who_has_said_nothing_shares_nothing_and_a_word_counts_from_the_next_epoch() -> None:
    epochs = Epochs()
    earned = Counter({(OPERATOR, TOKEN): 1_000})
    records, _ = epochs.epoch(epochs.staked(ANN, UNIT))
    assert records.stakes.shared(earned, TOKEN) == earned
    records, _ = epochs.epoch(take(100_000, 5))
    assert records.stakes.shared(earned, TOKEN) == earned
    records, rejected = epochs.epoch(take(1_000_000, 6), take(100_000, 5))
    assert rejected == ["stake.old"]
    assert records.stakes.shared(earned, TOKEN) == Counter({(OPERATOR, TOKEN): 100, (ANN, TOKEN): 900})
    records, _ = epochs.epoch()
    assert records.stakes.shared(earned, TOKEN) == earned


def test_stake_that_comes_for_the_close_or_is_unbonding_counts_not() -> None:
    epochs = Epochs()
    earned = Counter({(OPERATOR, TOKEN): 1_000})
    epochs.epoch(epochs.staked(ANN, UNIT), take(0, 1))
    records, _ = epochs.epoch(epochs.staked(BOB, 9 * UNIT))
    assert records.stakes.shared(earned, TOKEN) == Counter({(ANN, TOKEN): 1_000})
    gone = epochs.fact(ChainUnbonded, operator=OPERATOR, holder=ANN, amount=UNIT, shares=UNIT * 10**6)
    records, _ = epochs.epoch(gone)
    assert records.stakes.shared(earned, TOKEN) == Counter({(BOB, TOKEN): 1_000})


@given(
    reward=st.integers(0, 10**27),
    ppm=st.integers(0, TAKE_ALL_PPM),
    held=st.dictionaries(st.integers(0, 40), st.integers(0, 10**27), max_size=20),
)
def test_shares_add_up_to_what_was_earned(reward: int, ppm: int, held: dict[int, int]) -> None:
    """At every size: nobody gets less than nothing, and nothing is left over."""
    epochs = Epochs()
    holders = [OPERATOR, *(bytes([number]) * 20 for number in range(1, 41))]
    epochs.epoch(take(ppm, 1), *(epochs.staked(holders[number], tokens) for number, tokens in held.items()))
    records, _ = epochs.epoch()
    shared = records.stakes.shared({(OPERATOR, TOKEN): reward}, TOKEN)
    assert sum(shared.values()) == reward
    assert min(shared.values(), default=0) >= 0
    keeps = reward * ppm // TAKE_ALL_PPM
    assert shared[OPERATOR, TOKEN] >= keeps - len(held)


def test_an_event_counts_once_and_in_the_chains_order_alone() -> None:
    epochs = Epochs()
    first = epochs.staked(ANN, UNIT)
    second = epochs.fact(ChainBurned, sender=ANN, account=BOB, amount=5 * UNIT)
    records, rejected = epochs.epoch(first, second, second, first)
    assert (records.burned, rejected) == (5 * UNIT, ["chain.order"] * 2)
    records, rejected = epochs.epoch(second)
    assert (records.burned, rejected) == (0, ["chain.order"])
    assert records.stakes.tokens == Counter({OPERATOR: UNIT})


def test_only_the_network_says_what_the_chain_has_and_nobody_what_another_signed() -> None:
    epochs = Epochs()
    at, other = 9, PrivateKey(b"\x08" * 32)
    said = sign_text(other, price_text(NET, 5, 0, at))
    quote = PriceReported(feed=address_of(other), price_microusd=5, doubt_microusd=0, at_ms=at, signature=said)
    records, rejected = epochs.epoch(epochs.staked(ANN, UNIT), quote, take(0, 1), node=NODES[0])
    assert (rejected, records.happened, records.rows()) == (
        ["chain.not_the_network"] * 3, [], {SECTION: [], POOLS: [], HOLDERS: [], TAKES: [], SHARED: []},
    )  # fmt: skip
    forged = PriceReported(feed=ANN, price_microusd=5, doubt_microusd=0, at_ms=at, signature=said)
    _, rejected = epochs.epoch(forged, take(0, 1, key=other), take(0, 1, net="another"))
    assert rejected == ["price.signature", "stake.signature", "stake.signature"]
    records, rejected = epochs.epoch(quote)
    assert (records.happened, rejected) == ([(5, quote)], [])


def test_no_pool_gives_out_more_than_came_in() -> None:
    epochs = Epochs()
    more = {"operator": OPERATOR, "holder": ANN, "amount": UNIT, "shares": UNIT * 10**6 + 1}
    slash = {"slash": 0, "operator": OPERATOR, "from_staked": UNIT + 1, "from_leaving": 0}
    records, rejected = epochs.epoch(
        epochs.staked(ANN, UNIT), epochs.fact(ChainUnbonded, **more), epochs.fact(ChainSlashed, **slash)
    )
    assert rejected == ["stake.unknown"] * 2
    assert records.stakes.tokens[OPERATOR] == UNIT
