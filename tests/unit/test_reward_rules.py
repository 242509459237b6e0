"""Token models as an operator chooses them, and what an epoch may mint under each: exact numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.bootstrap.rewards import read_rewards
from fallow.bootstrap.settings import Settings
from fallow.domain.epochs.economy import NO_POOL, Economy, Pool, pool_of, read_economy
from fallow.domain.epochs.keeping import Turns, keep
from fallow.domain.epochs.lines import INCENTIVE, USAGE, Tally
from fallow.domain.epochs.models import MODELS
from fallow.domain.epochs.network_line import network_line
from fallow.domain.epochs.rules import (
    BURN_AND_MINT,
    NONE,
    ROUNDING,
    WORK_ONLY,
    Rules,
    plain_rules,
    policies_of,
    read_rules,
    rules_of,
)
from fallow.domain.epochs.shares import fees_that_count, incentives_of
from fallow.domain.epochs.state import Row
from fallow.domain.errors import InvalidInput
from fallow.domain.records import to_builtins
from fallow.domain.rewards.oracle import Guard, Quote
from fallow.domain.rewards.pools import ByDate, Yearly
from fallow.domain.rewards.schedules import Held
from fallow.domain.rewards.usage import Use

T = 10**18
RICH = Economy(fees=10**18)
"""So many fees are left that schedules alone decide."""
HOUR_MS = 3_600_000
DATED = ByDate(base=(1000 * T).to_bytes(32), period=10)


def quotes(*prices: int, at_ms: int = HOUR_MS) -> list[Quote]:
    return [Quote(f"source {number}", at_ms, price) for number, price in enumerate(prices)]


def pool(rules: Rules, before: Economy = RICH, **given: Any) -> tuple[Economy, Pool]:
    asked: dict[str, Any] = {"epoch": 0, "minted": 0, "burned": 0, "quotes": [], "now_ms": HOUR_MS}
    return pool_of(before, rules, **(asked | given))


def test_a_day_of_bittensors_schedule_before_and_after_the_first_halving() -> None:
    rules = MODELS[WORK_ONLY]
    assert pool(rules)[1].units == 7200 * T
    assert pool(rules, minted=10_500_000 * T)[1].units == 3600 * T
    assert pool(rules, minted=10_499_000 * T)[1].units == 1000 * T + 3100 * T
    assert pool(rules, minted=21_000_000 * T)[1].units == 0
    burned = RICH._replace(burned=1000 * T)
    assert pool(rules, burned, minted=10_500_000 * T)[1].units == 1000 * T + 3100 * T, "burned tokens delay a halving"


def test_halving_by_date_and_yearly_decay_follow_the_number_of_the_epoch() -> None:
    dated = msgspec.structs.replace(MODELS[WORK_ONLY], schedule=DATED)
    assert [pool(dated, epoch=number)[1].units // T for number in (0, 9, 10, 20)] == [1000, 1000, 500, 250]
    yearly = Yearly(first_year=(760_567 * T).to_bytes(32), keep_ppm=945_000, epochs_a_year=12)
    rules = msgspec.structs.replace(dated, schedule=yearly)
    years = [sum(pool(rules, epoch=12 * year + month)[1].units for month in range(12)) for year in range(3)]
    assert years == [760_567 * T, 760_567 * T * 945 // 1000, 760_567 * T * 945 // 1000 * 945 // 1000]


def test_what_is_burned_may_be_minted_again_smoothed_and_under_a_cap() -> None:
    """Helium's program: (6 x before + today) / 7, at most 1,644 a day, beside the schedule's 41,095.89."""
    rules, prices = MODELS[BURN_AND_MINT], quotes(3_000_000, 3_000_000, 3_000_000)
    schedule = 4_109_589 * T // 100
    week = RICH._replace(smoothed=700 * T)
    after, found = pool(rules, week, burned=700 * T, quotes=prices)
    assert (after.smoothed, after.burned, found.units, found.price) == (700 * T, 700 * T, schedule + 700 * T, 3_000_000)
    after, found = pool(rules, week, burned=7700 * T, quotes=prices)
    assert (after.smoothed, found.units) == (1700 * T, schedule + 1644 * T)


@pytest.mark.parametrize(
    ("prices", "before"),
    [
        ([], 0),
        (quotes(3_000_000, 3_000_000), 0),
        (quotes(3_000_000, 3_000_000, 3_000_000, at_ms=HOUR_MS - 600_001), 0),
        (quotes(3_000_000, 3_000_000, 3_000_000), 2_000_000),
    ],
    ids=["no price", "too few sources", "stale", "a jump"],
)
def test_without_a_price_that_holds_nothing_is_minted_and_burns_are_counted(prices: list[Quote], before: int) -> None:
    after, found = pool(MODELS[BURN_AND_MINT], RICH._replace(price=before), burned=70, quotes=prices)
    assert found == NO_POOL
    assert (after.price, after.burned, after.smoothed) == (before, 70, 10)


def test_one_source_that_lies_moves_no_price() -> None:
    after, _ = pool(MODELS[BURN_AND_MINT], RICH._replace(price=100), quotes=quotes(100, 101, 10**12))
    assert after.price == 101


def test_no_pool_is_worth_more_than_the_fees_that_are_left() -> None:
    """A token is a dollar here."""
    left = Economy(fees=500, returned=200, given=100)
    assert pool(MODELS[WORK_ONLY], left)[1].units == 200 * T // 10**6
    assert pool(MODELS[WORK_ONLY], left._replace(returned=500))[1].units == 0
    assert pool(MODELS[NONE])[1] == NO_POOL


def test_what_is_carried_comes_back() -> None:
    economy = Economy(*range(1, len(Economy._fields) + 1))
    assert read_economy({"core.economy": economy.rows()}) == economy
    assert Economy().rows() == []


KEYS = [
    ("compute", bytes([1]) * 32, b"a" * 20),
    ("compute", bytes([2]) * 32, b"b" * 20),
    ("gnss", bytes(32), b"c" * 20),
]
WHOLE = dict.fromkeys(KEYS, 1_000_000)


def shares(uses: list[Use], units: int, **rules: Any) -> list[int]:
    """What each line gets of a pool, where a token's unit is worth a micro-US-dollar."""
    chosen = Rules(model=WORK_ONLY, price=T, **({"cap_ppm": 1_000_000} | rules))
    found = incentives_of(dict(zip(KEYS, uses, strict=True)), WHOLE, chosen, Pool(units, T))
    return [found[key] for key in KEYS]


