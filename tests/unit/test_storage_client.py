"""Objects written and read back through nodes in memory, of which some are away, slow, or lie."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fallow.domain.errors import FallowError, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.ports.remembered import MOMENT_MS
from fallow.verticals.storage.client import ground
from fallow.verticals.storage.client.store import Deleting, Ended, Entry, Head, Lock, Marks
from fallow.verticals.storage.core.calls.buckets import GetBucket
from fallow.verticals.storage.core.calls.objects import INLINE_FULL
from fallow.verticals.storage.core.calls.segments import ReadSegments, SayAltered
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SEGMENT_BYTES, SHARE_BYTES
from fallow.verticals.storage.core.orders import ORDER_BYTES, STEP_BYTES
from fallow.verticals.storage.core.profiles import LAB, WIDE
from tests.memory_nodes import Wants
from tests.memory_streams import QuickClock
from tests.network import until
from tests.storage_world import ACCOUNT, World, another_store, storage_world
from tests.unit.agent_fakes import FakeClock, eventually

SIZE = 40 * BLOCK_BYTES + 77
DATA = random.Random(1).randbytes(SIZE)


async def body(data: bytes, cuts: Sequence[int] = ()) -> AsyncIterator[bytes]:
    for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True):
        yield data[start:stop]


def ended(data: bytes) -> Ended:
    return Ended(hashlib.md5(data, usedforsecurity=False).hexdigest(), {"crc32": "AAAA"})


async def put(world: World, data: bytes, key: str = "a/b", cuts: Sequence[int] = ()) -> Entry:
    return await world.store.put(
        ACCOUNT, "bucket", key, body(data, cuts), lambda: ended(data), head=Head(metadata={"m": "1"}), marks=Marks()
    )


async def get(world: World, entry: Entry, start: int = 0, stop: int | None = None) -> bytes:
    chunks = world.store.read(ACCOUNT, "bucket", entry, start, entry.size if stop is None else stop)
    return b"".join([chunk async for chunk in chunks])


def holders(world: World) -> list[bytes]:
    return [node.id for node in world.nodes if node.pieces]


@pytest.mark.parametrize("size", [0, 1, 16_000, 16_368, 16_369, BLOCK_BYTES, 4 * BLOCK_BYTES, SIZE])
async def test_what_was_put_is_read_and_nothing_of_it_lies_bare(size: int) -> None:
    data = DATA[:size]
    async with storage_world() as world:
        entry = await put(world, data)
        assert (entry.size, entry.head.etag, entry.head.metadata) == (size, ended(data).etag, {"m": "1"})
        assert entry.head.checksums == {"crc32": "AAAA"}
        found = await world.store.entry(ACCOUNT, "bucket", "a/b")
        assert found == entry
        assert await get(world, found) == await get(world, found._replace(source=None)) == data
        assert bool(holders(world)) == (size > 16_368)
        if size > 100:
            assert not any(data[:100] in piece for node in world.nodes for piece in node.pieces.values())


@pytest.mark.parametrize("size", [0, 1, 16_368])
async def test_a_small_object_goes_to_nodes_where_the_network_keeps_no_more_of_them(size: int) -> None:
    data = DATA[:size]
    async with storage_world() as world:
        world.control.inline_refused = TooMuch(INLINE_FULL, "Full.")
        entry = await put(world, data)
        assert (entry.size, entry.head.etag) == (size, ended(data).etag)
        found = await world.store.entry(ACCOUNT, "bucket", "a/b")
        assert await get(world, found) == await get(world, found._replace(source=None)) == data
        assert bool(holders(world)) == (size > 0)


async def test_what_the_network_refuses_for_another_reason_goes_to_no_node() -> None:
    async with storage_world() as world:
        world.control.inline_refused = TooMuch("storage.kept_full", "Full.")
        with pytest.raises(TooMuch, match="kept_full"):
            await put(world, b"data")
        assert not holders(world)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.one_of(st.integers(0, 100_000), st.integers(0, SIZE)))
async def test_any_bytes_cut_anyhow_are_read_in_any_range_with_any_nodes_away(draw: st.DataObject, size: int) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, size), max_size=10)))
    start, stop = sorted((draw.draw(st.integers(0, size)), draw.draw(st.integers(0, size))))
    async with storage_world() as world:
        entry = await put(world, DATA[:size], cuts=cuts)
        away = draw.draw(st.permutations(holders(world)))[: LAB.pieces - LAB.needed]
        world.reach.dead.update(away)
        assert await get(world, entry, start, stop) == DATA[start:stop]


async def test_an_object_of_64_mib_is_one_segment() -> None:
    async with storage_world() as world:
        await put(world, bytes(64 << 20))
        assert sum(len(node.pieces) for node in world.nodes) == LAB.pieces


async def test_an_object_of_several_segments_is_read_in_ranges() -> None:
    data = random.Random(1).randbytes(SEGMENT_BYTES + 3 * BLOCK_BYTES)
    async with storage_world() as world:
        entry = await put(world, data)
        for start, stop in ((0, len(data)), (SEGMENT_BYTES - 5, SEGMENT_BYTES + 5), (SEGMENT_BYTES, len(data))):
            assert await get(world, entry, start, stop) == data[start:stop]


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (0, 2, 1), (0, 0, 2)])
async def test_segments_that_are_left_out_or_out_of_order_are_found(
    order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "HELD_BYTES_MAX", 0)
    async with storage_world() as world:
        entry = await put(world, DATA)
        ask = world.control.ask

        async def other(call: Any) -> Any:
            found = await ask(call)
            if not isinstance(call, ReadSegments) or call.start:
                return found
            assert len(found) == 3
            at, told = 0, []
            for number in order:
                told.append(msgspec.structs.replace(found[number], start=at))
                at += found[number].payload
            return told

        world.control.ask = other  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match=r"storage\.altered"):
            await get(world, entry)


async def test_the_wide_profile_keeps_few_portions() -> None:
    async with storage_world(nodes=100, profile=WIDE) as world:
        entry = await put(world, DATA)
        world.reach.dead.update(random.Random(3).sample(holders(world), WIDE.pieces - WIDE.needed))
        assert await get(world, entry) == DATA


async def test_with_too_few_nodes_reading_ends_and_says_why() -> None:
    async with storage_world() as world:
        entry = await put(world, DATA)
        world.reach.dead.update(holders(world)[: LAB.pieces - LAB.needed + 1])
        with pytest.raises(FallowError) as refused:
            await get(world, entry)
        assert refused.value.code == "storage.unreadable"
        assert "not connected" in refused.value.hint


async def test_a_range_touches_the_nodes_that_hold_it_and_no_others() -> None:
    async with storage_world() as world:
        entry = await put(world, DATA)
        world.reach.opened.clear()
        assert await get(world, entry, 10, 20) == DATA[10:20]
        assert sum(world.reach.opened.values()) == 1
        assert sum(node.moved["get"] for node in world.nodes) == SHARE_BYTES
        world.reach.opened.clear()
        assert await get(world, entry, BLOCK_BYTES - 1, BLOCK_BYTES + 1) == DATA[BLOCK_BYTES - 1 : BLOCK_BYTES + 1]
        assert sum(world.reach.opened.values()) == 2


async def test_all_bytes_that_moved_are_paid_for_and_no_more() -> None:
    async with storage_world() as world:
        entry = await put(world, DATA)
        assert all(node.paid["put"] == node.moved["put"] for node in world.nodes)
        await get(world, entry)
        assert sum(node.moved["get"] for node in world.nodes) > SIZE
        assert all(node.paid["get"] == node.moved["get"] for node in world.nodes)


@pytest.mark.parametrize(
    "wants", [Wants(refuses=True), Wants(dies_after=0), Wants(dies_after=STEP_BYTES), Wants(lies=True)]
)
async def test_pieces_of_nodes_that_fail_in_the_middle_go_to_others(wants: Wants) -> None:
    async with storage_world(nodes=14) as world:
        for node in world.nodes[:3]:
            node.wants = wants
        entry = await put(world, DATA)
        for node in world.nodes[:3]:
            node.wants = Wants()
        assert await get(world, entry) == DATA
        assert len(holders(world)) >= LAB.pieces


async def test_further_places_are_asked_for_when_spare_ones_are_used_up() -> None:
    async with storage_world(nodes=14) as world:
        for node in world.nodes[:5]:
            node.wants = Wants(refuses=True)
        for number in range(5):
            await put(world, DATA[:100_000], key=str(number))
        assert world.control.asked["segment.more"]


async def test_too_few_nodes_leave_nothing_behind() -> None:
    async with storage_world() as world:
        for node in world.nodes[:7]:
            node.wants = Wants(refuses=True)
        with pytest.raises(Unavailable):
            await put(world, DATA)
        with pytest.raises(NotFound):
            await world.store.entry(ACCOUNT, "bucket", "a/b")


async def test_an_owners_machine_sends_a_segment_again_where_all_streams_broke() -> None:
    clock = FakeClock()
    async with storage_world() as world, another_store(world, bytes(32), own=True, clock=clock) as store:
        await store.make_bucket(ACCOUNT, "own", settings={})
        world.reach.dead = set(world.reach.nodes)
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(
                store.put(ACCOUNT, "own", "a", body(DATA), lambda: ended(DATA), head=Head(), marks=Marks())
            )
            await eventually(lambda: world.control.asked["segment.more"] > 0)
            world.reach.dead.clear()
            await clock.advance(ground.AGAIN_S[0])
        entry = storing.result()
        assert b"".join([chunk async for chunk in store.read(ACCOUNT, "own", entry, 0, SIZE)]) == DATA
        world.reach.dead = set(world.reach.nodes)
        with pytest.raises(Unavailable):
            await put(world, DATA)  # through a hosted gateway: its client tries again


async def test_what_finish_refuses_leaves_nothing_behind() -> None:
    def finish() -> Ended:
        raise InvalidInput("s3.digest", "The bytes are others.")

    for data in (b"small", DATA):
        async with storage_world() as world:
            with pytest.raises(InvalidInput):
                await world.store.put(ACCOUNT, "bucket", "k", body(data), finish, head=Head(), marks=Marks())
            assert not holders(world)
            assert not (await world.store.names(ACCOUNT, "bucket")).entries


@pytest.mark.parametrize("wants", [Wants(stalls=True), Wants(stalls_after=ORDER_BYTES)])
async def test_nodes_that_stall_keep_neither_writers_nor_readers(wants: Wants) -> None:
    async with storage_world(clock=QuickClock()) as world:
        for node in world.nodes[:2]:
            node.wants = wants
        entry = await put(world, DATA)
        assert await get(world, entry) == DATA
        for node in world.nodes[:2]:
            node.wants = Wants()
        entry = await put(world, DATA)
        for node in world.nodes[:4]:
            node.wants = wants
        assert await get(world, entry) == DATA


@pytest.mark.parametrize("liars", [1, 2, 4])
@pytest.mark.parametrize(("start", "stop"), [(0, SIZE), (100, 200), (SIZE - 100, SIZE)])
async def test_a_flipped_bit_is_found_and_blamed_on_its_node(liars: int, start: int, stop: int) -> None:
    async with storage_world(nodes=8 + liars) as world:
        entry = await put(world, DATA)
        wrong = random.Random(start).sample([node for node in world.nodes if node.pieces], liars)
        for node in wrong:
            node.wants = Wants(flips=True)
        assert await get(world, entry, start, stop) == DATA[start:stop]
        assert set(world.store.altered) <= {node.id for node in wrong}
        if (start, stop) == (0, SIZE) and any(node.moved["get"] for node in wrong):
            assert world.store.altered
        said = world.control.said
        await until(lambda: Counter(node for _, node in said) == world.store.altered, "the network hears of each")


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("deleted", [True, False])
async def test_the_network_hears_once_of_what_is_gone_or_altered_and_who_reads_goes_on_whatever_it_says(
    monkeypatch: pytest.MonkeyPatch, *, deleted: bool, heard: bool
) -> None:
    async with storage_world(nodes=10) as world:
        entry = await put(world, DATA)
        segment = next(iter(world.control._segments.values()))
        wrong = next(node for node in world.nodes if node.id == segment.nodes[0])
        if deleted:
            wrong.pieces.clear()
        else:
            wrong.wants = Wants(flips=True)
        said = list[tuple[bytes, bytes]]()

        def hear(call: SayAltered) -> None:
            said.append((call.segment, call.node))
            if not heard:
                raise Unavailable("bus.timeout", "Nobody answered.")

        monkeypatch.setattr(world.control, "_segment_altered", hear)
        for _ in range(2):
            assert await get(world, entry) == DATA
        assert {node for _, node in said} == {wrong.id}
        assert len(said) == len(set(said)) <= 3, "once for each segment"


async def test_a_reader_who_leaves_ends_what_is_under_way() -> None:
    async with storage_world() as world:
        entry = await put(world, DATA)
        chunks = world.store.read(ACCOUNT, "bucket", entry, 0, SIZE)
        assert (await anext(chunks))[:10] == DATA[:10]
        await chunks.aclose()  # type: ignore[attr-defined]


async def test_an_upload_in_parts_is_one_object() -> None:
    parts = [DATA, DATA[:20_000], DATA[:5]]
    async with storage_world() as world:
        store = world.store
        upload = await store.begin(ACCOUNT, "bucket", "k", head=Head(headers={"x": "y"}), marks=Marks(tags={"t": "1"}))
        begun = await store.begun(ACCOUNT, "bucket", "k", upload)
        assert (begun.head.headers, begun.marks.tags) == ({"x": "y"}, {"t": "1"})
        assert [one.upload for one in await store.uploads(ACCOUNT, "bucket")] == [upload]
        await store.put_part(ACCOUNT, "bucket", "k", upload, 2, body(b"other"), lambda: ended(b"other"))
        for number, data in enumerate(parts, start=1):
            await store.put_part(ACCOUNT, "bucket", "k", upload, number, body(data), partial(ended, data))
        listed = await store.parts(ACCOUNT, "bucket", "k", upload)
        assert [(part.number, part.size, sums["crc32"]) for part, sums in listed] == [
            (number, len(data), "AAAA") for number, data in enumerate(parts, start=1)
        ]
        chosen = [(part.number, part.etag) for part, _ in listed]
        entry = await store.complete(ACCOUNT, "bucket", "k", upload, chosen, head=Head(etag="e-3"))
        whole = b"".join(parts)
        assert (entry.size, entry.head.etag, entry.marks.tags) == (len(whole), "e-3", {"t": "1"})
        assert await get(world, entry) == whole
        assert await get(world, entry, SIZE - 5, SIZE + 20_003) == whole[SIZE - 5 : SIZE + 20_003]
        with pytest.raises(NotFound):
            await store.abort(ACCOUNT, "bucket", "k", upload)


async def test_versions_markers_and_marks() -> None:
    async with storage_world() as world:
        store = world.store
        first = await put(world, b"one", key="k")
        assert first.version == "null"
        await store.set_bucket(ACCOUNT, "bucket", versioning="enabled", settings={"cors": b"x"})
        second = await put(world, b"two", key="k")
        gone = await store.delete(ACCOUNT, "bucket", [Deleting("k"), Deleting("k", "zz"), Deleting("k", "null")])
        assert [(one.version, one.marker, one.error) for one in gone[1:]] == [
            ("zz", False, "storage.no_version"),
            ("null", False, ""),
        ]
        listed = await store.names(ACCOUNT, "bucket", versions=True)
        assert [(one.version, one.marker, one.latest) for one in listed.entries] == [
            (gone[0].version, True, True),
            (second.version, False, False),
        ]
        await store.mark(ACCOUNT, "bucket", second, hold=True)
        marked = await store.mark(
            ACCOUNT, "bucket", second, marks=Marks(tags={"a": "b"}), retention="governance", until_ms=5
        )
        assert (marked.marks.tags, marked.lock) == ({"a": "b"}, Lock("governance", 5, hold=True))
        assert await get(world, await store.entry(ACCOUNT, "bucket", "k", second.version)) == b"two"
        with pytest.raises(NotFound):
            await store.entry(ACCOUNT, "bucket", "k", "no hex")


async def test_a_name_that_is_none_is_refused() -> None:
    async with storage_world() as world:
        for key in ("", "a" * 1025, "\ud800"):
            with pytest.raises(InvalidInput):
                await put(world, b"x", key=key)


async def test_a_bucket_is_asked_for_once_in_a_moment_and_anew_once_it_was_changed_here() -> None:
    clock = FakeClock()
    async with storage_world(clock=clock) as world:
        store, asked = world.store, world.control.asked
        for _ in range(3):
            assert (await store.bucket("bucket")).settings.get("policy") is None
        assert asked["bucket.get"] == 1
        await store.set_bucket(ACCOUNT, "bucket", settings={"policy": b"deny"})
        assert (await store.bucket("bucket")).settings["policy"] == b"deny"
        async with another_store(world, blake3(ACCOUNT.encode()).digest(), own=False) as other:
            await other.set_bucket(ACCOUNT, "bucket", settings={"policy": None})
        assert (await store.bucket("bucket")).settings["policy"] == b"deny"
        await clock.advance(MOMENT_MS / 1000)
        assert "policy" not in (await store.bucket("bucket")).settings
        await store.drop_bucket(ACCOUNT, "bucket")
        with pytest.raises(NotFound):
            await store.bucket("bucket")


async def test_what_was_said_of_a_bucket_before_it_changed_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with storage_world() as world:
        ask, said, late = world.control.ask, asyncio.Event(), asyncio.Event()

        async def slow(call: Any) -> Any:
            found = await ask(call)
            if isinstance(call, GetBucket):
                said.set()
                await late.wait()
            return found

        monkeypatch.setattr(world.control, "ask", slow)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(world.store.bucket("bucket"))
            await said.wait()
            await world.store.set_bucket(ACCOUNT, "bucket", settings={"policy": b"deny"})
            late.set()
        assert "policy" not in reading.result().settings
        assert (await world.store.bucket("bucket")).settings["policy"] == b"deny"
