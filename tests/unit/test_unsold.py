"""What holds although nobody bought it: paid by a network's rules alone, and never more than they name."""

from __future__ import annotations

import hashlib
import random

import msgspec
import pytest

from fallow.domain.epochs.folding import Folded, fold
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules, plain_rules
from fallow.domain.epochs.state import NOTHING
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import Moved
from tests import epoch_world
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import ACCOUNTS, METERINGS, NODES, WORK_ONLY, filed, finished, settled
from tests.unit.test_air_quality import VERTICAL, reading

PPM = 1_000_000
SCHEDULED = 300 * 10**12
"""What the schedule of WORK_ONLY gives for its first epoch."""
POLICIES = {**METERINGS, VERTICAL.name: VERTICAL.metering}


def rules(**unsold: int) -> Rules:
    return msgspec.structs.replace(WORK_ONLY, unsold=unsold, weights={})


def sensors(*minutes: int) -> tuple[list[Filed], dict[bytes, bytes]]:
    """Readings of so many minutes each, by as many nodes; and whose each node is."""
    nodes = [hashlib.sha256(b"sensor %d" % number).digest() for number in range(len(minutes))]
    records, chance = [], random.Random(1)
    for number, count in enumerate(minutes):
        for minute in range(count):
            body, at = reading(minute, *chance.sample(range(90, 400), 10))
            records.append(filed(nodes[number], body, minute)._replace(received_ms=at))
    return records, {node: node[:20] for node in nodes}


def closed(under: Rules, *minutes: int, fee: int = 0) -> Folded:
    """Close an epoch of sensors and, where a fee was paid, of one lease."""
    records, owners = sensors(*minutes)
    if fee:
        accepted, receipt = finished(1)
        records += [filed(NODES[0], accepted), filed(NODES[0], receipt)]
        owners[NODES[0]] = ACCOUNTS[0]
        moved = [Moved(credit=2, income=10 * fee, fee=fee)]
        paid = settled(1, 0, 0, moved=moved, price_microusd_per_hour=3_600_000 * 11 * fee)
        records.append(filed(NETWORK_KEY, paid))
    policies = {name: one for name, one in POLICIES.items() if one is not None}
    return fold(NOTHING._replace(owners=owners), epoch_world.epoch(), records, under, policies)


def incentives(folded: Folded, vertical: str) -> list[int]:
    return sorted(int.from_bytes(line.incentive) for line in folded.lines if line.vertical == vertical)


def test_without_a_rule_nobody_earns_what_nobody_bought() -> None:
    folded = closed(rules(), 3, 1)
    assert incentives(folded, "air_quality") == [0, 0]
    assert folded.state.minted == 0


def test_a_named_vertical_has_its_part_by_units_to_the_last_unit() -> None:
    folded = closed(rules(air_quality=50_000), 3, 1)
    part = SCHEDULED * 50_000 // PPM
    assert incentives(folded, "air_quality") == [part // 4, part * 3 // 4]
    assert folded.state.minted == part == folded.totals["incentive.unsold"] == sum(folded.state.owed.values())


@pytest.mark.parametrize("fakes", [1, 7, 60])
def test_made_up_sensors_take_at_most_the_part_that_the_rules_name(fakes: int) -> None:
    """What it costs: one honest sensor beside so many that an owner made up. Who pays fees loses nothing by it."""
    alone = closed(rules(), fee=100)
    folded = closed(rules(air_quality=50_000), *[2] * (1 + fakes), fee=100)
    taken = incentives(folded, "air_quality")
    part = SCHEDULED * 50_000 // PPM
    assert sum(taken) == part
    assert abs(taken[0] - part // (1 + fakes)) <= 1, "the honest one has its share of what is named"
    assert incentives(folded, "compute") == incentives(alone, "compute")


def test_all_of_it_together_is_never_more_than_the_schedule_gives() -> None:
    folded = closed(rules(air_quality=PPM), 2, 2, fee=100)
    paid = sum(incentives(folded, "compute"))
    assert 0 < paid < SCHEDULED
    assert sum(incentives(folded, "air_quality")) == SCHEDULED - paid
    assert folded.state.minted == SCHEDULED


def test_fees_that_are_left_are_not_spent_by_it() -> None:
    """The bound of all fees counts what was given for fees alone."""
    folded = closed(rules(air_quality=50_000), 2, fee=100)
    alone = closed(rules(), fee=100)
    of = {
        name: {row[0]: row[1] for row in one.state.carried["core.economy"]}["given"]
        for name, one in (("with", folded), ("without", alone))
    }
    assert of["with"] == of["without"]


def test_it_is_written_as_other_rules_are() -> None:
    assert plain_rules({"unsold": {"air_quality": 7}}, WORK_ONLY).unsold == {"air_quality": 7}
    with pytest.raises(InvalidInput):
        plain_rules({"unsold": {"air_quality": PPM + 1}}, WORK_ONLY)