def test_verticals_weigh_the_same_unless_weights_are_named() -> None:
    uses = [Use(1000), Use(3000), Use(4000)]
    assert shares(uses, 1000) == [125, 375, 500]
    assert shares(uses, 1000, weights={"gnss": 3}) == [63, 187, 750]
    assert shares(uses, 1000, weights={"gnss": 0}) == [250, 750, 0]


def test_the_rest_goes_to_the_largest_remainder_then_to_the_first() -> None:
    assert shares([Use(1000), Use(1000), Use(1000)], 3) == [1, 1, 1]
    assert shares([Use(1000), Use(1000), Use(0)], 7) == [2, 2, 0], "4 are compute's; caps of nothing get nothing"


def test_what_a_gateway_alone_attests_earns_under_a_cap_of_its_own() -> None:
    assert shares([Use(1000), Use(1000, 1000), Use(1000, 500)], 10**6, cap_ppm=500_000, attested_ppm=100_000) == [
        500,
        100,
        300,
    ]


def test_what_came_back_of_fees_counts_for_nothing_now_and_later() -> None:
    rules, key, tally = Rules(model=WORK_ONLY), KEYS[0], Tally()
    tally.money[2, True, "fee"], tally.money[2, True, "refunded"], tally.attested[2] = 100, 250, 100
    uses, returned = fees_that_count({key: tally}, {}, rules)
    assert (uses, returned) == ({}, {key: 150})
    later = Tally()
    later.money[3, True, "fee"], later.money[1, True, "fee"], later.attested[3] = 170, 9999, 50
    assert fees_that_count({key: later}, returned, rules) == ({key: Use(20, 20)}, {})
    assert fees_that_count({}, returned, rules) == ({}, returned), "it is not forgotten while nothing happens"


def test_an_operator_names_a_model_or_writes_a_file(tmp_path: Path) -> None:
    assert [read_rewards(Settings(preset="public", rewards=name)) for name in MODELS] == list(MODELS.values())
    feeds = ",".join(f"0x{digit * 40}" for digit in "1234")
    priced = read_rewards(Settings(preset="public", price_feeds=feeds, price_age_s=60, price_jump_ppm=7))
    assert (len(priced.feeds), priced.guard) == (4, Guard(sources_min=3, age_max_ms=60_000, jump_max_ppm=7))
    assert rules_of(policies_of(priced, {}), {}) == (priced, {})
    assert [read_rewards(Settings(preset=preset)).model for preset in ("lab", "public")] == [NONE, WORK_ONLY]
    file = tmp_path / "rewards.toml"
    file.write_text(
        'model = "work_only"\nprice = 250000\nweights.compute = 3\n[schedule]\ntype = "halving_by_date"\n'
        f"base = {1000 * T}\nperiod = 10\n"
    )
    rules = read_rewards(Settings(preset="public", rewards=str(file)))
    assert rules == Rules(model="work_only", price=250_000, weights={"compute": 3}, schedule=DATED)
    assert read_rules(to_builtins(rules)) == rules


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('model = "ponzi"', "settings.rewards"),
        ("model = ", "settings.rewards"),
        ("yield = 12", "epoch.rules"),
        ("cap_ppm = 1000001", "epoch.rules"),
        ("net_cap = -1", "epoch.rules"),
        ('token = "0xyz"', "epoch.rules"),
        ('schedule.type = "exponential"', "epoch.rules"),
    ],
)
def test_what_is_no_rule_is_refused_before_anything_starts(tmp_path: Path, text: str, code: str) -> None:
    file = tmp_path / "rewards.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        read_rewards(Settings(preset="public", rewards=str(file)))
    assert refused.value.code == code


