"""Storage's pay by node: divided to the micro-dollar, held by each node's own age, returned and forfeited by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.epochs.folding import Folded, fold
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import NOTHING, State
from fallow.domain.network_facts import (
    Earned,
    LendingForfeited,
    LendingUsed,
    NodeLendingReturned,
    SubscriptionSettled,
    Tariffed,
)
from fallow.domain.records import Body
from fallow.domain.rewards.schedules import Held
from fallow.verticals.storage.core.metering import EGRESS_BYTE_HOURS, StorageMetering
from fallow.verticals.storage.core.tariff import EGRESS, REPAIRED, STORED, TARIFF
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import ACCOUNTS, COIN, HOLDING, NODES, WORK_ONLY, epoch, filed

POLICY: Mapping[str, Metering] = {"storage": StorageMetering()}
PLAIN = Rules(credit=2, settlement=COIN)
HELD = msgspec.structs.replace(PLAIN, held=Held(withheld_ppm=[750_000, 500_000, 0], step=1, release=90))
OWNED = NOTHING._replace(owners={NODES[0]: ACCOUNTS[0], NODES[1]: ACCOUNTS[0], NODES[2]: ACCOUNTS[2]})
HUGE = (10**20).to_bytes(32)


def used(node: int, window: int, hours: int = 100, egress: int = 0) -> LendingUsed:
    return LendingUsed(
        vertical="storage",
        node=NODES[node],
        payee=OWNED.owners[NODES[node]],
        window=window,
        until_ms=window * 3_600_000,
        used={STORED: hours, EGRESS: egress} if egress else {STORED: hours},
        orders=1 if egress else 0,
        root=bytes(32),
        begins=[1, window],
        ends=[1, window + 1],
    )


def paid(window: int, incomes: Mapping[bytes, int], fee: int = 0, vertical: str = "storage") -> SubscriptionSettled:
    return SubscriptionSettled(
        vertical=vertical,
        subscription=bytes(16),
        window=window,
        part=0,
        from_ms=0,
        until_ms=1,
        tariff=TARIFF,
        earned=[
            Earned(payee=payee, used=[Tariffed(meter=STORED, before=bytes(32), after=HUGE)], income={"2": income})
            for payee, income in incomes.items()
        ],
        fee={"2": fee} if fee else {},
    )


def records(*bodies: Body, node: bytes = NETWORK_KEY) -> list[Filed]:
    return [filed(node, body, place) for place, body in enumerate(bodies)]


def closed(
    opening: State, *bodies: Body, rules: Rules = PLAIN, policies: Mapping[str, Metering] = POLICY, number: int = 7
) -> Folded:
    return fold(opening, epoch(number), records(*bodies), rules, policies)


def by_node(folded: Folded) -> dict[bytes, int]:
    """What lines of storage earned; what is of no node is the network's own."""
    return {line.node: int.from_bytes(line.usage) for line in folded.lines if int.from_bytes(line.usage)}


def kept(folded: Folded, node: bytes) -> list[tuple[int, int, int, str]]:
    """Held, released, forfeited, and why, of a node's usage."""
    return [
        (int.from_bytes(one.held), int.from_bytes(one.released), int.from_bytes(one.forfeited), one.code)
        for line in folded.lines
        for one in line.kept
        if line.node == node and one.part == "usage"
    ]


def test_a_byte_that_is_sent_weighs_as_in_the_tariff() -> None:
    stored, sent = TARIFF[STORED], TARIFF[EGRESS]
    assert sent.microusd * stored.per == EGRESS_BYTE_HOURS * stored.microusd * sent.per


def test_an_account_is_paid_by_what_each_of_its_nodes_was_used_for() -> None:
    folded = closed(OWNED, used(0, 1, 100), used(1, 1, 240, egress=1), used(2, 1), paid(0, {ACCOUNTS[0]: 1300}))
    assert by_node(folded) == {NODES[0]: 100, NODES[1]: 1200}
    assert [(leaf.account, leaf.cumulative) for leaf in folded.leaves] == [(ACCOUNTS[0], 1300)]


