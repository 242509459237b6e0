"""What the client of objects holds, and how long it keeps others waiting, whatever nodes and readers do."""

from __future__ import annotations

import asyncio
import errno
import mmap
import random
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import Unavailable
from fallow.verticals.storage.client import ground, reading
from fallow.verticals.storage.client.cutting import SMALL_BYTES, Cutter, Held, Room
from fallow.verticals.storage.client.reading import AHEAD_MAX
from fallow.verticals.storage.client.store import Head, Marks
from fallow.verticals.storage.client.waiting import Change
from fallow.verticals.storage.client.window import KEPT, Window
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.coding.portions import Portions
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SEGMENT_BYTES, SHARE_BYTES
from fallow.verticals.storage.core.orders import STEP_BYTES
from fallow.verticals.storage.core.profiles import LAB
from tests.memory_nodes import Wants
from tests.memory_streams import MemoryStream, QuickClock
from tests.storage_world import ACCOUNT, storage_world
from tests.unit.agent_fakes import FakeClock, settle
from tests.unit.test_storage_client import DATA, ended, get, put

KEY = bytes(32)


async def test_a_reader_that_waits_is_not_sent_more_than_a_bound() -> None:
    data = random.Random(1).randbytes(400 * BLOCK_BYTES)
    async with storage_world() as world:
        entry = await put(world, data)
        chunks = world.store.read(ACCOUNT, "bucket", entry, 0, len(data))
        await anext(chunks)
        for _ in range(50):
            await settle()
        moved = sum(node.moved["get"] for node in world.nodes)
        each = (2 * AHEAD_MAX + 1) * SHARE_BYTES + STEP_BYTES + MemoryStream.WINDOW_BYTES
        assert moved <= LAB.needed * each < len(data)
        assert len([chunk async for chunk in chunks]) > 1


async def test_many_readers_that_wait_share_what_is_had_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AHEAD_ALL_BYTES", LAB.needed * SHARE_BYTES)
    data, readers = random.Random(1).randbytes(100 * BLOCK_BYTES), 3
    async with storage_world() as world:
        entry = await put(world, data)
        begun = [world.store.read(ACCOUNT, "bucket", entry, 0, len(data)) for _ in range(readers)]
        for chunks in begun:
            await anext(chunks)
        for _ in range(50):
            await settle()
        each = 3 * SHARE_BYTES + STEP_BYTES + MemoryStream.WINDOW_BYTES
        moved = sum(node.moved["get"] for node in world.nodes)
        assert moved <= readers * LAB.needed * each < readers * len(data)
        for chunks in begun:
            await chunks.aclose()  # type: ignore[attr-defined]
        assert world.store._crew.readings == 0


def test_a_kernel_without_large_pages_holds_segments_in_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("fallow.verticals.storage.client.cutting.mmap.mmap", Small)
    held, data = Held(), random.Random(1).randbytes(SMALL_BYTES + 1)
    held.add(memoryview(data))
    assert held.view() == data


async def test_portions_are_kept_for_those_who_keep_pace_and_made_anew_for_the_others() -> None:
    portions, clock, moved = Portions(Code(4, 8), KEY, memoryview(DATA)), QuickClock(), Change()
    window = Window(portions, 8, 6, clock, moved)
    kept: list[int] = []
    goes = asyncio.Event()

    async def send(piece: int) -> list[bytes]:
        parts = []
        async for part in window.parts(piece, in_step=True):
            parts.append(bytes(part))
            kept.append(len(window._kept))
            if piece in {2, 7}:
                await goes.wait()
        return parts

    async def tick() -> None:
        while not goes.is_set():
            await clock.sleep(0.05)
            moved.tell()

    async with asyncio.TaskGroup() as group:
        making = group.create_task(window.make())
        group.create_task(tick())
        sending = [group.create_task(send(piece)) for piece in range(8)]
        await asyncio.wait({making})
        goes.set()
    made = [portions.make(number) for number in range(len(portions))]
    assert max(kept) <= KEPT < len(portions)
    for piece, task in enumerate(sending):
        assert task.result() == [bytes(parts[piece]) for parts in made]


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1])
async def test_a_body_is_taken_in_up_to_a_bound_and_one_chunk_more(size: int) -> None:
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(size):
            taken += 1
            yield b"x"

    cutter = Cutter(counted(), Room(0))
    await cutter.fill()
    assert len(cutter.held) == min(size, SMALL_BYTES)
    assert taken == min(size, SMALL_BYTES + 1)
    assert cutter.over == (size <= SMALL_BYTES)
    assert len(cutter.take()) == min(size, SMALL_BYTES)
    await cutter.fill()
    assert (len(cutter.held), cutter.over) == (max(0, size - SMALL_BYTES), True)


