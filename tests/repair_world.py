"""A network whose nodes keep bytes, leave and come back, and what repairs what they take with them."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import msgspec
from blake3 import blake3

from fallow.adapters.postgres.database import PostgresDatabase
from fallow.verticals.storage.client.sending import code_of
from fallow.verticals.storage.client.waiting import Watch
from fallow.verticals.storage.coding.portions import Portions
from fallow.verticals.storage.control.adopting import Adopting
from fallow.verticals.storage.control.exits import Exits
from fallow.verticals.storage.control.hints import HintedAudits
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.mending import adopting, hinted, repairs
from fallow.verticals.storage.control.nodes import LOST_MS, SETTLE_MS
from fallow.verticals.storage.control.questioning import Contained
from fallow.verticals.storage.control.repairing import Repairs
from fallow.verticals.storage.control.scanning import EVERY_MS, Scan
from fallow.verticals.storage.control.verdicts import read_contained
from fallow.verticals.storage.core.calls.segments import Plan
from fallow.verticals.storage.core.orders import OrderLimit, PieceClaim
from fallow.verticals.storage.core.questions import Evidence, Purge, ShowClaim, TakeBack, Trash, read_question
from tests.epoch_files import NET, NETWORK_KEY
from tests.memory_nodes import MemoryNode, MemoryReach
from tests.places_world import STREAM, Machine, World, signing, world_of

KEY = bytes(range(32))


class RepairWorld(World):
    """See `World`; `kept` are pieces by the key of their node."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self.reach: MemoryReach
        self.kept: dict[bytes, MemoryNode] = {}
        self.bins: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        """What lies in the trash of nodes, by their keys."""
        self.secrets = Secrets(self.ground().secret)
        self.repairs: Repairs
        self.scan: Scan
        self.exits: Exits
        self.adopting: Adopting
        self.hinted: HintedAudits

    def restart(self) -> None:
        """What repairs is a process that has just started."""
        self.repairs = repairs(self.ground(), self.places.nodes, self.reach, Watch(self.clock))
        self.scan = Scan(self.clock, self.database, self.places.nodes)
        self.exits = Exits(self.ground(), self.places.nodes, self.repairs)
        self.adopting = adopting(self.ground(), self.places.nodes)
        self.hinted = hinted(self.ground(), self.places.nodes, self.reach, Watch(self.clock))

    async def enrol(self, *machines: Machine, country: str = "") -> None:
        for machine in machines:
            self.kept[machine.id] = MemoryNode(machine.key, self.clock, network_key=NETWORK_KEY)
            self.reach.nodes[machine.id] = self.kept[machine.id]
        await super().enrol(*machines, country=country)

    async def _ask(self, node: bytes, question: bytes, *, timeout_s: float = 10.0) -> bytes:
        asked = read_question(question)
        if isinstance(asked, ShowClaim) and not self.machines[node].away:
            return msgspec.msgpack.encode(self.kept[node].claims[asked.piece])
        answer = await super()._ask(node, question, timeout_s=timeout_s)
        pieces, bin_ = self.kept[node].pieces, self.bins[node]
        if isinstance(asked, TakeBack):
            pieces |= {piece: bin_.pop(piece) for piece in asked.pieces if piece in bin_}
            return msgspec.msgpack.encode([piece for piece in asked.pieces if piece in pieces])
        if isinstance(asked, Trash):
            bin_ |= {piece: pieces[piece] for piece in asked.pieces if piece in pieces}
        if isinstance(asked, Trash | Purge):
            for piece in asked.pieces:
                pieces.pop(piece, None)
        return answer

    async def put(self, payload: bytes, stream: bytes = STREAM, *, without: Collection[int] = ()) -> Plan:
        """Store a segment of real pieces on the nodes that it is planned for, but for some numbers, and keep it."""
        return await self.bring(await self.begin(len(payload), stream), payload, stream, without=without)

    async def bring(self, plan: Plan, payload: bytes, stream: bytes = STREAM, *, without: Collection[int] = ()) -> Plan:
        """Store it where it was planned for."""
        brought = [place for place in plan.places[: plan.pieces] if place.number not in without]
        for place in brought:
            piece = pieces_of(plan, payload)[place.number]
            id_ = OrderLimit.open(place.limit, NETWORK_KEY).piece
            claim = PieceClaim(net=NET, piece=id_, length=len(piece), hash=blake3(piece).digest())
            self.kept[place.node].pieces[id_] = piece
            self.kept[place.node].claims[id_] = claim.seal(signing(self.client))
        await self.end(plan, self.receipts(plan, brought))
        await self.keep(stream)
        return plan

    async def holders(self, segment: bytes) -> list[Machine | None]:
        """Who has its pieces, by number, as the network says."""
        async with self.database.transaction() as tx:
            rows = await tx.fetch("SELECT nodes FROM storage.segment WHERE id = $1", segment)
            lenders = await self.places.nodes.of(tx, rows[0]["nodes"])
        return [self.machines[lenders[alias].node] if alias else None for alias in rows[0]["nodes"]]

    async def pieces(self, segment: bytes) -> list[bytes | None]:
        """What is there of it, on nodes that are not away."""
        return [
            self.kept[one.id].pieces.get(self.secrets.piece(segment, one.id)) if one and not one.away else None
            for one in await self.holders(segment)
        ]

    def lose(self, segment: bytes, *machines: Machine) -> None:
        """They have deleted their pieces of it, and say nothing of that."""
        for machine in machines:
            del self.kept[machine.id].pieces[self.secrets.piece(segment, machine.id)]

    async def found(self) -> list[tuple[bytes, str, Evidence | None]]:
        """What was found of nodes: each with the code, and what it was found by."""
        async with self.database.transaction() as tx:
            rows = await tx.fetch("SELECT * FROM storage.finding JOIN storage.node USING (alias) ORDER BY id")
        read = msgspec.msgpack.Decoder(Evidence).decode
        return [(row["node"], row["code"], read(row["evidence"]) if row["evidence"] else None) for row in rows]

    async def contained(self) -> dict[bytes, Contained]:
        """What nodes are to be asked again."""
        async with self.database.transaction() as tx:
            rows = await tx.fetch("SELECT node, contained FROM storage.reputation JOIN storage.node USING (alias)")
        asked = {row["node"]: read_contained(row["contained"]) for row in rows}
        return {node: one for node, one in asked.items() if one is not None}

    async def audits(self) -> dict[bytes, tuple[int, float]]:
        """How many audits each node has had, and its score by them."""
        return {one.node: (one.audits, one.score) for one in await self.places.audits.scores()}

    def leave(self, *machines: Machine) -> None:
        for machine in machines:
            machine.away = True
            self.reach.dead.add(machine.id)

    def come_back(self, *machines: Machine) -> None:
        for machine in machines:
            machine.away = False
            self.reach.dead.discard(machine.id)

    async def pass_time(self, ms: int = LOST_MS + SETTLE_MS) -> None:
        self.clock.advance(ms)
        await self.tell()

    async def find(self) -> int:
        """Make a whole pass; returns how many segments wait for repair."""
        self.clock.advance(EVERY_MS)
        await self.tell()
        while await self.scan.page():
            pass
        return await self.count("repair")

    async def mend(self) -> None:
        """Find and repair what there is."""
        await self.find()
        while await self.repairs.repair_next():
            pass


def pieces_of(plan: Plan, payload: bytes) -> list[bytes]:
    """What clients make of a payload."""
    portions = Portions(code_of(plan.needed, plan.pieces), KEY, memoryview(payload))
    made = [portions.make(number) for number in range(len(portions))]
    return [b"".join(parts[number] for parts in made) for number in range(plan.pieces)]


def payload_of(size: int, seed: int = 1) -> bytes:
    """Bytes that are not alike."""
    return random.Random(seed).randbytes(size)


@asynccontextmanager
async def repair_world(dsn: str, machines: Callable[[], list[Machine]]) -> AsyncIterator[RepairWorld]:
    """A network with a buyer who has a subscription."""
    async with world_of(dsn, RepairWorld) as world, asyncio.TaskGroup() as group:
        world.reach = MemoryReach([], group)
        world.restart()
        await world.subscribe(limit_microusd=10**9, paid=10**12)
        await world.enrol(*machines())
        yield world
        world.reach.close()