@given(
    uses=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**15), st.integers(0, 10**12)), max_size=8),
    windows=st.lists(
        st.dictionaries(st.sampled_from([*ACCOUNTS, b"x" * 20]), st.integers(1, 10**9), min_size=1), max_size=4
    ),
)
def test_nobody_is_owed_another_sum_than_the_settled_windows_paid_him(
    uses: list[tuple[int, int, int]], windows: list[dict[bytes, int]]
) -> None:
    told = [used(node, number, hours, egress) for number, (node, hours, egress) in enumerate(uses, 1)]
    told = [msgspec.structs.replace(one, begins=[1, 1], ends=[1, 1 + one.orders]) for one in told]
    money = [paid(number, incomes, fee=sum(incomes.values()) // 9 + 1) for number, incomes in enumerate(windows)]
    divided, whole = closed(OWNED, *told, *money), closed(OWNED, *told, *money, policies={})
    assert divided.leaves == whole.leaves
    assert {name: value for name, value in divided.totals.items() if value} == {
        name: value for name, value in whole.totals.items() if value
    }


def test_without_the_policy_a_payee_has_one_line_as_ever() -> None:
    folded = closed(OWNED, used(0, 1), paid(0, {ACCOUNTS[0]: 5}), policies={})
    assert by_node(folded) == {NETWORK_KEY: 5}
    assert "core.weights" not in {name for name, rows in folded.state.carried.items() if rows}


def test_what_is_paid_when_nothing_was_used_goes_by_what_was_used_last() -> None:
    first = closed(OWNED, used(0, 1), used(1, 1, 300))
    later = closed(first.state, paid(0, {ACCOUNTS[0]: 400}), number=8)
    assert by_node(later) == {NODES[0]: 100, NODES[1]: 300}
    assert by_node(closed(later.state, used(1, 2), paid(0, {ACCOUNTS[0]: 400}), number=9)) == {NODES[1]: 400}


def test_subscriptions_to_something_else_are_of_no_node_that_stores() -> None:
    folded = closed(OWNED, used(0, 1), paid(0, {ACCOUNTS[0]: 400}, vertical="sensors"))
    assert by_node(folded) == {NETWORK_KEY: 400}


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("used.repeated", used(0, 1, 10**9)),
        ("used.repeated", msgspec.structs.replace(used(0, 1, 10**9), begins=[1, 2], ends=[1, 9])),
        ("used.not_the_next", msgspec.structs.replace(used(0, 2, egress=5), begins=[1, 1])),
        ("used.not_the_next", msgspec.structs.replace(used(0, 2, egress=5), begins=[1, 3], ends=[1, 5])),
        ("used.orders", msgspec.structs.replace(used(0, 2, egress=5), orders=0)),
        ("used.orders", msgspec.structs.replace(used(0, 2), orders=3)),
        ("used.orders", msgspec.structs.replace(used(0, 2, egress=5), ends=[1, 2])),
        ("used.meter", msgspec.structs.replace(used(0, 2), used={"reputation": 10**9})),
    ],
)
def test_what_does_not_follow_the_record_before_weighs_nothing(code: str, wrong: LendingUsed) -> None:
    first, pay = used(0, 1, 100, egress=1), paid(0, {ACCOUNTS[0]: 2120})
    folded = closed(OWNED, first, used(1, 1, 1060), wrong, pay)
    assert by_node(folded) == {NODES[0]: 1060, NODES[1]: 1060}
    assert ("rejected", code, 1) in [one for line in folded.lines for one in line.verdicts]
    carried = closed(closed(OWNED, first, used(1, 1, 1060)).state, wrong, pay, number=8)
    assert by_node(carried) == {NODES[0]: 1060, NODES[1]: 1060}, "in a later epoch neither"


def test_one_that_is_refused_does_not_have_all_others_refused() -> None:
    wrong = msgspec.structs.replace(used(0, 2, egress=5), begins=[1, 3], ends=[1, 5])
    right = msgspec.structs.replace(used(0, 3, egress=5), begins=[1, 5], ends=[1, 6])
    verdicts = [one for line in closed(OWNED, used(0, 1, egress=1), wrong, right).lines for one in line.verdicts]
    assert sorted(verdicts) == [("accepted", "", 2), ("rejected", "used.not_the_next", 1)]


def test_what_nodes_say_of_use_returns_or_forfeits_nothing() -> None:
    words: Sequence[Body] = [
        used(0, 1),
        NodeLendingReturned(vertical="storage", node=NODES[0], account=ACCOUNTS[0], receipt=b"", last=True),
        LendingForfeited(vertical="storage", node=NODES[1], code="storage.away", evidence=[]),
    ]
    opening = closed(OWNED, used(0, 1), used(1, 1), paid(0, {ACCOUNTS[0]: 2000}), rules=HELD).state
    folded = fold(opening, epoch(8), records(*words, node=NODES[0]), HELD, POLICY)
    assert not any(kept(folded, node) for node in NODES)
    assert folded.totals["held.usage"] == 1500


def test_a_new_node_of_an_old_account_is_held_by_its_own_age() -> None:
    """What an account a node was the way around, and what an account for all nodes would be."""
    state = OWNED
    for number in range(3):
        state = closed(state, used(0, number + 1), paid(0, {ACCOUNTS[0]: 1000}), rules=HELD, number=number).state
    folded = closed(state, used(0, 4), used(1, 4), paid(0, {ACCOUNTS[0]: 2000}), rules=HELD, number=3)
    assert [held for held, *_ in kept(folded, NODES[0])] == [0]
    assert kept(folded, NODES[1]) == [(750, 0, 0, "")]


