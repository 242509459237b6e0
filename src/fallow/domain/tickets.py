"""Tickets: what lets a node read a lease's inputs and write its outputs, and nothing else.

A ticket is signed by the network, so that any gateway or relay can check it without asking anybody. The node sends
its own signature over the ticket along with it: a ticket that leaked is worth nothing without the node's key.
"""

from __future__ import annotations

from typing import ClassVar

from fallow.domain.identity import verify
from fallow.domain.signing import Sign, Signed, signed_message

PROOF_TAG = "fallow/ticket-proof/1"


class Ticket(Signed, frozen=True, kw_only=True):
    """A right of one node for one lease, until `expires_at` (milliseconds since 1970).

    `owner` is the account whose blobs they are; `reads` are SHA-256 hashes; `write_bytes_max` bounds each blob that
    the node writes.
    """

    tag: ClassVar[str] = "fallow/ticket/1"
    net: str
    node: bytes
    lease: bytes
    owner: bytes
    reads: list[bytes]
    write_bytes_max: int
    expires_at: int


def prove(ticket: bytes, sign: Sign) -> bytes:
    """Sign a sealed ticket with the key of the node that it was made for."""
    return sign(signed_message(PROOF_TAG, ticket))


def proven(ticket: bytes, node: bytes, proof: bytes) -> bool:
    """Whether `proof` shows that the sender of the sealed `ticket` holds the key of `node`."""
    return verify(node, signed_message(PROOF_TAG, ticket), proof)
