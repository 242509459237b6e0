"""Sums of what nodes served that their orders do not make: each is found by whoever has the nodes' own records."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.epochs.metering import Recounted
from fallow.domain.epochs.reading import Filed
from fallow.domain.merkle import merkle_root
from fallow.domain.network_facts import LendingUsed
from fallow.domain.records import Body, make_record
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.handed_in import LATE_MS
from fallow.verticals.storage.core.orders import LIMIT_MS, Action, Order, OrderLimit
from fallow.verticals.storage.core.recounting import Recount
from fallow.verticals.storage.core.tariff import EGRESS, REPAIRED, STORED
from tests.epoch_files import NET, NETWORK, NETWORK_KEY

NODE, CLIENT = SigningKey(b"m" * 32), SigningKey(b"c" * 32)
NODE_ID = bytes(NODE.verify_key)
BEGAN_MS = 1_000_000_000


def limit(number: int, made_ms: int = BEGAN_MS, action: Action = "get", by: SigningKey = NETWORK) -> bytes:
    made = OrderLimit(
        net=NET,
        serial=number.to_bytes(16),
        node=NODE_ID,
        client=bytes(CLIENT.verify_key),
        piece=bytes(32),
        action=action,
        bytes_max=10_000,
        made_ms=made_ms,
        expires_ms=made_ms + LIMIT_MS,
    )
    return made.seal(lambda message: by.sign(message).signature)


def order(number: int, size: int, by: SigningKey = CLIENT) -> bytes:
    return Order(serial=number.to_bytes(16), bytes_all=size).seal(lambda message: by.sign(message).signature)


def served(*pairs: tuple[int, int]) -> StorageServed:
    return StorageServed(served=[[limit(number), order(number, size)] for number, size in pairs])


def filed(body: Body, seq: int, node: bytes = NODE_ID, received_ms: int = BEGAN_MS + 5) -> Filed:
    record, _ = make_record(body, net=NET, node=node, boot=3, seq=seq, at=5, new_salt=lambda: bytes(32))
    return Filed(0, 0, node, record, b"", received_ms)


def told(orders: Sequence[bytes], egress: int, begins: int, ends: int, window: int = 7) -> LendingUsed:
    """What the network says of the node's records from one number to another."""
    return LendingUsed(
        vertical="storage",
        node=NODE_ID,
        payee=b"p" * 20,
        window=window,
        until_ms=BEGAN_MS + 10,
        used={STORED: 5, EGRESS: egress},
        orders=len(orders),
        root=merkle_root(orders),
        begins=[3, begins],
        ends=[3, ends],
    )


HANDED_IN = (filed(served((1, 700), (2, 300)), 4), filed(served((1, 1000), (2, 300)), 5))
ORDERS = [order(1, 700), order(2, 300), order(1, 1000)]
HONEST = told(ORDERS, 1300, 4, 6)


def recounted(*records: Filed, since_ms: int = BEGAN_MS) -> list[Recounted]:
    recount = Recount(NET, NETWORK_KEY, since_ms)
    return [found for one in records if (found := recount.take(one)) is not None]


def said(body: LendingUsed) -> Filed:
    return filed(body, body.window, NETWORK_KEY)


def test_what_orders_make_is_right_window_after_window() -> None:
    repairs = StorageServed(served=[[limit(9, action="repair_get"), order(9, 50)]])
    later = msgspec.structs.replace(told([order(9, 50)], 0, 6, 8, window=8), used={REPAIRED: 50})
    again = filed(served((1, 1000)), 6)
    found = recounted(*HANDED_IN, said(HONEST), again, filed(repairs, 7), said(later))
    assert [(one.differs, one.sure) for one in found] == [("", True)] * 2
    assert f"hour 7 of node {NODE_ID.hex()}" == found[0].what


@pytest.mark.parametrize(
    ("lie", "differs"),
    [
        (told(ORDERS, 1301, 4, 6), "egress_bytes 1,301, by its orders 1,300"),
        (told(ORDERS, 1299, 4, 6), "egress_bytes 1,299, by its orders 1,300"),
        (msgspec.structs.replace(HONEST, used={EGRESS: 1200, REPAIRED: 100}), "repair_bytes 100, by its orders 0"),
        (told([*ORDERS[:2], order(1, 900)], 1300, 4, 6), "its root is over other orders"),
        (told([ORDERS[1], ORDERS[0], ORDERS[2]], 1300, 4, 6), "its root is over other orders"),
        (told(ORDERS[:2], 1000, 4, 6), "orders 2, by its orders 3"),
        (told([*ORDERS, order(5, 99)], 1399, 4, 6), "orders 4, by its orders 3"),
        (told(ORDERS, 1300, 5, 6), "egress_bytes 1,300, by its orders 300"),
    ],
)
def test_a_sum_that_its_orders_do_not_make_is_found(lie: LendingUsed, differs: str) -> None:
    (found,) = recounted(*HANDED_IN, said(lie))
    assert differs in found.differs
    assert found.sure


def test_the_same_orders_make_no_second_sum() -> None:
    again = filed(served((1, 1000), (2, 300)), 6)
    first, second = recounted(*HANDED_IN, said(HONEST), again, said(told(ORDERS, 1300, 6, 7, window=8)))
    assert not first.differs
    assert "egress_bytes 1,300, by its orders 0" in second.differs
    assert second.sure


def test_orders_that_a_node_hands_in_over_and_over_fill_no_auditors_memory() -> None:
    recount = Recount(NET, NETWORK_KEY, BEGAN_MS)
    for one in (*HANDED_IN, *(filed(served((1, 1000), (2, 300)), seq) for seq in range(6, 12))):
        recount.take(one)
    assert sum(map(len, recount._waiting.values())) == len(ORDERS)
    found = recount.take(said(HONEST))
    assert found is not None
    assert (found.differs, found.sure) == ("", True)
    assert not any(recount._waiting.values())


def test_forged_foreign_and_late_orders_make_nothing() -> None:
    forged = StorageServed(served=[[limit(1, by=CLIENT), order(1, 9)], [limit(2), order(2, 9, by=NODE)]])
    brought = StorageServed(served=[[limit(3, action="put"), order(3, 9)]])
    late = filed(served((4, 9)), 6, received_ms=BEGAN_MS + LIMIT_MS + LATE_MS)
    other = filed(served((5, 9)), 7, node=bytes(CLIENT.verify_key))
    lie = told([order(4, 9)], 9, 4, 8)
    (found,) = recounted(filed(forged, 4), filed(brought, 5), late, other, said(lie))
    assert "egress_bytes 9, by its orders 0" in found.differs


def test_a_nodes_word_is_no_sum() -> None:
    assert recounted(*HANDED_IN, filed(HONEST, 6)) == []


def test_what_earlier_epochs_may_explain_is_not_called_a_lie() -> None:
    old = StorageServed(served=[[limit(1, BEGAN_MS - 1), order(1, 700)]])
    (counted_before,) = recounted(filed(old, 4), said(told([], 0, 4, 5)))
    (begins_before,) = recounted(*HANDED_IN, said(told([order(3, 5), *ORDERS], 1305, 3, 6)))
    for found in (counted_before, begins_before):
        assert found.differs
        assert not found.sure
    (found,) = recounted(*HANDED_IN, said(told([order(3, 5), *ORDERS], 1305, 3, 6)), since_ms=0)
    assert found.sure, "nothing is earlier than a network's first epoch"