def test_a_network_without_a_chain_has_no_token() -> None:
    with pytest.raises(InvalidInput, match="no chain") as refused:
        read_rewards(Settings(rewards=WORK_ONLY))
    assert refused.value.code == "settings.rewards"


def test_the_networks_own_line_of_an_epoch() -> None:
    sums = {
        "usage": 9_000_000,
        "revenue": 800_000,
        "incentive": 2 * T,
        "burned": 3 * T,
        "price": 250_000,
        "minted": 100 * T,
        "burned_ever": 30 * T,
        "forfeited.incentive": 5 * T,
    }
    line = network_line({name: value.to_bytes(32) for name, value in sums.items()})
    assert (int(line.net), int(line.supply), line.coverage_ppm) == (-T, 65 * T, 1_600_000)
    assert network_line({}).coverage_ppm is None


def test_a_root_may_add_what_the_rules_can_come_to_owe() -> None:
    assert MODELS[WORK_ONLY].mint_max == 7200 * T + ROUNDING
    assert MODELS[BURN_AND_MINT].mint_max == 4_109_589 * T // 100 + 1644 * T + ROUNDING
    held = Held(withheld_ppm=[750_000, 250_000], step=30, release=20)
    later = msgspec.structs.replace(MODELS[WORK_ONLY], held=held, vesting=10)
    assert later.mint_max == (7200 * T + ROUNDING) * (1 + 1 + 1 + 3)


def test_what_several_lines_are_released_at_once_is_within_what_a_root_may_add() -> None:
    """Two new nodes earn the whole pool one after the other, and an old one that of the epoch in which both get it."""
    rules = msgspec.structs.replace(MODELS[WORK_ONLY], held=Held(withheld_ppm=[1_000_000], step=2, release=2))
    pool, since = 7200 * T, {KEYS[0]: 0, KEYS[1]: 10, KEYS[2]: 11}
    carried: Mapping[str, Sequence[Row]] = {}
    added = []
    for day, earner in [(0, 0), *((day, None) for day in range(1, 10)), (10, 1), (11, 1), (12, 2), (13, 0)]:
        earned = {key: 1 for key, first in since.items() if day == first}
        if earner is not None:
            earned[KEYS[earner]] = pool
        kept = keep(carried, rules, day, {USAGE: {}, INCENTIVE: earned}, Turns({}))
        added.append(sum(earned.values()) - sum(kept.later(INCENTIVE).values()))
        carried = kept.carried
    assert 2 * (pool + ROUNDING) < max(added) <= rules.mint_max


def test_a_part_of_a_schedule_is_changed_alone() -> None:
    rules = plain_rules({"schedule": {"blocks": 300}}, MODELS[WORK_ONLY])
    assert pool(rules)[1].units == 300 * T
    other = plain_rules({"schedule": {"type": "halving_by_date", "base": 7, "period": 1}}, rules)
    assert pool(other)[1].units == 7


def held_and_owed(rules: Rules, days: list[int], wrong: int | None = None) -> list[tuple[int, int]]:
    """What is held after each day on which one node earned so much usage, and what was added to owed."""
    found: list[tuple[int, int]] = []
    carried: Mapping[str, Sequence[Row]] = {}
    for day, earned in enumerate(days):
        shown = {KEYS[0][1]: "result.wrong"} if day == wrong else {}
        kept = keep(carried, rules, day, {USAGE: {KEYS[0]: earned}, INCENTIVE: {}}, Turns(shown))
        found.append((kept.held[USAGE], earned - kept.later(USAGE).get(KEYS[0], 0)))
        carried = kept.carried
    return found


def test_a_new_nodes_pay_is_held_and_released() -> None:
    rules = Rules(held=Held(withheld_ppm=[750_000, 250_000], step=1, release=2))
    assert held_and_owed(rules, [100, 100, 0, 0, 100]) == [(75, 25), (100, 75), (50, 50), (0, 50), (0, 100)]


def test_a_node_that_is_found_wrong_forfeits_what_is_held_and_is_new_again() -> None:
    rules = Rules(held=Held(withheld_ppm=[500_000], step=2, release=1))
    assert held_and_owed(rules, [100, 100, 100, 0, 0, 100], wrong=1) == [
        (50, 50),
        (0, 50),
        (50, 50),
        (50, 0),
        (0, 50),
        (0, 100),
    ]


def test_an_incentive_vests_evenly_to_the_last_unit() -> None:
    carried: Mapping[str, Sequence[Row]] = {}
    found = []
    for day, earned in enumerate([100, 0, 100, 0, 0, 0]):
        kept = keep(carried, Rules(vesting=3), day, {USAGE: {}, INCENTIVE: {KEYS[0]: earned}}, Turns({}))
        carried = kept.carried
        found.append((earned - kept.later(INCENTIVE).get(KEYS[0], 0), kept.vesting))
    assert found == [(0, 100), (33, 67), (33, 134), (34 + 33, 67), (33, 34), (34, 0)]
