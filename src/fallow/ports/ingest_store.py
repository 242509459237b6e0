"""What ingest keeps: the log of signed batches. Nobody else writes there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fallow.ports.database import Transaction


class LoggedBatch(NamedTuple):
    """A batch in the order in which ingest wrote it: `pos` grows, and none ever appears below one that was seen."""

    pos: int
    node: bytes
    data: bytes
    received_at: int


class BatchKey(NamedTuple):
    """What names a batch."""

    node: bytes
    boot: int
    seq: int


class StoredBatch(NamedTuple):
    """A batch to write: its exact bytes, and the promise that its sender gets."""

    key: BatchKey
    epoch: int
    records: int
    root: bytes
    data: bytes
    promise: bytes
    received_at: int


class PromisedBatch(NamedTuple):
    """A batch of an epoch with the promise that was given for it."""

    pos: int
    data: bytes
    promise: bytes


class EpochEnd(NamedTuple):
    """An epoch that is over, and its real bounds in milliseconds since 1970: `until_ms` is the next one's beginning."""

    epoch: int
    from_ms: int
    until_ms: int


class StoredOpening(NamedTuple):
    """A private value beside its record: erasable, in contrast to the record. `subject` is whom it is about."""

    record: bytes
    field: str
    salt: bytes
    value: bytes
    subject: bytes


class IngestStore(Protocol):
    """Batches of signed records, exact bytes, append-only."""

    async def lock(self, tx: Transaction) -> None:
        """Make this transaction the only one that appends until it ends, so that positions become visible in order.

        Other services may, for a moment, to be sure that they see all that was ever promised.
        """
        ...

    async def expected(self, tx: Transaction, nodes: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Boot and next sequence number that each node must send; a node that sent nothing is absent."""
        ...

    async def promises(self, tx: Transaction, keys: Sequence[BatchKey]) -> dict[BatchKey, tuple[bytes, bytes]]:
        """Root and promise of the batches that are there already."""
        ...

    async def latest_at(self, tx: Transaction) -> int:
        """When the last batch came; 0 before the first."""
        ...

    async def append(self, tx: Transaction, batches: Sequence[StoredBatch], openings: Sequence[StoredOpening]) -> None:
        """Write batches in this order."""
        ...

    async def erase(self, tx: Transaction, subjects: Sequence[bytes]) -> int:
        """Delete all private values about accounts or nodes, and keep none from now on; how many there were.

        What is older than subjects are goes, too: whom it is about is not known.
        """
        ...

    async def after(self, tx: Transaction, pos: int, limit: int) -> list[LoggedBatch]:
        """Read the log. Other services may."""
        ...

    async def of_epoch(self, tx: Transaction, epoch: int, pos: int, limit: int) -> list[PromisedBatch]:
        """Read an epoch's part of the log above a position. Other services may."""
        ...

    async def last_epoch(self, tx: Transaction) -> int | None:
        """The last epoch that anything was written into."""
        ...

    async def first_epoch(self, tx: Transaction) -> int | None:
        """The first epoch that anything was written into, or that ended."""
        ...

    async def ended(self, tx: Transaction, epoch: int | None = None) -> EpochEnd | None:
        """How an epoch ended, or the latest that did; None before it does."""
        ...

    async def end_epoch(self, tx: Transaction, end: EpochEnd) -> None:
        """Note that an epoch is over; once an epoch."""
        ...
