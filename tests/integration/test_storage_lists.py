"""Lists: what a page shows, and that it costs as much in a large bucket as in a small one."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest

from fallow.ports.database import Transaction
from fallow.verticals.storage.control import locks
from fallow.verticals.storage.control.listing import BEYOND
from fallow.verticals.storage.control.listing_sql import ALL, LATEST, PAGE_BYTES_MAX, RANGE
from fallow.verticals.storage.control.rows import COLUMNS
from fallow.verticals.storage.core.calls.buckets import MakeBucket
from fallow.verticals.storage.core.calls.objects import Deletion, Listed, behind
from fallow.verticals.storage.core.calls.uploads import BeginUpload, ListUploads
from tests.storage_objects import (
    ACCOUNT,
    B,
    ObjectsWorld,
    delete,
    get,
    names,
    objects_world,
    put,
    shown,
    slashes_of,
    versioning,
)

ROWS: Final = 50_000
FOLDERS: Final = 500
OBJECT: Final = "storage.object"
BLOCKS_MAX: Final = 12
"""That a step of a walk reads: all versions are looked for in four places."""


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[ObjectsWorld]:
    async with objects_world(postgres_dsn) as made:
        await made.ask(MakeBucket(account=ACCOUNT, bucket=B))
        yield made


async def test_a_page_shows_names_in_order_and_folders_once(world: ObjectsWorld) -> None:
    for name in (b"zz", b"aa/1", b"aa/2", b"bb/cc/1", b"aa", b"bb/2"):
        await put(world, name)
    assert shown(await names(world)) == [b"aa", b"aa/1", b"aa/2", b"bb/2", b"bb/cc/1", b"zz"]
    top = await names(world, folders=True)
    assert (shown(top), top.folders, top.more) == ([b"aa", b"zz"], [b"aa/", b"bb/"], False)
    below = await names(world, prefix=b"bb/", folders=True)
    assert (shown(below), below.folders) == ([b"bb/2"], [b"bb/cc/"])
    partly = await names(world, prefix=b"b", folders=True)
    assert (shown(partly), partly.folders) == ([], [b"bb/"])
    assert await names(world, prefix=b"c") == Listed()


async def test_a_page_that_is_cut_goes_on_where_it_ended(world: ObjectsWorld) -> None:
    for name in (b"aa/1", b"aa/2", b"bb", b"cc/1"):
        await put(world, name)
    first = await names(world, folders=True, limit=1)
    assert (first.folders, first.more, first.after) == ([b"aa/"], True, behind(b"aa/"))
    second = await names(world, folders=True, limit=1, after=first.after)
    assert (shown(second), second.folders, second.more, second.after) == ([b"bb"], [], True, b"bb")
    last = await names(world, folders=True, limit=1, after=second.after)
    assert (last.folders, last.more, last.after) == ([b"cc/"], False, b"")
    assert await names(world, limit=0) == Listed()


async def test_a_page_behind_a_folder_shows_nothing_of_it(world: ObjectsWorld) -> None:
    for name in (b"aa/1", b"aa/2", b"aa/3", b"bb/1"):
        await put(world, name)
    assert (await names(world, folders=True, after=behind(b"aa/"))).folders == [b"bb/"]
    assert (await names(world, folders=True, after=b"aa/1")).folders == [b"aa/", b"bb/"]
    assert (await names(world, folders=True, after=b"a")).folders == [b"aa/", b"bb/"]
    assert shown(await names(world, after=b"aa/1", limit=2)) == [b"aa/2", b"aa/3"]


async def test_what_is_deleted_shows_among_all_versions_only(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    kept, gone = await put(world, b"kept"), await put(world, b"dir/gone")
    (marker,) = await delete(world, Deletion(object=b"dir/gone", slashes=slashes_of(b"dir/gone")))
    listed = await names(world, folders=True)
    assert (shown(listed), listed.folders) == ([b"kept"], [])
    assert (await names(world, folders=True, all_versions=True)).folders == [b"dir/"]
    everything = (await names(world, all_versions=True)).versions
    assert [(v.version, v.marker, v.latest) for v in everything] == [
        (marker.version, True, True),
        (gone.version, False, False),
        (kept.version, False, True),
    ]
    first = await names(world, all_versions=True, limit=1)
    assert (first.more, first.after, first.after_version) == (True, b"dir/gone", marker.version)
    rest = await names(world, all_versions=True, after=first.after, after_version=first.after_version)
    assert [v.version for v in rest.versions] == [gone.version, kept.version]
    assert shown(await names(world, all_versions=True, after=b"dir/gone")) == [b"kept"]


async def test_heads_come_where_they_are_wanted_and_inline_bytes_never(world: ObjectsWorld) -> None:
    await put(world, b"a", head=b"h", tags=b"t", key=b"k")
    for more in ({}, {"folders": True}, {"all_versions": True}):
        (bare,) = (await names(world, **more)).versions
        (full,) = (await names(world, **more, heads=True)).versions
        assert (bare.head, bare.tags, full.head, full.tags) == (b"", b"", b"h", b"t")
        assert bare.inline is full.inline is None
        assert (full.etag, full.size, full.stream) == ("data", 4, (await get(world, b"a")).stream)


async def test_a_page_ends_where_it_would_be_too_large_for_the_bus(world: ObjectsWorld) -> None:
    wanted = [f"{n:03}".encode() for n in range(60)]
    for name in wanted:
        await put(world, name, head=bytes(12_000), tags=bytes(12_000))
    for more in ({}, {"folders": True}, {"all_versions": True}):
        found: list[bytes] = []
        page = Listed(more=True)
        while page.more:
            page = await names(world, **more, heads=True, after=page.after, after_version=page.after_version)
            assert all(len(version.head) == len(version.tags) == 12_000 for version in page.versions)
            assert 0 < 24_000 * len(page.versions) <= PAGE_BYTES_MAX
            found += shown(page)
        assert found == wanted
        assert shown(await names(world, **more)) == wanted


async def test_the_longest_names_are_kept_and_listed(world: ObjectsWorld) -> None:
    await versioning(world, "enabled")
    draw = random.Random(2)
    wanted = sorted(draw.randbytes(2040) + end for end in (b"/1234567", b"\xff" * 8))
    for name in wanted * 2:
        await put(world, name)
        await world.ask(BeginUpload(account=ACCOUNT, bucket=B, object=name, stream=world.stream()))
    assert shown(await names(world, prefix=wanted[0][:2000])) == wanted[:1]
    assert shown(await names(world, all_versions=True)) == [name for name in wanted for _ in range(2)]
    assert shown(await names(world, after=wanted[0])) == wanted[1:]
    uploads = await world.ask(ListUploads(account=ACCOUNT, bucket=B, prefix=wanted[1], after=wanted[0]))
    assert [upload.object for upload in uploads] == [wanted[1]] * 2


async def fill(world: ObjectsWorld) -> int:
    """Put 50,000 names into 500 folders, beside another bucket's, in an order of chance."""
    await world.ask(MakeBucket(account=ACCOUNT, bucket="other"))
    draw = random.Random(1)
    async with world.database.transaction() as tx:
        ids = [(await world.objects.bucket_of(tx, ACCOUNT, name)).id for name in (B, "other")]
        rows = [row(bucket, number) for bucket in ids for number in range(ROWS)]
        draw.shuffle(rows)
        await tx.copy(OBJECT, COLUMNS, rows)
        older = [{**dict(zip(COLUMNS, kept, strict=True)), "version": bytes(16), "stream": None} for kept in rows[::2]]
        await tx.copy("storage.version", COLUMNS, [tuple(kept[column] for column in COLUMNS) for kept in older])
    return ids[0]


