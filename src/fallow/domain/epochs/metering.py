"""What a vertical brings to an epoch: which of its records hold, what they say was used, and what that is worth. Pure.

These are versioned policies: a released version gives the same for the same records for ever. Whoever changes one makes
a new version beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.facts import Moved
from fallow.domain.verification import Standing, Verdict


class Found(NamedTuple):
    """What becomes of one record, and why: "" where it needs no reason."""

    verdict: Verdict
    code: str = ""


ACCEPTED = Found(Verdict.ACCEPTED)


class Known(NamedTuple):
    """What a verifier may look at beside its records: `network` is the key that signs the network's own."""

    epoch: int
    network: bytes
    owners: Mapping[bytes, bytes]


class Verifier(Protocol):
    """Takes the records of one epoch, in the order of ingest."""

    def verify(self, filed: Filed) -> Found:
        """Decide on one record. Whatever it raises as InvalidInput rejects the record with that code."""
        ...

    def carried(self) -> Sequence[Row]:
        """What the next epoch's verifier begins with: rows of the encoding's types, each with a key of its own."""
        ...


class Use(NamedTuple):
    """What an accepted record says of `node` and its account: money as it moved, and `units` of whatever is metered.

    Without an `account` it is that of the node's owner.

    What the network ordered itself is not `bought`: its fee is nobody's, and earns no incentive. What was bought is
    `attested` where no buyer but a gateway of the operator's says that it was used. `ended` names why a lease ended and
    who caused it, where it did.

    Where the units `weigh`, what subscriptions to the vertical paid the account is divided by them over its nodes
    (`fallow.domain.epochs.dividing`).
    """

    node: bytes
    account: bytes = b""
    units: int = 0
    moved: Sequence[Moved] = ()
    bought: bool = True
    attested: bool = False
    ended: tuple[str, str] | None = None
    weigh: bool = False


class Recounted(NamedTuple):
    """Of one record what it is about, and by how much it differs from what it was made of; "": by nothing.

    Where not all of that was there to be read, a difference is not `sure`: it takes earlier epochs.
    """

    what: str
    differs: str
    sure: bool = True


class Recount(Protocol):
    """Adds up again what a vertical's side of the network added up before it became a record (`LendingUsed`)."""

    kinds: frozenset[str]
    """Of nodes' records that it adds up. Of each node it looks at nothing but the same node's."""

    def take(self, filed: Filed) -> Recounted | None:
        """Take the next record in the order of ingest; None where it is no such sum.

        Raises:
            InvalidInput: it is malformed.
        """
        ...


class Metering(Protocol):
    """One version of a vertical's policy. `digest` is of its golden epoch: no other behaviour has it."""

    name: str
    version: int
    digest: bytes
    kinds: frozenset[str]
    """Kinds of the records that it reads."""
    by_node: bool
    """Whether it decides on a node's records by nothing but the same node's: other nodes' change neither its verdicts
    nor their uses, which are of the node itself, and each carried row begins with its node. Such a policy is run in
    several processes, each with some of the nodes, and so has to be importable there."""

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        """Begin an epoch with what the one before carried."""
        ...

    def meter(self, filed: Filed) -> Use | None:
        """What an accepted record says was used; None where it says nothing of that."""
        ...

    def score(self, standing: Standing, at: int) -> int:
        """What a node's work is worth at the end of an epoch (milliseconds since 1970): millionths of its incentive."""
        ...
