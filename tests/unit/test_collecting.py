"""Which blobs stay, and which go: the production collector, beside a market that says what it needs."""

# ruff: noqa: D102 - what a market answers

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from fallow.adapters.memory.blobs import MemoryBlobs
from fallow.adapters.memory.bus import MemoryHub
from fallow.domain import calls
from fallow.domain.errors import NotFound, Unavailable
from fallow.http.collecting import DAY_MS, UNUSED_MS, Collector
from fallow.ports.rpc import serve
from tests.unit.agent_fakes import FakeClock

OWNER, OTHER = "a1" * 20, "b2" * 20
KEEP_MS = 30 * DAY_MS


class World:
    """`needs` are pages of what each job needs, `ended` when it ended; None is open."""

    def __init__(self) -> None:
        self.hub, self.clock = MemoryHub(), FakeClock()
        self.clock.ms += 100 * DAY_MS
        self.blobs = MemoryBlobs(self.clock.now_ms)
        self.needs: dict[str, list[calls.jobs.JobBlobs]] = {}
        self.ended: dict[str, int | None] = {}
        self.collector = Collector(self.hub.connect(), self.blobs, self.clock, keep_ms=KEEP_MS)

    async def put(self, data: bytes, owner: str = OWNER) -> str:
        """Store a blob."""
        sha256 = hashlib.sha256(data).hexdigest()

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await self.blobs.put(owner, sha256, chunks(), bytes_max=len(data))
        return sha256

    def job(self, name: str, *pages: tuple[list[str], list[str]], ended: int | None = None, owner: str = OWNER) -> None:
        """A job that needs blobs, and results, in pages."""
        self.needs[name] = [
            calls.jobs.JobBlobs(
                owner=owner, blobs=blobs, results=results, last=None if number == len(pages) else number
            )
            for number, (blobs, results) in enumerate(pages, 1)
        ]
        self.ended[name] = ended

    async def left(self) -> set[str]:
        """What is there after a look."""
        await self.collector.collect()
        return {each.sha256 async for each in self.blobs.stored()}

    async def kept_jobs(self, request: calls.jobs.KeptJobs) -> list[str]:
        kept = [job for job, ended in self.ended.items() if ended is None or ended > request.ended_after]
        return sorted(job for job in kept if job > request.after)[:2]

    async def job_blobs(self, request: calls.jobs.JobBlobsRef) -> calls.jobs.JobBlobs:
        return self.needs[request.job][max(0, request.after)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World()) as made:
        yield made


@asynccontextmanager
async def serving(made: World) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        bus = made.hub.connect()
        await stack.enter_async_context(
            serve(bus, calls.jobs.KEPT_JOBS, calls.jobs.KeptJobs, made.kept_jobs, queue="market")
        )
        await stack.enter_async_context(
            serve(bus, calls.jobs.JOB_BLOBS, calls.jobs.JobBlobsRef, made.job_blobs, queue="market")
        )
        yield made


async def test_what_open_and_lately_ended_jobs_need_stays_and_the_rest_goes(world: World) -> None:
    outputs = [await world.put(f"output {number}".encode()) for number in range(3)]
    results = [await world.put(f'{{"stdout":{{"sha256":"{output}"}}}}'.encode()) for output in outputs]
    inputs = [await world.put(f"input {number}".encode()) for number in range(4)]
    overtaken, checkpoint = await world.put(b"checkpoint 1"), await world.put(b"checkpoint 2")
    others = await world.put(b"input 0", OTHER)
    now = world.clock.now_ms()
    world.job("a", ([inputs[0]], []), ([checkpoint], [results[0]]))
    world.job("b", ([inputs[1]], [results[1]]), ended=now)
    world.job("c", ([inputs[2]], [results[2]]), ended=now - KEEP_MS + 2 * UNUSED_MS)
    everything = {*outputs, *results, *inputs, overtaken, checkpoint, others}
    assert await world.left() == everything, "all of it was used just now"

    world.clock.ms += UNUSED_MS + 1
    gone = {inputs[3], overtaken}
    assert await world.left() == everything - gone
    assert world.collector.view.removed == 2 + 1, "and what another account called the same"
    with pytest.raises(NotFound):
        await world.blobs.size(OTHER, others)
    assert world.collector.view.removed_bytes == len(b"input 3") + len(b"checkpoint 1") + len(b"input 0")

    world.clock.ms += UNUSED_MS
    gone |= {inputs[2], results[2], outputs[2]}
    assert await world.left() == everything - gone
    world.clock.ms += KEEP_MS
    assert await world.left() == {inputs[0], checkpoint, results[0], outputs[0]}, "what is open needs"
    assert await world.left() == {inputs[0], checkpoint, results[0], outputs[0]}
    assert world.collector.view.removed == 0


async def test_what_is_used_again_stays_for_a_while(world: World) -> None:
    one, other = await world.put(b"one"), await world.put(b"other")
    world.clock.ms += UNUSED_MS + 1
    await world.blobs.size(OWNER, one)
    assert await world.left() == {one}
    assert other not in await world.left()


async def test_an_order_that_comes_while_it_looks_loses_nothing(world: World) -> None:
    """The buyer asks whether his input is still there, and orders: between the market's answer and the removal."""
    sha256 = await world.put(b"an old input")
    world.clock.ms += UNUSED_MS + 1
    asked = world.kept_jobs

    async def and_then_he_comes(request: calls.jobs.KeptJobs) -> list[str]:
        answer = await asked(request)
        await world.blobs.size(OWNER, sha256)
        return answer

    hub = MemoryHub()
    async with serve(hub.connect(), calls.jobs.KEPT_JOBS, calls.jobs.KeptJobs, and_then_he_comes, queue="market"):
        collector = Collector(hub.connect(), world.blobs, world.clock, keep_ms=KEEP_MS)
        assert (await collector.collect()).removed == 0
    assert await world.blobs.size(OWNER, sha256) == len(b"an old input")


async def test_without_the_markets_word_nothing_goes(world: World) -> None:
    sha256 = await world.put(b"who knows")
    world.clock.ms += UNUSED_MS + 1
    alone = Collector(MemoryHub().connect(), world.blobs, world.clock, keep_ms=KEEP_MS)
    with pytest.raises(Unavailable):
        await alone.collect()
    assert [each.sha256 async for each in world.blobs.stored()] == [sha256]


async def test_names_that_are_cut_between_two_pieces_are_found(world: World) -> None:
    outputs = [await world.put(f"{number}".encode()) for number in range(3)]
    pad = b" " * ((1 << 20) - 30)
    names = [f'"{output}"'.encode() for output in outputs]
    document = await world.put(pad + names[0] + pad + names[1] + b"," + names[2])
    world.job("a", ([], [document]))
    world.clock.ms += UNUSED_MS + 1
    assert await world.left() == {*outputs, document}
