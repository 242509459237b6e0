"""What the closing of epochs keeps beside the archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from fallow.domain.epochs.quorum import Domain
from fallow.ports.database import Transaction


class Closed(NamedTuple):
    """An epoch that is closed, with the statement as it was signed."""

    epoch: int
    statement: bytes


class Attested(NamedTuple):
    """Whose votes about an epoch count, for which contract, and for which of its revisions (`Distributor.revision`)."""

    domain: Domain
    validators: Sequence[bytes]
    revision: int = 0


Attesting = Callable[[], Awaitable[Attested]]
"""Says what holds for an epoch that is closed now. Raises Unavailable where nobody can say."""


def without_chain(net: str, validators: Sequence[bytes] = ()) -> Attesting:
    """What holds on a network whose roots are signed into files."""

    async def said() -> Attested:
        return Attested(Domain.without_chain(net), validators)

    return said


class EpochStore(Protocol):
    """Who closes epochs, and which are closed."""

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> bool:
        """Become the one closer until `until`, or stay it; whether that is so. Another one's time must be over."""
        ...

    async def last(self, tx: Transaction) -> Closed | None:
        """The latest epoch that is closed."""
        ...

    async def after(self, tx: Transaction, epoch: int | None) -> Closed | None:
        """The first closed epoch that comes after this one, or the very first."""
        ...

    async def add(self, tx: Transaction, closed: Closed) -> None:
        """Note that an epoch is closed; once an epoch.

        Raises:
            Conflict: `database.duplicate`: it is already.
        """
        ...
