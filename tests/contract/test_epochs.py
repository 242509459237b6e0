"""Ends of epochs and what is closed: the same on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from fallow.adapters.memory.epochs import MemoryEpochStore
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.domain.errors import Conflict
from fallow.ports.database import Database
from fallow.ports.epochs import Closed, EpochStore
from fallow.ports.ingest_store import BatchKey, EpochEnd, IngestStore, StoredBatch
from tests.contract.conftest import opened


class Place(NamedTuple):
    """Both stores, and the database that they hang on."""

    database: Database
    ingest: IngestStore
    epochs: EpochStore


@pytest.fixture
async def place(dsn: str) -> AsyncIterator[Place]:
    async with opened(dsn, "ingest", "epochs") as database:
        yield (
            Place(database, PostgresIngestStore(), PostgresEpochStore())
            if dsn
            else Place(database, MemoryIngestStore(), MemoryEpochStore())
        )


def batch(node: bytes, epoch: int, seq: int) -> StoredBatch:
    return StoredBatch(BatchKey(node, 1, seq), epoch, 1, b"root", b"data%d" % seq, b"word%d" % seq, 5)


async def test_an_epochs_batches_are_read_in_order(place: Place) -> None:
    async with place.database.transaction() as tx:
        assert await place.ingest.first_epoch(tx) is None
        assert await place.ingest.last_epoch(tx) is None
        await place.ingest.append(tx, [batch(b"a", 7, 0), batch(b"b", 8, 0), batch(b"a", 7, 1), batch(b"a", 7, 2)], [])
    async with place.database.transaction() as tx:
        assert await place.ingest.first_epoch(tx) == 7
        assert await place.ingest.last_epoch(tx) == 8
        page = await place.ingest.of_epoch(tx, 7, 0, 2)
        assert [(each.data, each.promise) for each in page] == [(b"data0", b"word0"), (b"data1", b"word1")]
        rest = await place.ingest.of_epoch(tx, 7, page[-1].pos, 9)
        assert [each.data for each in rest] == [b"data2"]
        assert await place.ingest.of_epoch(tx, 9, 0, 9) == []


async def test_an_epoch_ends_once(place: Place) -> None:
    ends = [EpochEnd(7, 100, 200), EpochEnd(8, 200, 200)]
    async with place.database.transaction() as tx:
        assert await place.ingest.ended(tx) is None
        assert await place.ingest.ended(tx, 7) is None
        for end in ends:
            await place.ingest.end_epoch(tx, end)
    async with place.database.transaction() as tx:
        assert await place.ingest.ended(tx) == ends[1]
        assert await place.ingest.ended(tx, 7) == ends[0]
        assert await place.ingest.first_epoch(tx) == 7
    with pytest.raises(Conflict, match=r"database\.duplicate"):
        async with place.database.transaction() as tx:
            await place.ingest.end_epoch(tx, EpochEnd(7, 100, 300))


async def test_one_closes_until_its_time_is_over(place: Place) -> None:
    async with place.database.transaction() as tx:
        assert await place.epochs.lead(tx, "one", 100, 200)
        assert not await place.epochs.lead(tx, "two", 199, 300)
        assert await place.epochs.lead(tx, "one", 199, 250)
        assert not await place.epochs.lead(tx, "two", 249, 300)
        assert await place.epochs.lead(tx, "two", 250, 300)
        assert not await place.epochs.lead(tx, "one", 251, 400)


async def test_an_epoch_is_closed_once(place: Place) -> None:
    async with place.database.transaction() as tx:
        assert await place.epochs.last(tx) is None
        await place.epochs.add(tx, Closed(8, b"later"))
        await place.epochs.add(tx, Closed(7, b"earlier"))
        assert await place.epochs.last(tx) == Closed(8, b"later")
        assert await place.epochs.after(tx, None) == Closed(7, b"earlier")
        assert await place.epochs.after(tx, 7) == Closed(8, b"later")
        assert await place.epochs.after(tx, 8) is None
    with pytest.raises(Conflict, match=r"database\.duplicate"):
        async with place.database.transaction() as tx:
            await place.epochs.add(tx, Closed(8, b"other"))