def row(bucket: int, number: int) -> tuple[object, ...]:
    name = f"{number % FOLDERS:04}/photographs/of the year {number:06}.jpeg".encode()
    values = {
        "bucket_id": bucket,
        "size": 1,
        "until_ms": 0,
        "retention": 0,
        "is_null": False,
        "marker": False,
        "hold": False,
        "name": name,
        "version": (1).to_bytes(16),
        "stream": bucket.to_bytes(8) + number.to_bytes(8),
        "etag": b"0123456789abcdef0123456789abcdef",
        "key": b"",
        "slashes": slashes_of(name),
        "parts": None,
        "head": bytes(150),
        "tags": b"",
        "inline": None,
    }
    return tuple(values[column] for column in COLUMNS)


def nodes(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


async def explained(tx: Transaction, query: str, *args: object) -> tuple[list[Mapping[str, Any]], int]:
    """The nodes of a query's plan, and how many blocks it read."""
    rows = await tx.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {query}", *args)
    plan = json.loads(rows[0]["QUERY PLAN"])[0]["Plan"]
    return nodes(plan), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


async def test_pages_are_looks_into_the_index_however_large_the_bucket(world: ObjectsWorld) -> None:
    bucket = await fill(world)
    limit = 100
    # Before the planner knows anything about the tables, and after; at a bucket's beginning, and near its end.
    for analyze in (False, True):
        if analyze:
            async with world.database.transaction() as tx:
                await tx.execute("ANALYZE storage.object, storage.version")
        for after in (b"0000/a", b"0390/a"):
            bounds = (bucket, after, BEYOND, limit)
            walk = (*bounds, BEYOND, 0)
            for query, args in ((RANGE, bounds), (LATEST, walk), (ALL, (*walk, after, None))):
                async with world.database.transaction() as tx:
                    await locks.by_index(tx)
                    found, blocks = await explained(tx, query[True], *args)
                kinds = {node["Node Type"] for node in found if node.get("Relation Name") in {"object", "version"}}
                assert kinds <= {"Index Scan", "Index Only Scan"}, kinds
                assert blocks < BLOCKS_MAX * limit, (after, blocks)
    page = await names(world, folders=True)
    assert (page.folders, page.more) == ([f"{n:04}/".encode() for n in range(FOLDERS)], False)
    assert len((await names(world, prefix=b"0001/")).versions) == ROWS // FOLDERS
