"""An operator who pays an account for use that none of its nodes is told to have had: whoever audits sees it."""

from __future__ import annotations

import msgspec

from fallow.domain.epochs.paid_use import AHEAD_MS, BEHIND_MS, Above, Comparison, PaidUse
from fallow.domain.network_facts import Earned, LendingUsed, SubscriptionSettled, Tariffed
from fallow.domain.records import Body
from fallow.verticals.storage.core.tariff import EGRESS, HOUR_MS, STORED, TARIFF
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import NODES, filed

SINCE_MS, UNTIL_MS = 24 * HOUR_MS, 72 * HOUR_MS
FRIEND, HONEST = b"f" * 20, b"h" * 20
OWNERS = {NODES[0]: FRIEND, NODES[1]: HONEST, NODES[2]: HONEST}


def used(node: bytes, window: int, stored: int = 100, egress: int = 40) -> LendingUsed:
    """What the network tells of an hour of a node, behind its end."""
    return LendingUsed(
        vertical="storage",
        node=node,
        payee=OWNERS[node],
        window=window,
        until_ms=window * HOUR_MS,
        used={STORED: stored, EGRESS: egress},
        orders=1,
        root=bytes(32),
        begins=[1, window],
        ends=[1, window + 1],
    )


def paid(window: int, more: dict[bytes, dict[str, int]], at_ms: int | None = None) -> SubscriptionSettled:
    """A window of one subscription that is over behind an hour."""
    return SubscriptionSettled(
        vertical="storage",
        subscription=bytes(16),
        window=window,
        part=0,
        from_ms=(window - 1) * HOUR_MS,
        until_ms=window * HOUR_MS if at_ms is None else at_ms,
        tariff=TARIFF,
        earned=[
            Earned(
                payee=payee,
                used=[
                    Tariffed(meter=meter, before=(10**6).to_bytes(32), after=(10**6 + quantity).to_bytes(32))
                    for meter, quantity in by_meter.items()
                ],
                income={"2": 1},
            )
            for payee, by_meter in more.items()
        ],
    )


def compared(*bodies: Body, node: bytes = NETWORK_KEY) -> PaidUse:
    comparison = Comparison(NETWORK_KEY, SINCE_MS, UNTIL_MS)
    for place, body in enumerate(bodies):
        comparison.take(filed(node, body, place))
    return comparison.found()


def three_days(friend: int = 100, honest: int = 200, egress: int = 40) -> list[Body]:
    """Each hour each node is told of, and its account paid; the friend's for so much in place of 100 and 40."""
    told: list[Body] = [used(node, hour) for hour in range(1, 73) for node in NODES[:3]]
    by_hour = {FRIEND: {STORED: friend, EGRESS: egress}, HONEST: {STORED: honest, EGRESS: 80}}
    return [*told, *(paid(hour, by_hour) for hour in range(1, 73))]


def test_who_is_paid_for_what_is_told_of_his_nodes_is_not_named() -> None:
    assert compared(*three_days()) == PaidUse(2, [])


def test_an_operator_who_moves_pay_to_a_friend_is_seen_though_each_buyer_pays_what_he_used() -> None:
    """Of each hour a tenth of what others stored is told as the friend's: what buyers pay in all stays the same."""
    (found,) = compared(*three_days(friend=120, honest=180)).above
    assert (found.account, found.meter) == (FRIEND, STORED)
    assert found.paid == 120 * 47
    assert 100 * 48 <= found.used < 120 * 47


def test_bytes_that_no_orders_were_told_of_are_seen_as_well() -> None:
    (found,) = compared(*three_days(egress=44)).above
    assert (found.account, found.meter, found.paid) == (FRIEND, EGRESS, 44 * 47)


def test_what_is_hidden_is_what_was_used_in_a_few_hours_at_most() -> None:
    """What was told of from two hours ahead on counts: so much can be paid without being seen, and a unit a node."""
    ahead = compared(*three_days(), paid(500, {FRIEND: {STORED: 100 * 4 + 1}}, SINCE_MS))
    assert ahead == PaidUse(2, [])
    (found,) = compared(*three_days(), paid(500, {FRIEND: {STORED: 100 * 4 + 2}}, SINCE_MS)).above
    assert found == Above("storage", FRIEND, STORED, 100 * 51 + 2, 100 * 51)


def test_what_may_not_have_been_told_of_yet_accuses_nobody() -> None:
    huge = {FRIEND: {STORED: 10**9}}
    assert not compared(*three_days(), paid(500, huge, SINCE_MS - 1)).above
    assert not compared(*three_days(), paid(500, huge, UNTIL_MS - BEHIND_MS)).above
    assert compared(*three_days(), paid(500, huge, UNTIL_MS - BEHIND_MS - 1)).above


def test_a_window_counts_once_however_often_it_is_told_or_settled() -> None:
    again = [used(NODES[0], 50, stored=10**9), used(NODES[0], 72, stored=10**9)]
    assert compared(*three_days(friend=120), *again).above
    assert not compared(*three_days(), *(paid(60, {FRIEND: {STORED: 100}}) for _ in range(9))).above


def test_what_was_told_long_before_pays_for_nothing() -> None:
    early = used(NODES[0], 1, stored=10**9)
    assert early.until_ms < SINCE_MS - AHEAD_MS
    assert compared(early, *three_days(friend=120)).above


def test_a_nodes_word_neither_pays_nor_was_used() -> None:
    assert compared(*three_days(friend=120), node=NODES[0]) == PaidUse(0, [])


def test_verticals_that_tell_of_no_use_by_node_and_malformed_records_are_left_out() -> None:
    other = msgspec.structs.replace(paid(30, {FRIEND: {STORED: 10**9}}), vertical="sensors")
    broken = filed(NETWORK_KEY, used(NODES[0], 80))
    broken = broken._replace(record=msgspec.structs.replace(broken.record, body={"vertical": "storage"}))
    comparison = Comparison(NETWORK_KEY, SINCE_MS, UNTIL_MS)
    comparison.take(broken)
    assert comparison.found() == PaidUse(0, [])
    assert compared(other, *three_days()) == PaidUse(2, [])
