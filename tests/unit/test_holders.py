"""What the market remembers of who has which inputs: the latest, and never more than its bounds."""

from __future__ import annotations

from fallow.services.market.holders import INPUTS_MAX, NODES_MAX, Holders

BUYER = b"b" * 20


def test_the_latest_nodes_are_remembered() -> None:
    holders, inputs = Holders(), (BUYER, ("ab" * 32,))
    assert list(holders.of(inputs)) == []
    for number in range(NODES_MAX + 2):
        holders.note(inputs, bytes([number]))
        if number == NODES_MAX - 1:
            holders.note(inputs, bytes([0]))  # used again: it stays longer
    assert set(holders.of(inputs)) == {bytes([number]) for number in range(NODES_MAX + 2)} - {b"\x01", b"\x02"}
    assert list(holders.of((b"c" * 20, ("ab" * 32,)))) == [], "each buyer's inputs are kept apart"


def test_the_inputs_that_were_used_longest_ago_are_forgotten() -> None:
    holders = Holders()
    for number in range(INPUTS_MAX + 1):
        holders.note((BUYER, (str(number),)), b"node")
        holders.note((BUYER, ("0",)), b"node")
    assert not holders.of((BUYER, ("1",)))
    assert holders.of((BUYER, ("0",)))
    assert holders.of((BUYER, (str(INPUTS_MAX),)))
