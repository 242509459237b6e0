"""What an audit asks, how often, how long a node has to answer, and what its answer is worth. Pure.

Detection: with a fraction f of a node's bytes lost, c audits meet a loss with chance 1 - (1 - f)^c. Every node is
audited at least 48 times a day, and once more for each 50 GB that it holds, up to 480 times. At 48 a day a loss of 10 %
is met within a day with a chance of 99.4 %, one of 4 % within three days with 99.7 %, one of 1 % within a week with
96.6 %, and within ten days with 99.2 %; who lost all is disqualified after 41 audits, within a day.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, NamedTuple

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import FallowError
from fallow.verticals.storage.core.orders import PieceClaim
from fallow.verticals.storage.core.proofs import chunks_of, verify
from fallow.verticals.storage.core.questions import Proof

AUDITS_A_DAY_MIN: Final = 48
AUDITS_A_DAY_MAX: Final = 480
BYTES_AN_AUDIT: Final = 50_000_000_000
ANSWER_S: Final = 5.0
BYTES_A_SECOND: Final = 150_000
"""Storj's bound: a busy disk and a slow processor shall not fail. Who fetches a piece from elsewhere faster than that
is not found by time."""

Fault = Literal["", "unreadable", "claim", "other_piece", "length", "bytes", "given"]
"""What is wrong with an answer; empty: nothing."""


class Asked(NamedTuple):
    """A chunk of a piece. `signers` are those whose claim on it counts; `length` is the piece's, by its layout.

    `given`: the BLAKE3 of what the node gave as that piece before, where it did not say what was claimed.
    """

    net: str
    piece: bytes
    length: int
    chunk: int
    signers: Collection[bytes]
    given: bytes = b""


def audits_a_day(held_bytes: int) -> int:
    """How often a node that holds so much is audited."""
    return min(AUDITS_A_DAY_MAX, AUDITS_A_DAY_MIN + held_bytes // BYTES_AN_AUDIT)


def answer_s(length: int) -> float:
    """How long a node has to show a chunk of a piece of this length, which it reads as a whole for that."""
    return ANSWER_S + length / BYTES_A_SECOND


def drawn_chunk(length: int, drawn: float) -> int:
    """The chunk of a piece of this length that a number from [0, 1) stands for: each as likely as any other."""
    return int(drawn * chunks_of(length))


def fault_of(asked: Asked, answer: bytes) -> Fault:
    """What is wrong with a node's answer. Takes a few milliseconds; for a thread."""
    try:
        proof = msgspec.msgpack.decode(answer, type=Proof)
    except UNREADABLE:
        return "unreadable"
    claim = claim_by(asked.signers, proof.claim)
    if claim is None or claim.net != asked.net:
        return "claim"
    if claim.piece != asked.piece:
        return "other_piece"
    if claim.length != asked.length:
        return "length"
    if not verify(claim.hash, claim.length, asked.chunk, proof):
        return "bytes"
    return "given" if asked.given and asked.given != claim.hash else ""


def claim_by(signers: Collection[bytes], sealed: bytes) -> PieceClaim | None:
    """Open a claim that one of these has signed; None: none of them has."""
    for signer in signers:
        try:
            return PieceClaim.open(sealed, signer)
        except FallowError:
            continue
    return None
