"""What a node may sign about its leases without end, and what of it is carried on."""

from __future__ import annotations

import pytest

from fallow.domain.epochs import leasing
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.lines import read_lines
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import read_state
from fallow.domain.facts import LeaseAccepted, UsageReceipt
from fallow.domain.records import COUNT_MAX
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import METERINGS, NODES, enrolled, epoch, filed, lease, settled


def test_a_node_that_claims_more_than_numbers_hold_stops_no_closing() -> None:
    """Five receipts of 2^62 ms each come to more than the 64 bits of an encoded number."""
    endless = [UsageReceipt(lease=lease(1), window=at, used_ms=COUNT_MAX, final=False) for at in range(5)]
    words = [
        (NODES[0], enrolled(0, 0)),
        (NODES[1], enrolled(1, 1)),
        *((node, LeaseAccepted(lease=lease(number))) for number, node in enumerate(NODES[:2], 1)),
        *((NODES[0], receipt) for receipt in endless),
        (NODES[1], UsageReceipt(lease=lease(2), window=0, used_ms=1000, final=True)),
        (NETWORK_KEY, settled(2, 1, 1)),
    ]
    records = [filed(node, body, at) for at, (node, body) in enumerate(words)]
    closing = close(b"", epoch(7), records, Rules(credit=2), METERINGS)
    earned = {line.node: int.from_bytes(line.usage) for line in read_lines(closing.files["lines"]) if line.vertical}
    assert earned == {NODES[0]: 0, NODES[1]: 900}
    again = close(closing.files["state"], epoch(8), [], Rules(credit=2), METERINGS)
    ((name, node, *_),) = read_state(again.files["state"]).carried["compute"]
    assert (name, node) == (lease(1), NODES[0])


def test_who_accepts_leases_without_end_forgets_his_own_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "OPEN_A_NODE_MAX", 3)
    opening = b""
    for number, leases in ((7, [9, 4]), (8, [5, 2, 9])):
        words = [(NODES[0], lease(each)) for each in leases] + [(NODES[1], lease(1))]
        records = [filed(node, LeaseAccepted(lease=name), at) for at, (node, name) in enumerate(words)]
        opening = close(opening, epoch(number), records, Rules(), METERINGS).files["state"]
    rows = read_state(opening).carried["compute"]
    assert [(name, node) for name, node, *_ in rows] == [
        (lease(1), NODES[1]),
        (lease(2), NODES[0]),
        (lease(5), NODES[0]),
        (lease(9), NODES[0]),
    ], "of those of the first epoch the lower number counts as the older"
