"""Nodes that keep pieces in real folders, honestly or not, and the network's side that audits them."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from blake3 import blake3

from fallow.domain.errors import Unavailable
from fallow.ports.vertical.worker import WorkerGround
from fallow.verticals.storage.control.audits import Score
from fallow.verticals.storage.core.calls.segments import Place
from fallow.verticals.storage.core.orders import OrderLimit, PieceClaim
from fallow.verticals.storage.core.questions import Note, Prove, read_question
from fallow.verticals.storage.worker.folder import MARK
from fallow.verticals.storage.worker.worker import StorageWorker
from tests.epoch_files import NET, NETWORK_KEY
from tests.places_world import Machine, World, places_world, signing

ROUND_MS = 1_800_000
PAYLOAD = 30_000
MEMORY = next((path for path in [Path("/dev/shm")] if path.is_dir()), None)  # noqa: S108 - for folders of our own
Cheat = Callable[[Prove], Awaitable[bytes]]
"""Answers an audit in place of the worker."""


class Piece(NamedTuple):
    """What a client has brought, and what it said of it."""

    data: bytes
    claim: bytes


class Keeper(Machine):
    """A machine with the real worker. `cheat` answers audits in its place."""

    def __init__(self, number: int, folder: Path, world: World) -> None:
        super().__init__(number)
        self.pieces: dict[bytes, Piece] = {}
        self.cheat: Cheat | None = None
        self.notes: list[Note] = []
        self.deaf = False
        self.closed: list[str] = []
        self.lent = folder / f"lent-{number}"
        self.worker = StorageWorker(
            WorkerGround(
                cache=folder / "cache",
                kept=folder / f"kept-{number}",
                clock=world.clock,
                net=NET,
                node=self.id,
                sign=signing(self.key),
                network_key=NETWORK_KEY,
                lends=f"{self.lent}:64MiB",
                closed=lambda: self.closed,
            )
        )

    async def asked(self, question: bytes) -> bytes:
        asked = read_question(question)
        if isinstance(asked, Note):
            if self.deaf:
                raise Unavailable("storage.disk_failing", "It cannot be kept.")
            self.notes.append(asked)
        if isinstance(asked, Prove) and self.cheat is not None:
            return await self.cheat(asked)
        return await self.worker.answer(question)

    async def write(self) -> None:
        """Have the worker keep the pieces on its disk."""
        assert not (await self.worker.probe()).missing
        assert self.worker._kept is not None
        store = self.worker._kept.store
        for name, piece in self.pieces.items():
            with store.receive(name, len(piece.data)) as coming:
                coming.write(piece.data)
                coming.commit(blake3(piece.data).digest(), piece.claim)

    async def rewrite(self, pieces: Mapping[bytes, Piece]) -> None:
        """Have its disk hold these pieces instead."""
        self.worker.close()
        for path in self.lent.iterdir():
            if path.name != MARK:
                path.unlink()
        self.pieces = dict(pieces)
        await self.write()


class Audited:
    """A network with ten keepers of some four pieces each; the first is the one that cheats."""

    def __init__(self, world: World, keepers: Sequence[Keeper], seed: int) -> None:
        self.world = world
        self.keepers = keepers
        self.cheat, *self.honest = keepers
        self.draw = random.Random(seed)
        self.nodes: dict[bytes, list[int]] = {}
        """Of each segment."""

    async def store(self, segments: int = 5) -> None:
        """Have a client store so many segments on them."""
        for index in range(segments):
            plan = await self.world.begin(PAYLOAD, index=index)
            places = self.draw.sample(plan.places, plan.pieces)
            numbered = [msgspec.structs.replace(place, number=number) for number, place in enumerate(places)]
            for place in numbered:
                self._bring(place)
            await self.world.end(plan, self.world.receipts(plan, numbered))
        await self.world.keep()
        self.nodes = await self.named()
        for keeper in self.keepers:
            await keeper.write()

    async def named(self) -> dict[bytes, list[int]]:
        """Which nodes the network counts on for each segment."""
        async with self.world.database.transaction() as tx:
            rows = await tx.fetch("SELECT id, nodes FROM storage.segment")
        return {row["id"]: list(row["nodes"]) for row in rows}

    async def alias(self, keeper: Keeper) -> int:
        async with self.world.database.transaction() as tx:
            (row,) = await tx.fetch("SELECT alias FROM storage.node WHERE node = $1", keeper.id)
        alias: int = row["alias"]
        return alias

    def _bring(self, place: Place) -> None:
        limit = OrderLimit.open(place.limit, NETWORK_KEY)
        data = self.draw.randbytes(limit.bytes_max)
        claim = PieceClaim(net=NET, piece=limit.piece, length=len(data), hash=blake3(data).digest())
        keeper = self.world.machines[place.node]
        assert isinstance(keeper, Keeper)
        keeper.pieces[limit.piece] = Piece(data, claim.seal(signing(self.world.client)))

    async def audit(self, rounds: int) -> None:
        """Have every node be due in each round, half an hour after the one before.

        A piece that was found missing is lost until the next one only: on a disk with very many it changes nothing.
        """
        for _ in range(rounds):
            self.world.clock.advance(ROUND_MS)
            await self.world.tell()
            async with self.world.database.transaction() as tx:
                await tx.execute("UPDATE storage.reputation SET next_ms = 0")
                for segment, nodes in self.nodes.items():
                    await tx.execute("UPDATE storage.segment SET nodes = $2 WHERE id = $1", segment, nodes)
            await self.world.places.audits.once()

    async def score(self, keeper: Keeper) -> Score:
        scores = await self.world.places.audits.scores()
        return next(score for score in scores if score.node == keeper.id)

    async def found(self, keeper: Keeper) -> list[tuple[str, str]]:
        """Evidence against a keeper, and the codes of it, in order."""
        async with self.world.database.transaction() as tx:
            rows = await tx.fetch(
                "SELECT f.code, f.text FROM storage.finding f JOIN storage.node n USING (alias)"
                " WHERE n.node = $1 AND kind = '' ORDER BY id",
                keeper.id,
            )
        return [(row["code"], row["text"]) for row in rows]

    async def tell(self) -> None:
        """Have nodes hear all that was found of them."""
        for _ in range(5):
            await self.world.places.notes.tell()


async def late(_: Prove) -> bytes:
    """Answer no audit in time."""
    raise Unavailable("bus.timeout", "No answer in time.")


@asynccontextmanager
async def audited(dsn: str, *, seed: int = 1) -> AsyncIterator[Audited]:
    """Such a network; nobody cheats yet. Folders are in memory, where that can be: ten nodes sync a lot."""
    with TemporaryDirectory(dir=MEMORY) as name:
        async with places_world(dsn) as world, _made(world, Path(name), seed) as network:
            yield network


@asynccontextmanager
async def _made(world: World, folder: Path, seed: int) -> AsyncIterator[Audited]:
    draw = random.Random(seed)
    world.places = world.process(draw.random, draw.randbytes)
    await world.subscribe()
    keepers = [Keeper(number, folder, world) for number in range(1, 11)]
    await world.enrol(*keepers)
    try:
        network = Audited(world, keepers, seed)
        await network.store()
        await network.audit(1)  # which has all of them met
        yield network
    finally:
        for keeper in keepers:
            keeper.worker.close()
