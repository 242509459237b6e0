"""Ingest's store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.adapters.memory.database import memory_transaction
from fallow.ports.database import Transaction
from fallow.ports.ingest_store import BatchKey, EpochEnd, LoggedBatch, PromisedBatch, StoredBatch, StoredOpening


class MemoryIngestStore:
    """See `fallow.ports.ingest_store.IngestStore`. Transactions are serial here, so that `lock` has nothing to do."""

    def __init__(self) -> None:
        self.batches: dict[int, StoredBatch] = {}
        """By position, in order."""
        self.openings: dict[tuple[bytes, str], StoredOpening] = {}
        self._erased: dict[bytes, bool] = {}
        self._positions: dict[BatchKey, int] = {}
        self._expected: dict[bytes, tuple[int, int]] = {}
        self._ends: dict[int, EpochEnd] = {}
        self._pos = 0

    async def lock(self, tx: Transaction) -> None:
        """Make this transaction the only one that appends until it ends."""
        memory_transaction(tx)

    async def expected(self, tx: Transaction, nodes: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Boot and next sequence number that each node must send."""
        memory_transaction(tx)
        return {node: self._expected[node] for node in nodes if node in self._expected}

    async def promises(self, tx: Transaction, keys: Sequence[BatchKey]) -> dict[BatchKey, tuple[bytes, bytes]]:
        """Root and promise of the batches that are there already."""
        memory_transaction(tx)
        found = {key: self.batches[self._positions[key]] for key in keys if key in self._positions}
        return {key: (batch.root, batch.promise) for key, batch in found.items()}

    async def latest_at(self, tx: Transaction) -> int:
        """When the last batch came."""
        memory_transaction(tx)
        return next((batch.received_at for batch in reversed(self.batches.values())), 0)

    async def append(self, tx: Transaction, batches: Sequence[StoredBatch], openings: Sequence[StoredOpening]) -> None:
        """Write batches in this order."""
        mine = memory_transaction(tx)
        for batch in batches:
            self._pos += 1  # not taken back by a rollback, like a sequence
            mine.add(self._positions, batch.key, self._pos)
            mine.put(self.batches, self._pos, batch)
            mine.put(self._expected, batch.key.node, (batch.key.boot, batch.key.seq + batch.records))
        for opening in openings:
            if opening.subject not in self._erased:
                mine.add(self.openings, (opening.record, opening.field), opening)

    async def erase(self, tx: Transaction, subjects: Sequence[bytes]) -> int:
        """Delete all private values about somebody, and keep none from now on."""
        mine = memory_transaction(tx)
        for subject in subjects:
            mine.put(self._erased, subject, True)
        gone = [key for key, opening in self.openings.items() if opening.subject in {*subjects, b""}]
        for key in gone:
            mine.drop(self.openings, key)
        return len(gone)

    async def after(self, tx: Transaction, pos: int, limit: int) -> list[LoggedBatch]:
        """Read the log."""
        memory_transaction(tx)
        page: list[LoggedBatch] = []
        for at in range(pos + 1, self._pos + 1):
            if len(page) == limit:
                break
            if (batch := self.batches.get(at)) is not None:
                page.append(LoggedBatch(at, batch.key.node, batch.data, batch.received_at))
        return page

    async def of_epoch(self, tx: Transaction, epoch: int, pos: int, limit: int) -> list[PromisedBatch]:
        """Read an epoch's part of the log above a position."""
        memory_transaction(tx)
        found = [(at, batch) for at, batch in sorted(self.batches.items()) if at > pos and batch.epoch == epoch]
        return [PromisedBatch(at, batch.data, batch.promise) for at, batch in found[:limit]]

    async def last_epoch(self, tx: Transaction) -> int | None:
        """The last epoch that anything was written into."""
        memory_transaction(tx)
        return max((batch.epoch for batch in self.batches.values()), default=None)

    async def first_epoch(self, tx: Transaction) -> int | None:
        """The first epoch that anything was written into, or that ended."""
        memory_transaction(tx)
        return min((*self._ends, *(batch.epoch for batch in self.batches.values())), default=None)

    async def ended(self, tx: Transaction, epoch: int | None = None) -> EpochEnd | None:
        """How an epoch ended, or the latest that did."""
        memory_transaction(tx)
        return self._ends.get(max(self._ends, default=-1) if epoch is None else epoch)

    async def end_epoch(self, tx: Transaction, end: EpochEnd) -> None:
        """Note that an epoch is over."""
        memory_transaction(tx).add(self._ends, end.epoch, end)
