"""From the network's outbox into ingest's log: decisions become records that the network's key signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fallow.domain.batches import BATCH_BYTES_MAX, Promise, seal_batch
from fallow.domain.decisions import Decision
from fallow.domain.errors import Unavailable
from fallow.domain.merkle import merkle_root
from fallow.domain.records import Record, make_record
from fallow.domain.signing import Sign
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.ingest_store import BatchKey, IngestStore, StoredBatch, StoredOpening
from fallow.ports.mishaps import steadily
from fallow.ports.steady import Steady
from fallow.ports.tasks import background
from fallow.services.ingest.rules import epoch_at, stored_openings

BOOT = 0
"""The network numbers its records through: its sequence is in the database, and no restart loses it."""

DECISIONS_A_BATCH = 256
RECORDS_BYTES_MAX = BATCH_BYTES_MAX - (64 << 10)
"""Of the records of a batch: what stands around them, eight bytes each and a header, has room beside it."""

DECISIONS_A_TRANSACTION = 8 * DECISIONS_A_BATCH
LOOK_S = 1.0


class Sealer:
    """Seals what waits. `node` is the public key that `sign` signs for; `new_salt` gives 32 fresh random bytes."""

    def __init__(
        self,
        *,
        net: str,
        node: bytes,
        sign: Sign,
        new_salt: Callable[[], bytes],
        epoch_ms: int,
        clock: Steady,
        database: Database,
        decisions: DecisionStore,
        log: IngestStore,
    ) -> None:
        self._net = net
        self._node = node
        self._sign = sign
        self._new_salt = new_salt
        self._epoch_ms = epoch_ms
        self._clock = clock
        self._database = database
        self._decisions = decisions
        self._log = log

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Seal, every second, while the context is open."""
        async with background(steadily("ingest.sealing", self._for_ever, self._clock)):
            yield

    async def seal(self) -> int:
        """Seal some of what waits, the oldest first; returns how many decisions that were.

        Raises:
            Unavailable: the database is away; nothing is lost.
        """
        async with self._database.transaction() as tx:
            await self._log.lock(tx)  # before anything is taken: what another sealer has taken stands before it
            decisions = await self._decisions.take(tx, DECISIONS_A_TRANSACTION)
            if not decisions:
                return 0
            _, seq = (await self._log.expected(tx, [self._node])).get(self._node, (BOOT, 0))
            self._clock.not_before(await self._log.latest_at(tx))
            now = self._clock.now_ms()
            epoch = epoch_at(now, self._epoch_ms, await self._log.ended(tx))
            batches, openings = await asyncio.to_thread(self._sealed, decisions, seq, epoch, now)
            await self._log.append(tx, batches, openings)
        return len(decisions)

    async def _for_ever(self) -> None:
        while True:
            try:
                sealed = await self.seal()
            except Unavailable:
                sealed = 0  # they wait in the database, wherever that is
            if sealed < DECISIONS_A_TRANSACTION:
                await self._clock.sleep(LOOK_S)

    def _sealed(
        self, decisions: Sequence[Decision], seq: int, epoch: int, now: int
    ) -> tuple[list[StoredBatch], list[StoredOpening]]:
        """Make batches of decisions; this is arithmetic, for a thread."""
        batches: list[StoredBatch] = []
        openings: list[StoredOpening] = []
        records: list[Record] = []
        size = 0
        for offset, (at, body) in enumerate(decisions):
            record, opened = make_record(
                body, net=self._net, node=self._node, boot=BOOT, seq=seq + offset, at=at, new_salt=self._new_salt
            )
            openings += stored_openings(record, opened)
            more = len(record.encode())
            if records and (len(records) == DECISIONS_A_BATCH or size + more > RECORDS_BYTES_MAX):
                batches.append(self._batch(records, epoch, now))
                records, size = [], 0
            records.append(record)
            size += more
        return [*batches, self._batch(records, epoch, now)], openings

    def _batch(self, records: Sequence[Record], epoch: int, now: int) -> StoredBatch:
        seq = records[0].seq
        root = merkle_root([record.encode() for record in records])
        promise = Promise(
            net=self._net, epoch=epoch, node=self._node, boot=BOOT, seq=seq, count=len(records), root=root, at=now
        ).seal(self._sign)
        key, data = BatchKey(self._node, BOOT, seq), seal_batch(records, self._sign)
        return StoredBatch(key, epoch, len(records), root, data, promise, now)
