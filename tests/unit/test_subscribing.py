"""What settled subscriptions do to an epoch: payees are owed what they earned, and nothing that does not hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fallow.domain.chart import Credit
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import fold
from fallow.domain.epochs.reading import Filed, filed_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import read_state
from fallow.domain.network_facts import Earned, LendingReturned, SubscriptionSettled, Tariffed
from fallow.domain.rewards.pools import ByDate
from fallow.domain.rewards.schedules import Held
from fallow.domain.rewards.tree import Leaf
from fallow.domain.subscriptions import Price
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, EpochFiles, Node
from tests.epoch_world import METERINGS, NODES, WORK_ONLY, enrolled, epoch, filed, finished, settled

PAYEE, OTHER, ASSET = b"p" * 20, b"q" * 20, b"a" * 20


def earned(payee: bytes, income: int, *, before: int = 0, after: int = 1000, meter: str = "bytes") -> Earned:
    used = Tariffed(meter=meter, before=before.to_bytes(32), after=after.to_bytes(32))
    return Earned(payee=payee, used=[used], income={str(int(Credit.PAID)): income} if income else {})


SETTLED = SubscriptionSettled(
    vertical="storage",
    subscription=bytes(16),
    window=0,
    part=0,
    from_ms=0,
    until_ms=3_600_000,
    tariff={"bytes": Price(microusd=3, per=2)},
    earned=[earned(PAYEE, 1350), earned(OTHER, 0, after=0)],
    fee={"2": 120},
    reserve={"2": 30},
)
"""1,500 micro-US-dollars for 1,000 units: a tenth is the fee, and a fifth of that for the reserve."""


def signer(key: Any = NETWORK) -> Node:
    node = Node(1)
    node.key, node.id = key, bytes(key.verify_key)
    return node


def leaves(*bodies: SubscriptionSettled, key: Any = NETWORK) -> list[Leaf]:
    """What is owed after an epoch in which these were signed."""
    made = EpochFiles(5, [signer(key).batch(*bodies)])
    rules = Rules(credit=2, settlement=ASSET)
    closing = close(b"", Epoch(NET, 5, 3_600_000, NETWORK_KEY), filed_records(made.manifest, made.read), rules, {})
    paid = sum(body.fee["2"] for body in {body.window: body for body in bodies}.values())
    assert closing.folded.totals["revenue"] == (paid if closing.folded.leaves else 0)
    assert closing.folded.totals["incentive"] == 0
    return closing.folded.leaves


def test_a_payee_is_owed_what_gateways_served_from_him_and_earns_no_incentive() -> None:
    assert leaves(SETTLED) == [Leaf(PAYEE, ASSET, 1350)]
    following = msgspec.structs.replace(SETTLED, window=1, earned=[earned(PAYEE, 1350, before=1000, after=2000)])
    assert leaves(SETTLED, following) == [Leaf(PAYEE, ASSET, 2700)]


def test_each_subscription_is_held_against_the_tariff_that_it_has_itself() -> None:
    dear = msgspec.structs.replace(
        SETTLED,
        subscription=bytes([1]) * 16,
        window=1,
        tariff={"bytes": Price(microusd=3)},
        earned=[earned(PAYEE, 2700), earned(OTHER, 0, after=0)],
        fee={"2": 240},
        reserve={"2": 60},
    )
    assert leaves(SETTLED, dear) == [Leaf(PAYEE, ASSET, 1350 + 2700)]
    cheap = msgspec.structs.replace(SETTLED, window=2, earned=dear.earned)
    made = EpochFiles(5, [signer().batch(SETTLED, dear, cheap)])
    closing = close(
        b"",
        Epoch(NET, 5, 3_600_000, NETWORK_KEY),
        filed_records(made.manifest, made.read),
        Rules(credit=2, settlement=ASSET),
        {},
    )
    assert closing.folded.leaves == [Leaf(PAYEE, ASSET, 1350 + 2700)], "what the dear one pays is above its price"


def test_a_window_counts_once_however_often_it_is_told() -> None:
    assert leaves(SETTLED, SETTLED) == leaves(SETTLED)


@pytest.mark.parametrize(
    "wrong",
    [
        earned(PAYEE, 1501),
        earned(PAYEE, 1350, before=1000),
        earned(PAYEE, 1350, before=2000),
        earned(PAYEE, 1, meter="other"),
        earned(PAYEE, 2, before=10**30, after=10**30 + 1),
    ],
)
def test_nobody_gets_more_than_his_quantities_cost(wrong: Earned) -> None:
    assert leaves(msgspec.structs.replace(SETTLED, earned=[wrong])) == []


def test_what_a_node_says_of_subscriptions_is_nothing() -> None:
    assert leaves(SETTLED, key=Node(2).key) == []


def test_its_fees_take_nothing_from_what_others_may_earn() -> None:
    rules = msgspec.structs.replace(WORK_ONLY, weights={}, schedule=ByDate(base=(10**13).to_bytes(32), period=3))

    def incentive(*more: Filed) -> int:
        said = [filed(NODES[0], enrolled(0, 0)), *(filed(NODES[0], body) for body in finished(1))]
        records = [*said, filed(NETWORK_KEY, settled(1, 0, 0)), *more]
        return fold(read_state(b""), epoch(), records, rules, METERINGS).totals["incentive"]

    assert incentive() > 0
    assert incentive(filed(NETWORK_KEY, SETTLED)) == incentive()


def test_what_is_held_of_a_payees_pay_is_owed_once_he_has_handed_back_what_he_lent() -> None:
    held = Held(withheld_ppm=[750_000, 500_000], step=30, release=90)
    rules = Rules(credit=2, settlement=ASSET, held=held)
    node, forger = Node(1), Node(2)
    node.key, node.id = NETWORK, NETWORK_KEY
    back = LendingReturned(vertical="storage", node=bytes(32), account=PAYEE, receipt=b"signed")
    later = msgspec.structs.replace(SETTLED, window=1, earned=[earned(PAYEE, 1000, before=1000, after=2000)])
    opening, owed, kept, still = b"", list[int](), list[Any](), list[int]()
    for number, batches in enumerate(
        ([node.batch(SETTLED)], [forger.batch(back)], [node.batch(later, back)], [node.batch(back)])
    ):
        made = EpochFiles(number, batches)
        records = filed_records(made.manifest, made.read)
        closing = close(opening, Epoch(NET, number, 3_600_000, NETWORK_KEY), records, rules, {})
        opening = closing.files["state"]
        owed.append(sum(leaf.cumulative for leaf in closing.folded.leaves if leaf.account == PAYEE))
        still.append(closing.folded.totals["held.usage"])
        kept.append([one for line in closing.folded.lines if line.account == PAYEE for one in line.kept])
    assert owed == [338, 338, 2350, 2350], "a node's word returns nothing, and nothing is returned twice"
    assert [int.from_bytes(one.released) for rows in kept for one in rows] == [0, 1762]
    assert still == [1012, 1012, 0, 0]
