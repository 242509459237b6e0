"""`fallow storage rm --purge`: what goes, what stays, and what is said of that which nobody can prove."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from fallow.bootstrap.settings import Settings
from fallow.cli import storage_files, storage_purge
from fallow.cli.main import run
from fallow.cli.storage_place import Remote
from fallow.cli.storage_purge import BACKUP_DAYS, unproved_of
from fallow.domain.errors import NotFound
from fallow.sdk.storage import OwnStorage, Shares
from fallow.verticals.storage.client.purging import purge
from fallow.verticals.storage.client.store import NO_LOCK, Deleting, Ended, Gone, Head, Listing, Lock, Marks
from fallow.verticals.storage.core.calls.objects import Unpurged
from fallow.verticals.storage.core.questions import TRASH_MS
from tests.memory_store import MemoryStore
from tests.storage_world import ACCOUNT, storage_world
from tests.unit.agent_fakes import FakeClock

NAMES = ("a", "a/b", "ab")


async def text(data: bytes) -> AsyncIterator[bytes]:
    """A body."""
    yield data


async def put(store: Any, key: str, data: bytes = b"x", lock: Lock = NO_LOCK) -> None:
    """Store an object."""
    await store.put(ACCOUNT, "bucket", key, text(data), lambda: Ended("e", {}), head=Head(), marks=Marks(), lock=lock)


async def left(store: Any) -> list[str]:
    """Names of all versions, those of delete markers too."""
    return [entry.key for entry in (await store.names(ACCOUNT, "bucket", versions=True)).entries]


async def filled() -> MemoryStore:
    """A bucket that keeps versions: two and a delete marker of each name, and an upload of each that is under way."""
    made = MemoryStore(FakeClock())
    await made.make_bucket(ACCOUNT, "bucket", settings={})
    await made.set_bucket(ACCOUNT, "bucket", versioning="enabled", settings={})
    for name in NAMES:
        await put(made, name)
        await put(made, name)
        await made.delete(ACCOUNT, "bucket", [Deleting(name)])
        await made.begin(ACCOUNT, "bucket", name, head=Head(), marks=Marks())
    return made


@pytest.fixture
async def store() -> MemoryStore:
    """See `filled`."""
    return await filled()


async def test_all_versions_of_one_name_go_with_what_was_begun_of_it(store: MemoryStore) -> None:
    done = await purge(store, ACCOUNT, "bucket", "a", below=False)
    assert ([one.key for one in done.gone], done.kept, done.uploads) == (["a"] * 3, [], ["a"])
    assert await left(store) == ["a/b"] * 3 + ["ab"] * 3
    assert [one.key for one in await store.uploads(ACCOUNT, "bucket")] == ["a/b", "ab"]
    with pytest.raises(NotFound, match=r"storage\.no_object"):
        await purge(store, ACCOUNT, "bucket", "a", below=False)


async def test_below_a_name_all_goes_that_begins_so(store: MemoryStore) -> None:
    done = await purge(store, ACCOUNT, "bucket", "a/", below=True)
    assert ({one.key for one in done.gone}, done.uploads) == ({"a/b"}, ["a/b"])
    assert await left(store) == ["a"] * 3 + ["ab"] * 3
    await purge(store, ACCOUNT, "bucket", "", below=True)
    assert await left(store) == []
    assert await store.uploads(ACCOUNT, "bucket") == []


async def test_an_upload_that_ends_meanwhile_keeps_none_of_the_others(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    abort = store.abort

    async def after_another(account: str, bucket: str, key: str, upload: str) -> None:
        if key == "a":
            await abort(account, bucket, key, upload)
        await abort(account, bucket, key, upload)

    monkeypatch.setattr(store, "abort", after_another)
    assert (await purge(store, ACCOUNT, "bucket", "a", below=True)).uploads == ["a/b", "ab"]
    assert await store.uploads(ACCOUNT, "bucket") == []


@pytest.mark.parametrize("lock", [Lock(hold=True), Lock("compliance", 1 << 50), Lock("governance", 1 << 50)])
async def test_what_is_locked_stays_and_the_rest_goes(store: MemoryStore, lock: Lock) -> None:
    await put(store, "a", lock=lock)
    done = await purge(store, ACCOUNT, "bucket", "a", below=True)
    assert [(one.key, one.error) for one in done.kept] == [("a", "storage.retained")]
    assert len(done.gone) == 9
    assert await left(store) == ["a"]


async def test_the_network_is_asked_to_purge_page_after_page_and_not_where_it_is_not_to() -> None:
    async with storage_world() as world:
        world.control.page_max = 2
        await world.store.set_bucket(ACCOUNT, "bucket", versioning="enabled", settings={})
        for _ in range(5):
            await put(world.store, "a")
        await put(world.store, "b")
        await world.store.delete(ACCOUNT, "bucket", [Deleting("b")])
        done = await purge(world.store, ACCOUNT, "bucket", "a", below=False)
        assert (len(done.gone), world.control.purges) == (5, [False] + [True] * 5)
        assert await left(world.store) == ["b", "b"]


def test_what_nobody_can_prove_is_said_with_its_end_where_it_has_one() -> None:
    said = {one.code: one for one in unproved_of(Unpurged(), 1000)}
    assert [*said] == ["nodes_word", "trash", "backups"]
    assert (said["nodes_word"].until_ms, said["trash"].until_ms) == (0, 1000 + TRASH_MS)
    assert f"{Settings().backup_days} days" in said["backups"].text
    assert Settings().backup_days == BACKUP_DAYS
    waiting = {one.code: one for one in unproved_of(Unpurged(pieces=5, nodes=3, later=2, due_ms=7_200_000), 1000)}
    assert "3 pieces wait for their nodes" in waiting["nodes_waiting"].text
    assert "1970-01-01 02:00" in waiting["still_coming"].text
    assert waiting["still_coming"].until_ms == 7_200_000


def typed(monkeypatch: pytest.MonkeyPatch, store: MemoryStore, *words: str) -> int:
    """Type a command on a machine that has the secret."""

    def opened(work: Any, _: object) -> Any:
        return asyncio.run(work(OwnStorage(store, ACCOUNT, cast("Shares", None))))

    monkeypatch.setattr(storage_purge, "run", opened)
    monkeypatch.setattr(storage_files, "run", opened)
    return run(["storage", "rm", *words])


def test_what_went_and_what_nobody_can_prove_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = asyncio.run(filled())
    assert typed(monkeypatch, store, "fallow://bucket/a", "--purge") == 0
    said = capsys.readouterr().out
    assert "a is purged: 3 versions, and what was begun of it." in said
    assert "is its own word" in said
    assert typed(monkeypatch, store, "fallow://bucket/none", "-r", "--purge") == 0
    assert "nothing to purge" in capsys.readouterr().out
    assert typed(monkeypatch, store, "fallow://bucket/none", "-r") == 0
    assert "nothing to delete at fallow://bucket/none." in capsys.readouterr().out


def test_a_document_says_the_same_and_the_exit_code_that_something_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = asyncio.run(filled())
    asyncio.run(put(store, "a", lock=Lock(hold=True)))
    assert typed(monkeypatch, store, "fallow://bucket/", "-r", "--purge", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["code"]) for one in said["kept"]] == [("a", "storage.retained")]
    assert (len(said["purged"]), said["uploads"]) == (9, ["a", "a/b", "ab"])
    assert said["waiting"] == {"pieces": 0, "nodes": 0, "later": 0, "due_ms": 0}
    assert [(one["code"], bool(one["until_ms"])) for one in said["not_proved"]] == [
        ("nodes_word", False),
        ("trash", True),
        ("backups", False),
    ]


def test_nodes_that_are_there_are_waited_for_and_others_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, asked = asyncio.run(filled()), list[int]()

    async def unpurged(_account: str, _bucket: str) -> Unpurged:
        asked.append(1)
        return Unpurged(pieces=[8, 3, 2][len(asked) - 1], nodes=2, later=2, due_ms=1)

    monkeypatch.setattr(store, "unpurged", unpurged)
    monkeypatch.setattr(storage_purge, "LOOK_S", 0)
    assert typed(monkeypatch, store, "fallow://bucket/a", "--purge", "--json") == 0
    assert (len(asked), json.loads(capsys.readouterr().out)["waiting"]["pieces"]) == (3, 2)
    monkeypatch.setattr(storage_purge, "WAIT_S", 0)
    asked.clear()
    assert typed(monkeypatch, store, "fallow://bucket/ab", "--purge", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (len(asked), said["not_proved"][0]["code"]) == (1, "nodes_waiting")


class Paged(MemoryStore):
    """Lists two names at a time; `done` says what was asked of it."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.done: list[str] = []

    async def names(self, *at: Any, **said: Any) -> Listing:
        """See `Store`."""
        self.done.append("list")
        return await super().names(*at, **{**said, "limit": 2})

    async def delete(self, *at: Any, **said: Any) -> list[Gone]:
        """See `Store`."""
        self.done.append("delete")
        return await super().delete(*at, **said)


async def test_a_folder_is_deleted_as_it_is_listed_for_it_may_be_larger_than_this_machines_memory() -> None:
    store = Paged()
    await store.make_bucket(ACCOUNT, "bucket", settings={})
    for name in (*NAMES, "b"):
        await put(store, name)
    own = OwnStorage(store, ACCOUNT, cast("Shares", None))
    assert await storage_files.remove(own, Remote("bucket", "a"), below=True) == list(NAMES)
    assert store.done == ["list", "delete", "list", "delete"]
    assert await left(store) == ["b"]
