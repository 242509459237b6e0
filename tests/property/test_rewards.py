"""Rewards as rules: sums are exact, nobody gets more than his due, and dealing with oneself ends negative."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.billing import FeePolicy, cumulative_charge
from fallow.domain.epochs.economy import Pool
from fallow.domain.epochs.lines import LineKey
from fallow.domain.epochs.rules import WORK_ONLY, Rules
from fallow.domain.epochs.shares import incentives_of, worth
from fallow.domain.errors import InvalidInput
from fallow.domain.rewards.schedules import HalvingByIssuance, Held, YearlyDecay, vested
from fallow.domain.rewards.split import PPM, delegated, split
from fallow.domain.rewards.tree import Leaf, build_tree, proof_of, proves, root_of
from fallow.domain.rewards.usage import Use, caps_of, incentives

SUPPLY = 10**27
weights = st.lists(st.integers(0, 1 << 80), max_size=30)
leaves = st.lists(
    st.builds(Leaf, st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20), st.integers(0, SUPPLY)),
    min_size=1,
    max_size=40,
)


def plain_split(pool: int, cut: list[int]) -> list[int]:
    """The same by hand: fractions, and units handed out one by one."""
    total = sum(cut)
    if not total:
        return [0] * len(cut)
    exact = [Fraction(pool * weight, total) for weight in cut]
    shares = [int(share) for share in exact]
    order = sorted(range(len(cut)), key=lambda place: (shares[place] - exact[place], place))
    for place in order[: pool - sum(shares)]:
        shares[place] += 1
    return shares


@given(st.integers(0, SUPPLY), weights)
def test_shares_add_up_to_the_last_unit(pool: int, cut: list[int]) -> None:
    shares = split(pool, cut)
    assert shares == plain_split(pool, cut)
    assert sum(shares) == (pool if any(cut) else 0)
    assert all(not share for share, weight in zip(shares, cut, strict=True) if not weight)


@given(st.integers(0, SUPPLY), st.integers(0, PPM), st.integers(0, SUPPLY), weights)
def test_an_operator_and_his_delegators_share_all_of_it(reward: int, take: int, own: int, stakes: list[int]) -> None:
    operator, others = delegated(reward, take, own, stakes)
    assert operator + sum(others) == reward
    assert operator >= 0
    assert min(others, default=0) >= 0


@given(st.integers(1, 5000), st.integers(1, 200), st.integers(0, 5000), st.integers(0, 300))
def test_blocks_together_mint_what_they_mint_one_by_one(cap: int, base: int, issued: int, count: int) -> None:
    schedule, minted = HalvingByIssuance(cap, base), 0
    for _ in range(count):
        minted += schedule.a_block(issued + minted)
    assert schedule.blocks(issued, count) == minted
    assert issued + minted <= max(cap, issued)


@given(st.integers(0, SUPPLY), st.integers(0, PPM), st.integers(1, 400), st.integers(1, 1000))
def test_epochs_of_a_year_mint_its_pool(first_year: int, keep: int, a_year: int, epochs: int) -> None:
    decay = YearlyDecay(first_year, keep, a_year)
    assert sum(decay.epoch(number) for number in range(epochs)) == decay.until(epochs)
    assert decay.until(a_year) == first_year


@given(st.integers(0, SUPPLY), st.integers(0, 100), st.integers(0, 100), st.integers(-50, 300))
def test_vesting_never_falls_and_ends_with_all(amount: int, since: int, lasts: int, now: int) -> None:
    until = since + lasts
    sofar, later = (vested(amount, since=since, until=until, now=at) for at in (now, now + 1))
    assert 0 <= sofar <= later <= amount
    assert vested(amount, since=since, until=until, now=until) == amount


@given(st.lists(st.integers(0, SUPPLY), max_size=20), st.integers(0, 30))
def test_what_was_withheld_comes_back_and_no_more(earned: list[int], months: int) -> None:
    held = Held(withheld_ppm=[750_000, 250_000], step=3, release=7)
    withheld = sum(held.withhold(age, "usage", amount) for age, amount in enumerate(earned))
    assert 0 <= held.released(months, withheld) <= held.released(months + 1, withheld) <= withheld <= sum(earned)
    assert held.released(2 * 3 + 7, withheld) == withheld


uses = st.lists(
    st.tuples(st.integers(0, 10**15), st.integers(0, 10**15)).map(lambda fees: Use(sum(fees), fees[1])), max_size=20
)


@given(st.integers(0, SUPPLY), uses, st.integers(0, PPM), st.integers(0, PPM))
def test_no_incentive_exceeds_its_fee(pool: int, used: list[Use], one: int, other: int) -> None:
    shares = incentives(pool, caps_of(used, ppm=max(one, other), attested_ppm=min(one, other)))
    assert sum(shares) <= pool
    assert all(0 <= share <= use.fee for share, use in zip(shares, used, strict=True))


@given(st.integers(0, SUPPLY), st.integers(0, PPM))
def test_what_incentives_may_reach_of_a_fee_comes_back_by_no_check_and_no_refund(fee: int, ppm: int) -> None:
    (reached,) = caps_of([Use(fee)], ppm=ppm, attested_ppm=0)
    returnable = FeePolicy(aside_ppm=ppm).returnable(fee)
    assert 0 <= returnable <= fee - reached <= returnable + 1


def test_a_policy_that_pays_more_than_the_fee_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most the fee"):
        caps_of([Use(1)], ppm=PPM + 1, attested_ppm=0)


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=12),
    st.lists(st.integers(0, 10**12), max_size=12),
    st.integers(0, 10**15),
    st.integers(0, PPM),
    st.integers(0, PPM),
)
def test_dealing_with_oneself_through_many_accounts_never_pays(
    own: list[int], honest: list[int], pool: int, fee_ppm: int, ppm: int
) -> None:
    """Own accounts buy from own nodes: what was paid comes back less the fee, with an incentive of at most that."""
    policy = FeePolicy(fee_ppm=fee_ppm)
    charges = [cumulative_charge(spent, policy, per=1) for spent in [*own, *honest]]
    uses = [Use(charge.fee + charge.reserve) for charge in charges]
    shares = incentives(pool, caps_of(uses, ppm=ppm, attested_ppm=0))
    back = sum(charge.provider for charge in charges[: len(own)]) + sum(shares[: len(own)])
    fees = sum(charge.fee + charge.reserve for charge in charges[: len(own)])
    assert back <= sum(own)
    if fees and ppm < PPM:
        assert back < sum(own)


LINES: list[LineKey] = [
    (name, bytes([node]) * 32, bytes([node]) * 20) for name in ("compute", "gnss") for node in range(4)
]
FEES = st.dictionaries(st.sampled_from(LINES), uses.filter(bool).map(lambda found: found[0]), max_size=8)


@given(
    FEES,
    st.integers(0, SUPPLY),
    st.integers(1, 10**24),
    st.integers(0, PPM),
    st.dictionaries(st.sampled_from(["compute", "gnss"]), st.integers(0, 5)),
    st.lists(st.sampled_from([0, 500_000, PPM]), min_size=8, max_size=8),
)
def test_a_pool_of_any_size_gives_no_line_more_than_its_fees_are_worth(
    fees: dict[LineKey, Use], pool: int, price: int, cap_ppm: int, weights: dict[str, int], scored: list[int]
) -> None:
    rules = Rules(model=WORK_ONLY, price=price, cap_ppm=cap_ppm, attested_ppm=cap_ppm // 2, weights=weights)
    scores = dict(zip(LINES, scored, strict=True))
    shares = incentives_of(fees, scores, rules, Pool(pool, price))
    assert sum(shares.values()) <= pool
    for key, share in shares.items():
        assert worth(share, price) <= fees[key].fee * scores[key] // PPM * cap_ppm // PPM
        assert not share or rules.weight(key[0])
    assert worth(sum(shares.values()), price) <= sum(use.fee for use in fees.values())


@given(leaves)
def test_each_leaf_is_proven_and_nothing_else(entries: list[Leaf]) -> None:
    tree = build_tree(entries)
    root = root_of(tree)
    assert len(tree) == 32 * (2 * len(entries) - 1)
    for leaf in entries:
        proof = proof_of(tree, leaf)
        assert proves(root, leaf, proof)
        assert not proves(root, leaf._replace(cumulative=leaf.cumulative + 1), proof)


@given(leaves, st.randoms(use_true_random=False))
def test_the_order_of_the_leaves_does_not_matter(entries: list[Leaf], random: object) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert build_tree(shuffled) == build_tree(entries)
