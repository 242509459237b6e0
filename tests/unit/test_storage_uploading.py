"""Large files go up in parts: gone on with where they were broken off, each part checked, never half of a change."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fallow.cli import storage_files
from fallow.cli.storage_place import Remote
from fallow.domain.errors import Conflict, NotAllowed, Unavailable
from fallow.sdk.storage import OwnStorage
from fallow.verticals.storage.client import uploading
from fallow.verticals.storage.client.copying import download
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.store import Body, Finish
from fallow.verticals.storage.client.uploading import upload
from fallow.verticals.storage.core.calls.uploads import StoredPart
from tests.storage_world import ACCOUNT, storage_world

PART = 1 << 20
DATA = random.Random(9).randbytes(3 * PART + 1000)
WHOLE = "-".join(
    [
        hashlib.md5(
            b"".join(
                hashlib.md5(DATA[at : at + PART], usedforsecurity=False).digest() for at in range(0, len(DATA), PART)
            ),
            usedforsecurity=False,
        ).hexdigest(),
        "4",
    ]
)


class Watched:
    """A store that notes which parts are sent, and breaks off before the part `until`."""

    def __init__(self, store: ObjectStore, until: int = 0) -> None:
        self.sent: list[int] = []
        self._store = store
        self._until = until

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put_part(
        self, account: str, bucket: str, key: str, upload: str, number: int, body: Body, finish: Finish
    ) -> StoredPart:
        """See `Store`."""
        if number == self._until:
            raise Unavailable("stream.lost", "The line broke.")
        part = await self._store.put_part(account, bucket, key, upload, number, body, finish)
        self.sent.append(number)
        return part


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    monkeypatch.setattr(uploading, "PART_BYTES", PART)
    monkeypatch.setattr(uploading, "PARTS_AT_ONCE", 1)
    async with storage_world() as world:
        yield world.store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "film.mp4").write_bytes(DATA)
    return tmp_path / "film.mp4"


def rewrite(path: Path, data: bytes, changed_ns: int = 1) -> None:
    """Write the file anew, at a time."""
    path.write_bytes(data)
    os.utime(path, ns=(changed_ns, changed_ns))


async def send(store: Any, path: Path, moved: list[int] | None = None) -> str:
    """Store the file; returns its ETag."""
    told = [] if moved is None else moved
    entry = await upload(store, ACCOUNT, "bucket", "film", path, told.append)
    return entry.head.etag


async def text(store: ObjectStore, folder: Path) -> bytes:
    """Fetch it, which checks it as a whole."""
    entry = await store.entry(ACCOUNT, "bucket", "film")
    await download(store, ACCOUNT, "bucket", entry, folder / "out", lambda _: None)
    return (folder / "out").read_bytes()


async def test_an_upload_goes_on_with_the_parts_that_are_not_there(store: ObjectStore, path: Path) -> None:
    breaking, moved = Watched(store, until=3), list[int]()
    with pytest.raises(Unavailable, match=r"stream\.lost"):
        await send(breaking, path)
    assert breaking.sent == [1, 2]
    again = Watched(store)
    assert await send(again, path, moved) == WHOLE
    assert again.sent == [3, 4]
    assert sum(moved) == len(DATA), "what was there counts as moved"
    assert await text(store, path.parent) == DATA
    entry = await store.entry(ACCOUNT, "bucket", "film")
    assert (entry.head.headers, entry.head.metadata) == ({"content-type": "video/mp4"}, {})
    assert not await store.uploads(ACCOUNT, "bucket")


async def test_a_file_that_was_written_anew_meanwhile_begins_anew(store: ObjectStore, path: Path) -> None:
    with pytest.raises(Unavailable):
        await send(Watched(store, until=3), path)
    rewrite(path, DATA[::-1], 1)
    again = Watched(store)
    await send(again, path)
    assert again.sent == [1, 2, 3, 4]
    assert await text(store, path.parent) == DATA[::-1]


async def test_other_bytes_under_the_same_time_are_found_part_by_part(store: ObjectStore, path: Path) -> None:
    rewrite(path, DATA, 5)
    with pytest.raises(Unavailable):
        await send(Watched(store, until=3), path)
    other = b"x" + DATA[1:]
    rewrite(path, other, 5)
    again = Watched(store)
    await send(again, path)
    assert again.sent == [1, 3, 4]
    assert await text(store, path.parent) == other


@pytest.mark.parametrize("size", [1000, len(DATA)])
async def test_of_a_file_that_changes_while_it_is_stored_nothing_is_stored(
    store: ObjectStore, path: Path, size: int
) -> None:
    rewrite(path, DATA[:size])

    def change(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(Conflict, match=r"storage\.file_changed"):
        await upload(store, ACCOUNT, "bucket", "film", path, change)
    assert not (await store.names(ACCOUNT, "bucket")).entries
    assert not await store.uploads(ACCOUNT, "bucket")


async def test_who_may_not_list_uploads_begins_anew(store: ObjectStore, path: Path) -> None:
    class Blind(Watched):
        async def uploads(self, *_: object, **__: object) -> None:
            raise NotAllowed("storage.grant", "The grant does not allow to list.")

    with pytest.raises(Unavailable):
        await send(Watched(store, until=2), path)
    blind = Blind(store)
    assert await send(blind, path) == WHOLE
    assert blind.sent == [1, 2, 3, 4]


async def test_a_file_of_one_part_goes_at_once(store: ObjectStore, path: Path) -> None:
    rewrite(path, DATA[:PART])
    watched = Watched(store)
    assert await send(watched, path) == hashlib.md5(DATA[:PART], usedforsecurity=False).hexdigest()
    assert not watched.sent


class Bare:
    """Beside a store whose owner shares nothing."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: nothing is shared here")


async def test_a_folder_that_was_copied_in_part_goes_on_with_what_is_not_there(
    store: ObjectStore, tmp_path: Path
) -> None:
    folder, back = tmp_path / "from", tmp_path / "to"
    (folder / "below").mkdir(parents=True)
    files = {"a": b"one", "below/large": DATA, "c": b"three"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    watched: Any = Watched(store)
    await store.make_bucket(ACCOUNT, "photos", settings={})
    own, there = OwnStorage(watched, ACCOUNT, Bare()), Remote("photos", "2026")

    def told(copied: list[storage_files.Copied], source: bool) -> dict[str, bool]:
        return {Path(one.source if source else one.target).name: one.moved for one in copied}

    assert set(told(await storage_files.copy_up(own, folder, there, below=True), source=True).values()) == {True}
    (folder / "a").write_bytes(b"two")  # as long as it was
    (folder / "d").write_bytes(b"")
    again = await storage_files.copy_up(own, folder, there, below=True)
    assert told(again, source=True) == {"a": True, "large": False, "c": False, "d": True}
    assert watched.sent == [1, 2, 3, 4]

    await storage_files.copy_down(own, there, back, below=True)
    (back / "c").write_bytes(b"trhee")
    (back / "below/large").write_bytes(DATA + b"x")
    again = await storage_files.copy_down(own, there, back, below=True)
    assert told(again, source=False) == {"a": False, "large": True, "c": True, "d": False}
    assert {name: (back / name).read_bytes() for name in files} == {**files, "a": b"two"}
