"""What it takes to add up again what a node of storage served: orders as nodes hand them in, both signatures opened."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from nacl.signing import SigningKey

from fallow.domain.epochs.reading import Filed
from fallow.domain.merkle import merkle_root
from fallow.domain.network_facts import LendingUsed
from fallow.domain.records import Body, make_record
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.orders import LIMIT_MS, Order, OrderLimit
from fallow.verticals.storage.core.recounting import Recount
from fallow.verticals.storage.core.tariff import EGRESS, VERTICAL

NET: Final = "lab"
NETWORK, NODE, CLIENT = (SigningKey(bytes([number]) * 32) for number in range(1, 4))
NETWORK_KEY, NODE_ID = bytes(NETWORK.verify_key), bytes(NODE.verify_key)
A_RECORD: Final = 20
SIZE: Final = 1 << 20


def recount_us(records: int = 500) -> float:
    """Microseconds of a processor for one order, with the sum of all of them held against what was told."""
    pairs = [_pair(number) for number in range(records * A_RECORD)]
    said = [
        _filed(NODE_ID, seq, StorageServed(served=pairs[seq * A_RECORD : (seq + 1) * A_RECORD]))
        for seq in range(records)
    ]
    told = _filed(NETWORK_KEY, 0, _told([order for _, order in pairs], records))
    recount = Recount(NET, NETWORK_KEY, 0)
    began = time.process_time()
    for one in said:
        recount.take(one)
    found = recount.take(told)
    took = time.process_time() - began
    assert found is not None
    assert (found.differs, found.sure) == ("", True)
    return took * 1e6 / len(pairs)


def _pair(number: int) -> list[bytes]:
    limit = OrderLimit(
        net=NET,
        serial=number.to_bytes(16),
        node=NODE_ID,
        client=bytes(CLIENT.verify_key),
        piece=bytes(32),
        action="get",
        bytes_max=SIZE,
        made_ms=0,
        expires_ms=LIMIT_MS,
        whose=bytes(44),
    )
    order = Order(serial=limit.serial, bytes_all=SIZE)
    return [
        limit.seal(lambda message: NETWORK.sign(message).signature),
        order.seal(lambda message: CLIENT.sign(message).signature),
    ]


def _told(orders: Sequence[bytes], records: int) -> LendingUsed:
    return LendingUsed(
        vertical=VERTICAL,
        node=NODE_ID,
        payee=bytes(20),
        window=0,
        until_ms=LIMIT_MS,
        used={EGRESS: SIZE * len(orders)},
        orders=len(orders),
        root=merkle_root(orders),
        begins=[0, 0],
        ends=[0, records],
    )


def _filed(node: bytes, seq: int, body: Body) -> Filed:
    record, _ = make_record(body, net=NET, node=node, boot=0, seq=seq, at=0, new_salt=lambda: bytes(32))
    return Filed(0, 0, node, record, b"", 1)
