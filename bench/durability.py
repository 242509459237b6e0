"""Losses of segments over years of churn, simulated, beside what the formula says.

A tenth of the nodes leaves each month. First each profile with nodes that leave one by one, at delays of repair that
are long enough for losses to be counted; then a network of owners with several machines and networks with several of
them, which also leave as a whole, with segments spread over owners and networks as Fallow places them, and without.

    python bench/durability.py [--years 400000] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._churn import Churning, Troubles, losses_of_one
from fallow.verticals.storage.core.durability import DAYS_A_YEAR, Churn, monthly, nines
from fallow.verticals.storage.core.profiles import LAB, SMALL, WIDE, Profile

A_TENTH = 0.1
DELAYS_DAYS = {LAB.name: (3.0, 7.0), SMALL.name: (1.0, 3.0), WIDE.name: (7.0, 14.0)}
SIGMAS = 4.0
"""A count this many standard deviations off the formula's is a difference, not chance."""

FRESH = 0.1
"""A simulated year begins with all pieces there, and so has up to so much fewer losses than one among others."""

NODES, SEGMENTS, LIVED_YEARS = 2_000, 10_000, 4.0


def one_by_one(profile: Profile, delay_days: float, years: int, draw: random.Random) -> dict[str, object]:
    """Independent losses, against the formula."""
    churn = monthly(A_TENTH, delay_days)
    expected = profile.annual_loss(churn) * years
    lost = losses_of_one(profile, churn, years, DAYS_A_YEAR, draw)
    print(
        f"{profile.name}, repaired {delay_days:g} days after: {lost} of {years:,} segment-years lost,"
        f" {expected:.1f} by the formula",
        flush=True,
    )
    ok = agree(lost, expected)
    return _row(f"{profile.name}-{delay_days:g}d", lost / years, expected / years, "the formula", ok=ok)


def agree(lost: int, expected: float) -> bool:
    """Whether a count is the formula's but for chance. One that says too much is as wrong as one that does not."""
    chance = SIGMAS * math.sqrt(max(expected, 1.0))
    return (1.0 - FRESH) * expected - chance <= lost <= expected + chance


def all_together(draw: random.Random) -> list[dict[str, object]]:
    """Owners and networks leave too: what spreading is worth. The formula knows single nodes only."""
    whole = monthly(A_TENTH, 7.0)
    troubles = Troubles(whole.loss_per_day * 0.5, whole.loss_per_day * 0.3, whole.loss_per_day * 0.2)
    expected = LAB.annual_loss(Churn(troubles.of_a_node, whole.delay_days))
    found, years = {}, SEGMENTS * LIVED_YEARS
    for spread in (True, False):
        network = Churning(LAB, NODES, SEGMENTS, spread=spread, draw=draw)
        network.live(LIVED_YEARS * DAYS_A_YEAR, troubles, whole.delay_days)
        found[spread] = network.lost / years
        print(
            f"{LAB.name}, owners and networks leave too, {'spread' if spread else 'not spread'}: {network.lost} of"
            f" {years:,.0f} segment-years lost, {expected * years:.1f} by the formula",
            flush=True,
        )
    ok = found[True] <= 2 * expected
    return [
        _row("correlated", found[True], expected, "the formula", ok=ok),
        _row("correlated-unspread", found[False], found[True], "spread over owners and networks", ok=True),
    ]


def _row(name: str, value: float, baseline: float, baseline_name: str, *, ok: bool) -> dict[str, object]:
    return {
        "name": f"durability-{name}",
        "value": value,
        "unit": f"segments lost a year, at 10 % of nodes a month ({nines(value):.1f} nines)",
        "baseline": baseline,
        "baseline_name": baseline_name,
        "ratio": round(value / baseline, 2) if baseline else None,
        "goal": None,
        "ok": ok,
    }


def main() -> int:
    """Simulate, and print one line of JSON for `make bench`."""
    parser = argparse.ArgumentParser(description="losses under churn")
    parser.add_argument("--years", type=int, default=400_000, help="segment-years of each profile and delay")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)  # noqa: S311 - a simulation
    found = [
        one_by_one(profile, delay, options.years // (8 if profile is WIDE else 1), draw)
        for profile in (LAB, SMALL, WIDE)
        for delay in DELAYS_DAYS[profile.name]
    ]
    found += all_together(draw)
    print(json.dumps(found))
    return 0 if all(row["ok"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
