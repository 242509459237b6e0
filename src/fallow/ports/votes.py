"""Votes as they lie in the archive, and what became of the root that they are about."""

from __future__ import annotations

import msgspec

from fallow.domain.epochs.ballots import EVIDENCE_BYTES_MAX, evidence_name, read_evidence, vote_name
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.quorum import VOTE_BYTES_MAX, Vote
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import NotFound
from fallow.domain.views.votes import RootView
from fallow.ports.archive import Archive, whole

PUBLISHED = "published"
"""File of an epoch, JSON: a `RootView`. It follows the chain, and is nobody's proof."""
PUBLISHED_BYTES_MAX = 1 << 16


def votes_of(archive: Archive, statement: Statement) -> list[Vote]:
    """Read what the validators of an epoch have signed about it. Blocks."""
    return [vote for validator in statement.validators for vote in _votes(archive, statement.epoch, validator)]


def published(archive: Archive, epoch: int) -> RootView | None:
    """Read what became of an epoch's root; None where nobody brings roots to a chain. Blocks."""
    try:
        return msgspec.json.decode(whole(archive, path_of(epoch, PUBLISHED), PUBLISHED_BYTES_MAX), type=RootView)
    except NotFound:
        return None


def _votes(archive: Archive, epoch: int, validator: bytes) -> list[Vote]:
    """What a validator has signed: nothing, a vote, or two that contradict each other."""
    try:
        return read_evidence(whole(archive, path_of(epoch, evidence_name(validator)), EVIDENCE_BYTES_MAX))
    except NotFound:
        pass
    try:
        return [Vote.decode(whole(archive, path_of(epoch, vote_name(validator)), VOTE_BYTES_MAX))]
    except NotFound:
        return []