@given(st.lists(st.integers(0, 3 * SMALL_BYTES), max_size=8), st.integers(0, 6 * SMALL_BYTES))
async def test_segments_are_as_long_as_there_is_room_and_give_it_back(chunks: list[int], free: int) -> None:
    data, room = bytes(range(256)) * (sum(chunks) // 256 + 1), Room(free)

    async def body() -> AsyncIterator[bytes]:
        at = 0
        for size in chunks:
            yield data[at : at + size]
            at += size

    cutter, segments = Cutter(body(), room), list[bytes]()
    await cutter.fill()
    while cutter.held:
        size = len(cutter.held)
        assert size - SMALL_BYTES <= room.free <= free
        assert cutter.over or size >= SMALL_BYTES
        segments.append(bytes(cutter.take()))
        await cutter.fill()
        cutter.give_back(size)
    assert b"".join(segments) == data[: sum(chunks)]
    assert room.free == free


async def test_who_is_slow_keeps_nobody_else_from_storing(monkeypatch: pytest.MonkeyPatch) -> None:
    held = 8 * SMALL_BYTES
    monkeypatch.setattr(ground, "HELD_BYTES_MAX", held)
    chunk, waiting, forever = bytes(SMALL_BYTES), 0, asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        nonlocal waiting
        for _ in range(3):
            yield chunk
        waiting += 1
        await forever.wait()

    async with storage_world() as world, asyncio.TaskGroup() as group:
        room = world.store._room
        tasks = [
            group.create_task(
                world.store.put(ACCOUNT, "bucket", str(number), slow(), lambda: ended(b""), head=Head(), marks=Marks())
            )
            for number in range(40)
        ]
        while waiting < len(tasks):
            await settle()
        assert 0 <= room.free < held // 2
        entry = await put(world, DATA)
        assert await get(world, entry) == DATA
        for task in tasks:
            task.cancel()
    assert room.free == held


async def test_a_body_that_breaks_leaves_nothing_behind() -> None:
    async def breaks(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 1 << 20):
            yield bytes(min(1 << 20, size - start))
        raise Unavailable("http.gone", "The client has gone.")

    async with storage_world() as world:
        for size in (100, 100_000, SEGMENT_BYTES + 100):
            with pytest.raises(Unavailable) as refused:
                await world.store.put(
                    ACCOUNT, "bucket", "k", breaks(size), lambda: ended(b""), head=Head(), marks=Marks()
                )
            assert refused.value.code == "http.gone"
        assert not (await world.store.names(ACCOUNT, "bucket")).entries


async def test_sealing_and_coding_happen_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    main, seen = threading.get_ident(), set[int]()

    def noted(code: Code, shares: list[memoryview], encode: object = Code.encode) -> None:
        seen.add(threading.get_ident())
        encode(code, shares)  # type: ignore[operator]

    monkeypatch.setattr(Code, "encode", noted)
    async with storage_world() as world:
        entry = await put(world, DATA)
        assert await get(world, entry) == DATA
    assert seen
    assert main not in seen


async def test_a_spare_place_takes_over_from_a_node_that_is_slow_at_the_end() -> None:
    """Time goes on until it has been asked: that it may take its time is another matter."""
    clock = FakeClock()
    async with storage_world(nodes=12, clock=clock) as world, asyncio.TaskGroup() as group:
        world.nodes[0].wants = Wants(stalls_after=STEP_BYTES)
        world.nodes[1].wants = Wants(stalls=True)
        putting = group.create_task(put(world, DATA))
        while not putting.done() and sum(1 for node in world.nodes if node.serials) < LAB.pieces + 2:
            await clock.advance(0.01)
        await putting
        assert sum(1 for node in world.nodes if node.pieces) == LAB.pieces
