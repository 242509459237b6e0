"""Lifecycle rules carried out on the network's own side of objects, on a real database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from blake3 import blake3

from fallow.verticals.storage.client.keys import Keys, keys_under
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.opening import opened_store
from fallow.verticals.storage.client.store import Deleting, Ended, Head, Marks
from fallow.verticals.storage.core.calls.uploads import BeginUpload
from fallow.verticals.storage.core.tariff import DAY_MS
from fallow.verticals.storage.gateway.expiry import due_ms
from fallow.verticals.storage.gateway.lifecycle import LIFECYCLE, LifecycleRule, encode_lifecycle
from fallow.verticals.storage.gateway.sweeping import Sweeper, taking
from tests.epoch_files import NET, NETWORK_KEY
from tests.storage_objects import ACCOUNT, B, ObjectsWorld, objects_world, put
from tests.unit.agent_fakes import FakeClock


class World:
    """A store on the database, and a sweeper."""

    def __init__(self, objects: ObjectsWorld, store: ObjectStore) -> None:
        self.objects = objects
        self.store = store
        self.sweeper = Sweeper(store, taking(objects), objects.clock)

    async def put(self, key: str) -> None:
        """Put a small object."""
        await self.store.put(ACCOUNT, B, key, body(), lambda: Ended("e", {}), head=Head(), marks=Marks())

    async def sweep(self) -> dict[str, int]:
        """Sweep all that the network hands out."""
        taken = await taking(self.objects)()
        return {name: count for bucket in taken for name, count in (await self.sweeper.sweep(bucket)).items()}

    async def there(self, *, versions: bool = False) -> list[tuple[str, bool]]:
        """Keys, and whether they are markers."""
        found = await self.store.names(ACCOUNT, B, versions=versions)
        return [(one.key, one.marker) for one in found.entries]


async def body() -> AsyncIterator[bytes]:
    yield b"data"


@asynccontextmanager
async def opened(objects: ObjectsWorld) -> AsyncIterator[ObjectStore]:
    reach: Any = None  # nothing here is larger than what lies inline
    async with opened_store(
        NET,
        NETWORK_KEY,
        objects,
        reach,
        FakeClock(),
        keys_of=keys_under(lambda account: blake3(account.encode()).digest(), os.urandom),
        random_bytes=os.urandom,
    ) as store:
        yield store


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with objects_world(postgres_dsn) as objects, opened(objects) as store:
        yield World(objects, store)


def rules(**what: Any) -> dict[str, bytes]:
    return {LIFECYCLE: encode_lifecycle([LifecycleRule(id="r", enabled=True, **what)])}


async def test_objects_below_a_prefix_go_and_others_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.verticals.storage.gateway.sweeping.PAGE", 4)
    await world.store.make_bucket(ACCOUNT, B, settings=rules(prefix="log/2", days=1, parts_days=1))
    for number in range(15, 31):
        await world.put(f"log/{number}")
    await world.store.begin(ACCOUNT, B, "log/2-upload", head=Head(), marks=Marks())
    assert await world.sweep() == {}
    world.objects.clock.now = due_ms(world.objects.clock.now, 1)
    assert await world.sweep() == {"latest": 10, "upload": 1}
    assert [key for key, _ in await world.there()] == [f"log/{number}" for number in (15, 16, 17, 18, 19, 30)]
    assert await world.sweep() == {}, "the bucket is handed out once an hour"


async def test_a_name_that_is_no_text_is_left_out_where_names_are_listed(world: World) -> None:
    await world.store.make_bucket(ACCOUNT, B, settings={})
    sealed = Keys.under(blake3(ACCOUNT.encode()).digest(), B, os.urandom).seal_name(b"\xff")
    await put(world.objects, sealed)
    await world.objects.ask(BeginUpload(account=ACCOUNT, bucket=B, object=sealed, stream=world.objects.stream()))
    await world.put("good")
    listed = await world.store.names(ACCOUNT, B)
    assert ([one.key for one in listed.entries], listed.damaged) == (["good"], [sealed])
    assert await world.store.uploads(ACCOUNT, B) == []


async def test_all_uploads_are_listed_over_many_pages(world: World) -> None:
    await world.store.make_bucket(ACCOUNT, B, settings={})
    begun = {await world.store.begin(ACCOUNT, B, f"up/{n}", head=Head(), marks=Marks()) for n in range(70)}
    listed = await world.store.uploads(ACCOUNT, B)
    assert {one.upload for one in listed} == begun
    assert [one.key for one in listed] == sorted(f"up/{n}" for n in range(70))
    some = await world.store.uploads(ACCOUNT, B, after=listed[9].key, after_upload=listed[9].upload, limit=40)
    assert some == listed[10:50]


async def test_uploads_that_nobody_can_read_hide_none_behind_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.gateway.sweeping.PAGE", 2)
    await world.store.make_bucket(ACCOUNT, B, settings=rules(parts_days=1))
    for number in range(3):
        await world.store.begin(ACCOUNT, B, f"up/{number}", head=Head(), marks=Marks())
    keys = Keys.under(blake3(ACCOUNT.encode()).digest(), B, os.urandom)
    for name in (b"\xff", keys.seal_name(b"up/1")):
        stream = world.objects.stream()
        await world.objects.ask(BeginUpload(account=ACCOUNT, bucket=B, object=name, stream=stream, head=b"x"))
    assert [one.key for one in await world.store.uploads(ACCOUNT, B, limit=2)] == ["up/0", "up/1"]
    world.objects.clock.now += 3 * DAY_MS
    assert await world.sweep() == {"upload": 3}


async def test_versions_go_behind_markers_and_a_marker_goes_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.verticals.storage.gateway.sweeping.PAGE", 2)
    await world.store.make_bucket(ACCOUNT, B, settings=rules(markers=True, old_days=1, old_kept=1))
    await world.store.set_bucket(ACCOUNT, B, versioning="enabled", settings={})
    for _ in range(4):
        await world.put("a")
        world.objects.clock.now += 1
    await world.put("b")
    await world.store.delete(ACCOUNT, B, [Deleting("b")])
    await world.store.delete(ACCOUNT, B, [Deleting("c")])
    world.objects.clock.now += 3 * DAY_MS
    assert await world.sweep() == {"older": 2, "marker": 1}
    assert await world.there(versions=True) == [("a", False), ("a", False), ("b", True), ("b", False)]


async def test_an_older_version_that_is_the_latest_again_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.store.make_bucket(ACCOUNT, B, settings=rules(old_days=1))
    await world.store.set_bucket(ACCOUNT, B, versioning="enabled", settings={})
    for _ in range(2):
        await world.put("a")
    world.objects.clock.now += 3 * DAY_MS
    latest = (await world.store.names(ACCOUNT, B, versions=True)).entries[0]
    delete = world.store.delete

    async def after_the_owner(*args: Any, **more: Any) -> Any:
        await delete(ACCOUNT, B, [Deleting("a", latest.version)])
        return await delete(*args, **more)

    monkeypatch.setattr(world.store, "delete", after_the_owner)
    assert await world.sweep() == {"kept": 1}
    assert await world.there() == [("a", False)]
