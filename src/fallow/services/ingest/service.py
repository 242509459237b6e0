"""The door for signed records: checked, written as the exact bytes that came, answered with a promise.

Batches that arrive while a transaction is under way wait and share the next one, so that a busy network pays one
disk write for many nodes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from fallow.domain.batches import Batch, Promise, open_batch
from fallow.domain.calls.actions import ERASE, Erased
from fallow.domain.calls.base import AccountRef
from fallow.domain.calls.epochs import END_EPOCH, EndEpoch
from fallow.domain.calls.nodes import INGESTED, Deliver, Delivered, ingest
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.identity import address
from fallow.domain.metrics import Family, counter, gauge
from fallow.domain.records import check_openings
from fallow.domain.signing import Sign
from fallow.ports.acting import action_of, note
from fallow.ports.bus import Bus
from fallow.ports.database import Database, Transaction
from fallow.ports.ingest_store import BatchKey, EpochEnd, IngestStore, StoredBatch, StoredOpening
from fallow.ports.mishaps import MISHAPS, internal, steadily
from fallow.ports.rates import Buckets, Rate
from fallow.ports.registry_store import RegistryStore
from fallow.ports.rpc import serve, serve_many
from fallow.ports.steady import Steady
from fallow.ports.tasks import background
from fallow.services.ingest.rules import Expected, check_order, check_same, end_of, epoch_at, stored_openings

WAITING_MAX = 4096
WAITING_A_NODE_MAX = 16
"""So that one noisy node cannot take all places; an honest agent sends one batch after the other."""

BYTES_A_NODE = Rate(per_s=100_000, burst=16 << 20)
"""Of batches; some 300 records a second, and what gathered in a day without a link. All of it is kept for ever."""

NODES_COUNTED_MAX = 1_000_000
BATCHES_A_TRANSACTION_MAX = 256


class _Waiting(NamedTuple):
    """A batch that was checked. Its records are not kept: Python would look through all of them for garbage."""

    batch: Batch
    records: int
    openings: list[StoredOpening]
    answer: asyncio.Future[bytes]


class Ingest:
    """Takes batches from nodes. Several copies may run: the store lets one append at a time."""

    def __init__(
        self,
        *,
        net: str,
        sign: Sign,
        epoch_ms: int,
        bus: Bus,
        clock: Steady,
        database: Database,
        store: IngestStore,
        registry: RegistryStore,
    ) -> None:
        self._net = net
        self._sign = sign
        self._epoch_ms = epoch_ms
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._registry = registry
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING_MAX)
        self._under_way: Counter[bytes] = Counter()
        self._batches = self._records = 0
        self._bytes = Buckets(BYTES_A_NODE, clock, senders_max=NODES_COUNTED_MAX)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            background(steadily("ingest.writing", self._write_for_ever, self._clock)),
            serve_many(
                self._bus, ingest("*"), Deliver, self._deliver, queue="ingest", concurrency=BATCHES_A_TRANSACTION_MAX
            ),
            serve(self._bus, END_EPOCH, EndEpoch, self._end_epoch, queue="ingest"),
            serve(self._bus, ERASE, AccountRef, self._erase, queue="ingest"),
        ):
            yield

    async def measure(self) -> Sequence[Family]:
        """See `fallow.ports.measuring.Measure`."""
        return [
            gauge("fallow_ingest_batches_waiting", "Batches that wait to be written.", self._waiting.qsize()),
            gauge("fallow_ingest_batches_waiting_max", "Beyond so many, nodes are told to come again.", WAITING_MAX),
            counter(
                "fallow_ingest_batches",
                "Batches that this process has promised to keep, those that came again too.",
                self._batches,
            ),
            counter("fallow_ingest_records", "Records in them.", self._records),
        ]

    async def _deliver(self, subject: str, delivery: Deliver) -> Delivered:
        """Check all that needs no state, outside the loop since it is arithmetic; then wait to be written.

        The bus lets a node send on its own subject only, so that this names who sends too much before anything is read.
        """
        self._bytes.take(subject, len(delivery.batch))
        batch, count, openings = await asyncio.to_thread(_check, delivery, self._net)
        if subject != ingest(batch.node.hex()):
            raise NotAllowed("ingest.not_yours", "A node hands in its own records only.")
        if self._under_way[batch.node] >= WAITING_A_NODE_MAX:
            raise Unavailable("ingest.too_many", "Too many batches of this node wait to be written.", "Send it again.")
        self._under_way[batch.node] += 1
        try:
            return Delivered(promise=await self._written(batch, count, openings))
        finally:
            self._under_way[batch.node] -= 1
            if not self._under_way[batch.node]:
                del self._under_way[batch.node]

    async def _written(self, batch: Batch, count: int, openings: list[StoredOpening]) -> bytes:
        """Have a batch written, and return its promise."""
        waiting = _Waiting(batch, count, openings, asyncio.get_running_loop().create_future())
        try:
            self._waiting.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise Unavailable("ingest.busy", "Too many batches wait to be written.", "Send it again.") from error
        return await waiting.answer

    async def _write_for_ever(self) -> None:
        while True:
            group = [await self._waiting.get()]
            while len(group) < BATCHES_A_TRANSACTION_MAX and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            await self._answer(group)

    async def _answer(self, group: Sequence[_Waiting]) -> None:
        """Write a group and tell each sender. When the database is away all may send again."""
        answers: list[bytes | FallowError]
        try:
            async with self._database.transaction() as tx:
                answers = await self._write(tx, group)
        except FallowError as error:
            answers = [error] * len(group)
        except Exception as error:  # noqa: BLE001 - noted; and whose batch it is stands alone
            if len(group) > 1:
                for waiting in group:
                    await self._answer([waiting])
                return
            MISHAPS.note("ingest.write", error)
            answers = [internal()]
        else:
            await self._wake_readers()
        for waiting, answer in zip(group, answers, strict=True):
            if isinstance(answer, bytes):
                self._batches += 1
                self._records += waiting.records
            if waiting.answer.done():
                continue
            if isinstance(answer, bytes):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(answer)

    async def _wake_readers(self) -> None:
        try:
            await self._bus.publish(INGESTED, b"")
        except Unavailable:
            return  # readers look by themselves every second

    async def _erase(self, request: AccountRef) -> Erased:
        """Delete the private values about an account and its nodes; those that come later are not kept either.

        What was signed has only their commitments, and stays as it is: every old epoch is still what it was.
        """
        account = address(request.account)
        async with self._database.transaction() as tx:
            await self._store.lock(tx)
            nodes = [row.node for row in await self._registry.nodes(tx) if row.account == account]
            return Erased(values=await self._store.erase(tx, [account, *nodes]), nodes=len(nodes))

    async def _end_epoch(self, request: EndEpoch) -> list[EpochEnd]:
        """End an epoch. Whoever writes holds the lock: what was promised for the epoch is written before it ends."""
        async with self._database.transaction() as tx:
            await self._store.lock(tx)
            self._clock.not_before(await self._store.latest_at(tx))
            last, now = await self._store.ended(tx), self._clock.now_ms()
            first = await self._store.first_epoch(tx)
            first = epoch_at(now, self._epoch_ms, None) if first is None else first
            epoch = first if request.after is None else request.after + 1
            if last is not None and epoch <= last.epoch:
                known = await self._store.ended(tx, epoch)
                return [known] if known else []
            if epoch != (last.epoch + 1 if last else first):
                raise Conflict("epoch.not_next", f"Epoch {epoch} is not the one that is open.")
            end = end_of(epoch, now, self._epoch_ms, last, early=request.early)
            if end is None:
                return []
            await self._store.end_epoch(tx, end)
            if request.by is not None:
                about = str(epoch)
                await note(self._registry, tx, action_of(request.by, "epoch.close", now, once=about, about=about))
            return [end]

    async def _write(self, tx: Transaction, group: Sequence[_Waiting]) -> list[bytes | FallowError]:
        await self._store.lock(tx)
        nodes = list({waiting.batch.node for waiting in group})
        enrolled = {row.node for row in await self._registry.nodes(tx, nodes) if not row.banned_reason}
        expected = await self._store.expected(tx, nodes)
        known = await self._store.promises(tx, [_key(waiting.batch) for waiting in group])
        # Another copy's clock may be ahead, or ours was set back: a node's batches are in the order of their epochs.
        self._clock.not_before(await self._store.latest_at(tx))
        now = self._clock.now_ms()
        epoch = epoch_at(now, self._epoch_ms, await self._store.ended(tx))
        batches: list[StoredBatch] = []
        openings: list[StoredOpening] = []
        answers: list[bytes | FallowError] = []
        for waiting in group:
            try:
                fresh = self._admit(waiting, enrolled, expected, known, epoch, now)
            except FallowError as error:
                answers.append(error)
                continue
            if fresh is not None:
                batches.append(fresh)
                openings.extend(waiting.openings)
            answers.append(known[_key(waiting.batch)][1])
        if batches:
            await self._store.append(tx, batches, openings)
        return answers

    def _admit(
        self,
        waiting: _Waiting,
        enrolled: set[bytes],
        expected: dict[bytes, Expected],
        known: dict[BatchKey, tuple[bytes, bytes]],
        epoch: int,
        now: int,
    ) -> StoredBatch | None:
        """Decide on one batch and note it in `expected` and `known`; None when it is there already."""
        batch, count = waiting.batch, waiting.records
        key = _key(batch)
        if batch.node not in enrolled:
            raise NotAllowed("ingest.not_enrolled", "This node is not enrolled here.", "Join first: fallow agent join")
        if key in known:
            check_same(batch, known[key][0])
            return None
        check_order(batch, expected.get(batch.node))
        promise = Promise(
            net=self._net,
            epoch=epoch,
            node=batch.node,
            boot=batch.boot,
            seq=batch.seq,
            count=count,
            root=batch.root,
            at=now,
        ).seal(self._sign)
        known[key] = (batch.root, promise)
        expected[batch.node] = (batch.boot, batch.seq + count)
        return StoredBatch(key, epoch, count, batch.root, batch.data, promise, now)


def _key(batch: Batch) -> BatchKey:
    return BatchKey(batch.node, batch.boot, batch.seq)


def _check(delivery: Deliver, net: str) -> tuple[Batch, int, list[StoredOpening]]:
    batch = open_batch(delivery.batch, net=net)
    unknown = set(delivery.openings) - {str(index) for index in range(len(batch.records))}
    if unknown:
        raise InvalidInput("ingest.openings", "There are openings for records that the batch does not have.")
    openings: list[StoredOpening] = []
    for index, record in enumerate(batch.records):
        given = delivery.openings.get(str(index), {})
        check_openings(record, given)
        if given:
            openings += stored_openings(record, given)
    return batch._replace(records=()), len(batch.records), openings
