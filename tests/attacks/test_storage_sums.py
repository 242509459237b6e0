"""Sums of what nodes served that their orders do not make: each is found by whoever has the nodes' own records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.epochs.metering import Recounted
from fallow.domain.epochs.reading import Filed
from fallow.domain.merkle import merkle_root
from fallow.domain.network_facts import LendingUsed
from fallow.domain.records import Body, make_record
from fallow.services.validator.service import Seen
from fallow.services.validator.sums import CLOCKS_MS
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.handed_in import LATE_MS
from fallow.verticals.storage.core.orders import LIMIT_MS, Action, Order, OrderLimit
from fallow.verticals.storage.core.recounting import Recount
from fallow.verticals.storage.core.tariff import EGRESS, REPAIRED, STORED
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, Node
from tests.validators import DAY_MS, FIRST, History, validator

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


# Validators


class Told:
    """Epochs in which one node hands orders in, and the network tells what they make."""

    def __init__(self) -> None:
        self.history = History()
        self.node, self.network = _signer(NODE), _signer(NETWORK)

    def close(self, said: LendingUsed, *handed_in: StorageServed) -> None:
        """Close another epoch, with these records at the end."""
        batches = [*map(self.node.batch, handed_in), self.network.batch(said)]
        self.history.close(alter=lambda others: [*others, *batches])

    def judged(self, folder: Path, part: int = 0) -> list[Seen]:
        """What a validator comes to that has drawn a part of the nodes."""
        drawing = validator(self.history.published(), folder, draw=lambda parts: part % parts)
        return list(drawing.look())


def _signer(key: SigningKey) -> Node:
    made = Node(0)
    made.key, made.id, made.boot, made.seq = key, bytes(key.verify_key), 3, 4
    return made


def _refused(seen: Seen) -> str:
    """Check that it was not signed; returns why."""
    assert seen.vote is None
    assert seen.refusal is not None
    assert seen.refusal.code == "epoch.recount"
    return seen.refusal.message


SERVED = served((1, 700), (2, 300)), served((1, 1000), (2, 300))


def test_a_validator_signs_what_orders_make_and_nothing_else(tmp_path: Path) -> None:
    net = Told()
    net.close(HONEST, *SERVED)
    net.close(told_later(ORDERS, 1300, FIRST + 1), *served_in(FIRST + 1))
    net.close(told_later(ORDERS, 1299, FIRST + 2), *served_in(FIRST + 2))
    first, second, third = net.judged(tmp_path)
    assert first.vote
    assert second.vote
    assert "egress_bytes 1,299, by its orders 1,300" in _refused(third)


def test_a_validator_signs_no_use_of_a_node_that_handed_nothing_in(tmp_path: Path) -> None:
    net = Told()
    net.close(told([order(1, 5)], 5, 4, 9))
    (seen,) = net.judged(tmp_path)
    assert "orders 1, by its orders 0" in _refused(seen)


def test_a_validator_convicts_nobody_of_what_hangs_on_epochs_that_it_does_not_have(tmp_path: Path) -> None:
    net = Told()
    net.close(HONEST, *SERVED)
    net.close(told(ORDERS, 1299, 5, 8, window=8), *SERVED)
    assert all(seen.vote for seen in net.judged(tmp_path / "begins before"))
    net = Told()
    net.close(HONEST, *SERVED)
    net.close(told_later(ORDERS, 1299, FIRST + 1), *served_in(FIRST + 1, after_ms=-1))
    assert all(seen.vote for seen in net.judged(tmp_path / "limits of before"))


def test_which_nodes_a_validator_adds_up_again_hangs_on_what_it_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.services.validator.sums.RECORDS_MAX", 1)
    net = Told()
    net.close(msgspec.structs.replace(HONEST, used={EGRESS: 1299}), *SERVED)
    signed = [net.judged(tmp_path / str(part), part)[-1].vote is not None for part in range(2)]
    assert sorted(signed) == [False, True]
    caught = signed.index(False)
    (tmp_path / str(caught)).rename(tmp_path / "again")
    assert net.judged(tmp_path / "again", 1 - caught) == [], "another draw takes nothing back"


def told_later(orders: Sequence[bytes], egress: int, epoch: int) -> LendingUsed:
    """Of the two records that a node hands in in a later epoch."""
    begins = 4 + 2 * (epoch - FIRST)
    return told(orders, egress, begins, begins + 2, window=7 + epoch - FIRST)


def served_in(epoch: int, after_ms: int = 0) -> tuple[StorageServed, ...]:
    """The same orders as in the first epoch, under limits that were made in another one."""
    made_ms = epoch * DAY_MS + CLOCKS_MS + after_ms
    pairs = ((1, 700), (2, 300)), ((1, 1000), (2, 300))
    return tuple(
        StorageServed(served=[[limit(number, made_ms), order(number, size)] for number, size in some]) for some in pairs
    )
