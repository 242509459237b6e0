"""Votes as a network takes them in: whose they are, and what becomes of a validator that casts two. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fallow.domain.encoding import decode, encode
from fallow.domain.epochs.judging import domain_of
from fallow.domain.epochs.quorum import VOTE_BYTES_MAX, Tally, Vote, tally
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import Address, address_text

VOTES, EVIDENCE = "votes/", "evidence/"
EVIDENCE_BYTES_MAX: Final = 2 * VOTE_BYTES_MAX + 16


def voter(vote: Vote, statement: Statement) -> Address:
    """Who cast a vote about this epoch, right or wrong: a wrong root is stored, too, for it is evidence.

    Raises:
        InvalidInput: the signature does not hold, or it is about another epoch, revision or contract.
        NotAllowed: it is by nobody who validates here.
    """
    if (vote.epoch, vote.revision, vote.domain) != (statement.epoch, statement.revision, domain_of(statement)):
        raise InvalidInput("vote.elsewhere", "The vote is about another epoch, revision or contract.")
    signer = vote.signer
    if signer not in statement.validators:
        raise NotAllowed("vote.not_listed", f"{address_text(signer)} does not validate this epoch.")
    return signer


def vote_name(validator: bytes) -> str:
    """Name of the file, within an epoch, with a validator's vote."""
    return VOTES + address_text(validator)


def evidence_name(validator: bytes) -> str:
    """Name of the file with two votes of one validator that contradict each other."""
    return EVIDENCE + address_text(validator)


def evidence(first: Vote, second: Vote) -> bytes:
    """Write the file."""
    return encode([first.encode(), second.encode()])


def read_evidence(data: bytes) -> list[Vote]:
    """Read the file.

    Raises:
        InvalidInput: malformed.
    """
    votes = decode(data)
    if not isinstance(votes, list) or not all(isinstance(vote, bytes) for vote in votes):
        raise InvalidInput("evidence.malformed", "This is no file of two votes.")
    return [Vote.decode(vote) for vote in votes]


def count(votes: Collection[Vote], statement: Statement) -> Tally:
    """Count the votes about an epoch."""
    if not statement.validators:
        return Tally(None, {}, {})
    return tally(votes, statement.validators, domain_of(statement), statement.epoch, statement.revision)
