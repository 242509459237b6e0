"""The production ingest over in-memory ports, and nodes that send it batches."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain.batches import Promise, open_batch, seal_batch
from fallow.domain.calls.nodes import Deliver, Delivered, ingest
from fallow.domain.facts import LeaseAccepted, NodeEnrolled
from fallow.domain.records import Body, Opening, Record, make_record
from fallow.ports.ingest_store import LoggedBatch
from fallow.ports.registry_store import NodeRow
from fallow.ports.rpc import call
from fallow.ports.steady import Steady
from fallow.services.ingest.service import Ingest
from tests.faulty_database import FaultyDatabase
from tests.unit.agent_fakes import FakeClock, Inline

NET = "lab-1"
HOUR_MS = 3_600_000
OWNER = b"o" * 20
SALT = bytes(32)


class Sender:
    """A node's key and its count of records; it can be told to say anything."""

    def __init__(self, number: int) -> None:
        self.key = SigningKey(hashlib.sha256(b"node%d" % number).digest())
        self.id = bytes(self.key.verify_key)
        self.boot, self.seq = 1, 0

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message).signature

    def record(self, body: Body, *, net: str = NET, offset: int = 0, **changes: Any) -> tuple[Record, Any]:
        numbers = {"boot": self.boot, "seq": self.seq + offset, "at": 5, "node": self.id, **changes}
        return make_record(body, net=net, new_salt=lambda: SALT, **numbers)

    def batch(self, *leases: int, **changes: Any) -> bytes:
        """A batch under the next number; it is counted as sent by `sent`."""
        bodies = [LeaseAccepted(lease=number.to_bytes(16, "big")) for number in leases or (1,)]
        return seal_batch(
            [self.record(body, offset=offset, **changes)[0] for offset, body in enumerate(bodies)], self.sign
        )

    def binding(self) -> tuple[bytes, dict[str, dict[str, Opening]]]:
        """A batch with a sealed field, and its openings."""
        body = NodeEnrolled(account=OWNER, account_signature=bytes(65), label="attic")
        record, openings = self.record(body)
        return seal_batch([record], self.sign), {"0": openings}

    def sent(self, records: int = 1) -> None:
        self.seq += records

    def reboot(self) -> None:
        self.boot, self.seq = self.boot + 1, 0


class World:
    """`nodes` are enrolled; others are not."""

    def __init__(self, nodes: int = 2) -> None:
        self.nodes = [Sender(number) for number in range(nodes)]
        self.hub, self.clock, self.database = MemoryHub(), FakeClock(), FaultyDatabase()
        self.store, self.registry = MemoryIngestStore(), MemoryRegistryStore()
        self.key = SigningKey(bytes(32))
        self.ingest = self.made()

    def made(self) -> Ingest:
        """The door, as a process makes it that starts."""
        return Ingest(
            net=NET,
            sign=lambda message: self.key.sign(message).signature,
            epoch_ms=24 * HOUR_MS,
            bus=self.hub.connect(),
            clock=Steady(self.clock),
            database=self.database,
            store=self.store,
            registry=self.registry,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(Inline())
        async with self.database.transaction() as tx:
            await self.registry.add_account(tx, OWNER, None, 1)
            for node in self.nodes:
                await self.registry.add_node(tx, NodeRow(node.id, OWNER, "", 1, ""))
        async with self.ingest.running():
            yield

    async def deliver(self, node: Sender, batch: bytes, openings: Any = None, *, subject: str = "") -> bytes:
        """Hand a batch in; returns the sealed promise."""
        request = Deliver(batch=batch, openings=openings or {})
        answer = await call(self.hub.connect(), subject or ingest(node.id.hex()), request, Delivered)
        return answer.promise

    async def log(self) -> list[LoggedBatch]:
        async with self.database.transaction() as tx:
            return await self.store.after(tx, 0, 1000)

    def check_promise(self, promise: bytes, batch: bytes) -> Promise:
        """Verify that it is the network's word for exactly this batch."""
        said = Promise.open(promise, bytes(self.key.verify_key))
        meant = open_batch(batch, net=NET)
        assert (said.net, said.node, said.boot, said.seq) == (NET, meant.node, meant.boot, meant.seq)
        assert (said.count, said.root) == (len(meant.records), meant.root)
        return said