@pytest.mark.parametrize("whose", ["nobody's", "another account's"])
def test_whose_a_node_says_that_it_is_does_not_save_it_from_being_held(whose: str) -> None:
    """Where it is paid the network says: its own word would have its pay go to an older node, by its age."""
    owners = {node: account for node, account in OWNED.owners.items() if node != NODES[1]}
    state = OWNED._replace(owners=owners if whose == "nobody's" else {**owners, NODES[1]: ACCOUNTS[2]})
    for number in range(3):
        state = closed(state, used(0, number + 1), paid(0, {ACCOUNTS[0]: 1000}), rules=HELD, number=number).state
    folded = closed(state, used(0, 4), used(1, 4), paid(0, {ACCOUNTS[0]: 2000}), rules=HELD, number=3)
    assert [held for held, *_ in kept(folded, NODES[0])] == [0]
    assert kept(folded, NODES[1]) == [(750, 0, 0, "")]


def test_who_earned_before_there_was_pay_by_node_is_not_new_again() -> None:
    state = OWNED
    for number in range(2):
        state = closed(state, paid(0, {ACCOUNTS[0]: 1000}), rules=HELD, policies={}, number=number).state
    folded = closed(state, used(0, 9), paid(0, {ACCOUNTS[0]: 1000}), rules=HELD, number=2)
    assert by_node(folded) == {NODES[0]: 1000}
    assert kept(folded, NODES[0]) == []
    later = closed(folded.state, used(1, 10), paid(0, {ACCOUNTS[0]: 1000}), rules=HELD, number=3)
    assert kept(later, NODES[1]) == [(750, 0, 0, "")], "but once only"


def test_a_node_that_leaves_in_good_order_gets_its_own_and_the_last_one_what_is_the_accounts() -> None:
    before = closed(OWNED, paid(0, {ACCOUNTS[0]: 1000}), rules=HELD, policies={}, number=0).state
    opening = closed(before, used(0, 1), used(1, 1), paid(0, {ACCOUNTS[0]: 2000}), rules=HELD, number=1)
    back = NodeLendingReturned(vertical="storage", node=NODES[0], account=ACCOUNTS[0], receipt=b"r", last=False)
    first = closed(opening.state, back, rules=HELD, number=2)
    assert kept(first, NODES[0]) == [(0, 500, 0, "")]
    assert kept(first, NODES[1]) == kept(first, NETWORK_KEY) == []
    second = msgspec.structs.replace(back, node=NODES[1], last=True)
    last = closed(first.state, back, second, rules=HELD, number=3)
    assert (kept(last, NODES[0]), kept(last, NODES[1])) == ([], [(0, 500, 0, "")])
    assert kept(last, NETWORK_KEY) == [(0, 750, 0, "")]
    assert last.totals["held.usage"] == 0
    assert [leaf.cumulative for leaf in last.leaves] == [3000]


def test_a_node_that_audits_disqualify_forfeits_its_own_and_its_neighbour_keeps_his() -> None:
    opening = closed(OWNED, used(0, 1), used(1, 1), paid(0, {ACCOUNTS[0]: 2000}), rules=HELD, number=0).state
    out = LendingForfeited(vertical="storage", node=NODES[1], code="storage.audits_failed", evidence=[bytes(32)])
    other = msgspec.structs.replace(out, vertical="sensors", node=NODES[0])
    folded = closed(opening, out, other, rules=HELD, number=1)
    assert kept(folded, NODES[1]) == [(0, 0, 750, "storage.audits_failed")]
    assert kept(folded, NODES[0]) == []
    assert (folded.totals["held.usage"], folded.totals["forfeited.usage"]) == (750, 750)
    again = closed(folded.state, out, rules=HELD, number=2)
    assert again.totals["forfeited.usage"] == 750


def test_incentives_are_for_fees_that_subscriptions_paid_and_bounded_by_them() -> None:
    """A tenth of what only a gateway attests, by the rules as they come: less than the fee in any case."""
    fees = {ACCOUNTS[0]: 9000, ACCOUNTS[2]: 4500}
    bodies = (used(0, 1), used(1, 1), used(2, 1), paid(0, fees, fee=1500))
    earned: dict[Any, int] = {
        line.node: int.from_bytes(line.incentive) for line in closed(OWNED, *bodies, rules=WORK_ONLY).lines
    }
    assert earned[NODES[0]] == earned[NODES[1]] == earned[NODES[2]]
    price = 10**18 // WORK_ONLY.price
    assert 0 < sum(earned.values()) <= 150 * price
    assert not any(int.from_bytes(line.incentive) for line in closed(OWNED, *bodies[3:], rules=WORK_ONLY).lines)
    held = closed(OWNED, *bodies, rules=HOLDING)
    assert held.totals["held.incentive"] > 0


def test_repairs_weigh_nothing() -> None:
    repaired = msgspec.structs.replace(used(1, 1, egress=5), used={REPAIRED: 10**15})
    folded = closed(OWNED, used(0, 1), repaired, paid(0, {ACCOUNTS[0]: 100}))
    assert by_node(folded) == {NODES[0]: 100}
