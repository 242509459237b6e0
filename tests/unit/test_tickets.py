"""Tickets: worth nothing without the key of the node that they were made for."""

from __future__ import annotations

from nacl.signing import SigningKey

from fallow.domain.signing import Signed, signed_message
from fallow.domain.tickets import PROOF_TAG, Ticket, prove, proven

NETWORK, NODE, THIEF = (SigningKey(bytes([number]) * 32) for number in range(3))


def ticket() -> bytes:
    made = Ticket(
        net="n",
        node=bytes(NODE.verify_key),
        lease=bytes(16),
        owner=bytes(20),
        reads=[bytes(32)],
        write_bytes_max=10,
        expires_at=99,
    )
    return made.seal(lambda message: NETWORK.sign(message).signature)


def test_the_node_proves_that_the_ticket_is_its_own() -> None:
    proof = prove(ticket(), lambda message: NODE.sign(message).signature)
    opened = Ticket.open(ticket(), bytes(NETWORK.verify_key))
    assert proven(ticket(), opened.node, proof)


def test_a_stolen_ticket_is_worth_nothing() -> None:
    proof = prove(ticket(), lambda message: THIEF.sign(message).signature)
    assert not proven(ticket(), bytes(NODE.verify_key), proof)


def test_a_proof_is_for_one_ticket() -> None:
    proof = prove(ticket(), lambda message: NODE.sign(message).signature)
    assert not proven(ticket() + b"\0", bytes(NODE.verify_key), proof)


def test_a_proof_is_for_one_purpose() -> None:
    """The node's signature over a ticket under any other tag proves nothing."""
    other = NODE.sign(signed_message("fallow/batch/1", ticket())).signature
    assert not proven(ticket(), bytes(NODE.verify_key), other)
    assert not proven(ticket(), bytes(NODE.verify_key), b"")


def test_all_tags_differ() -> None:
    tags = [kind.tag for kind in Signed.__subclasses__() if kind.__module__.startswith("fallow.")]
    assert len({*tags, PROOF_TAG}) == len(tags) + 1
