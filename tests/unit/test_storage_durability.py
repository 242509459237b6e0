"""The formula of durability against counting by hand, what each profile is said to keep, and simulated churn."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest

from bench import durability
from bench._churn import Churning, Troubles, losses_of_one
from fallow.cli.storage_profiles import profiles
from fallow.verticals.storage.control.choosing import enough_of
from fallow.verticals.storage.core.durability import (
    Churn,
    annual_loss,
    loss,
    monthly,
    nines,
    repair_interval_days,
)
from fallow.verticals.storage.core.profiles import LAB, PROFILES, SMALL, WIDE, Profile


def test_loss_is_the_sum_over_all_ways_to_lose_too_many() -> None:
    lost = 0.3
    counted = sum(
        math.prod(lost if gone else 1 - lost for gone in which)
        for which in itertools.product((True, False), repeat=6)
        if 6 - sum(which) < 4
    )
    assert loss(4, 6, lost) == pytest.approx(counted)


@pytest.mark.parametrize(
    ("profile", "of_one_day", "of_a_week"), [(LAB, 5.4, 2.9), (SMALL, 3.4, 1.1), (WIDE, 12.0, 5.5)]
)
def test_profiles_keep_what_their_page_says(profile: Profile, of_one_day: float, of_a_week: float) -> None:
    for delay_days, expected in ((1.0, of_one_day), (7.0, of_a_week)):
        assert round(nines(profile.annual_loss(monthly(0.1, delay_days))), 1) == expected


def test_what_is_stored_with_no_more_than_enough_pieces_is_lost_up_to_twice_as_likely() -> None:
    assert [enough_of(profile) for profile in (LAB, SMALL, WIDE)] == [7, 19, 55]
    for profile, delay_days in itertools.product(PROFILES.values(), (1.0, 7.0)):
        churn = monthly(0.1, delay_days)
        least = annual_loss(profile.needed, profile.repair, enough_of(profile), churn)
        assert 1.0 < least / profile.annual_loss(churn) <= 2.0


def test_profiles_can_be_repaired() -> None:
    for profile in PROFILES.values():
        assert profile.needed < profile.repair < profile.pieces
        assert profile.pieces < profile.nodes_min or profile is LAB
    assert LAB.nodes_min == LAB.pieces


def test_the_page_for_buyers_states_what_the_command_computes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    profiles()
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    shown = [[cell.strip() for cell in row if cell.strip()] for row in rows if row[0] in PROFILES]
    assert len(shown) == len(PROFILES)
    page = (Path(__file__).parents[2] / "docs/storage.md").read_text()
    for row in shown:
        assert f"| {' | '.join(row)} |" in page


def test_more_pieces_fewer_losses_and_slower_repair_more() -> None:
    churn = monthly(0.1)
    assert annual_loss(4, 6, 9, churn) < annual_loss(4, 6, 8, churn)
    assert annual_loss(4, 6, 8, churn) < annual_loss(4, 6, 8, Churn(churn.loss_per_day, 2.0))
    assert repair_interval_days(6, 8, Churn(0.01, 1.0)) == pytest.approx((1 / 7 + 1 / 8) / 0.01)
    assert nines(0.0) == math.inf


def test_simulated_losses_are_the_formulas() -> None:
    years, churn = 20_000, monthly(0.1, 7.0)
    expected = years * LAB.annual_loss(churn)
    lost = losses_of_one(LAB, churn, years, 365.0, random.Random(5))
    assert abs(lost - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize(("lost", "agrees"), [(0, False), (49, False), (50, True), (140, True), (141, False)])
def test_a_count_far_below_the_formulas_is_no_agreement_either(lost: int, agrees: bool) -> None:
    assert durability.agree(lost, 100.0) is agrees


def test_a_segment_that_is_spread_outlives_what_owners_take_along() -> None:
    rate = monthly(0.1).loss_per_day
    losses = []
    for spread in (True, False):
        network = Churning(LAB, 500, 1_000, spread=spread, draw=random.Random(3))
        network.live(730.0, Troubles(rate * 0.3, rate * 0.5, rate * 0.2), 7.0)
        losses.append(network.lost)
    assert 3 * losses[0] < losses[1]
