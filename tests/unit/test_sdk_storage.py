"""Objects for code without asyncio, and as files by fsspec: on nodes in memory, through real stores."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import msgspec
import pytest

from fallow.bootstrap import fsspec_files, sdk_storage
from fallow.bootstrap.fsspec_files import FallowFileSystem
from fallow.bootstrap.own_shares import GrantShares, OwnShares
from fallow.bootstrap.sdk_storage import open_storage
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound, Unavailable
from fallow.domain.grants import check_chain, read_credential, root_key
from fallow.sdk.profile import Profile
from fallow.sdk.storage import OwnStorage, Parts, Storage
from fallow.verticals.storage.client.granting import Grant, Home, Limits, Signing, new_grant, read_grant
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.opening import opened_store
from fallow.verticals.storage.client.store import Ended, Head, Marks
from fallow.verticals.storage.core.calls.accounts import RevokeGrant
from fallow.verticals.storage.core.grants import Operation, admit, read_caveats
from tests.memory_nodes import NET, NETWORK_KEY
from tests.storage_world import ACCOUNT, another_store, storage_world
from tests.unit.agent_fakes import FakeClock
from tests.unit.test_storage_client import body

DATA = random.Random(3).randbytes(3_000_000)
BLOCK = 1 << 20


KEYS = Keys.under(bytes(32), "bucket", bytes)
SIGNING = Signing("abcdefgh", "s")
GRANT = new_grant(SIGNING, KEYS, "a/", Limits(["read", "list"]), Home("http://127.0.0.1"), bytes)


@asynccontextmanager
async def opening() -> AsyncIterator[OwnStorage]:
    async with storage_world() as world:
        yield OwnStorage(world.store, ACCOUNT, GrantShares(GRANT))


@pytest.fixture
def storage() -> Iterator[Storage]:
    with Storage(opening()) as made:
        yield made


@pytest.fixture
def files(storage: Storage) -> Any:
    """A file system on the same storage."""
    made = FallowFileSystem(skip_instance_cache=True)
    made.__dict__["storage"] = storage
    return made


def test_what_is_written_is_read_by_ranges_listed_and_deleted(storage: Storage) -> None:
    written = storage.write("bucket", "a/1", DATA, content_type="text/plain")
    assert storage.info("bucket", "a/1") == written
    assert (written.size, written.content_type) == (len(DATA), "text/plain")
    assert storage.read("bucket", "a/1") == DATA
    assert storage.read("bucket", "a/1", 70_000, 70_010) == DATA[70_000:70_010]
    assert storage.read("bucket", "a/1", len(DATA) - 3, len(DATA) + 9) == DATA[-3:]
    storage.write("bucket", "a/1", b"anew")
    with pytest.raises(NotFound):
        storage.read("bucket", "a/1", version=written.version)
    for name in ("a/b/2", "c"):
        storage.write("bucket", name, b"")
    listed = storage.list("bucket", "a/")
    assert (listed.folders, [one.name for one in listed.objects]) == (["a/b/"], ["a/1"])
    assert [one.name for one in storage.list("bucket", recursive=True).objects] == ["a/1", "a/b/2", "c"]
    storage.delete("bucket", ["a/1", "c", "none"])
    assert (storage.has("bucket", "a/"), storage.has("bucket", "c")) == (True, False)
    assert storage.buckets() == ["bucket"]


def test_files_go_up_and_down(storage: Storage, tmp_path: Path) -> None:
    moved: list[int] = []
    (tmp_path / "in").write_bytes(DATA)
    storage.upload(tmp_path / "in", "bucket", "file", moved.append)
    assert storage.download("bucket", "file", tmp_path / "out").size == sum(moved) == len(DATA)
    assert (tmp_path / "out").read_bytes() == DATA


def test_under_another_secret_nothing_is_found_or_left(tmp_path: Path) -> None:
    @asynccontextmanager
    async def with_another_kit() -> AsyncIterator[OwnStorage]:
        async with storage_world() as world, another_store(world, bytes(32), own=True) as store:
            yield OwnStorage(store, ACCOUNT, GrantShares(GRANT))

    (tmp_path / "in").write_bytes(b"text")
    with Storage(with_another_kit()) as storage:
        works: list[Any] = [
            lambda: storage.write("bucket", "a", b""),
            lambda: storage.begin("bucket", "a"),
            lambda: storage.upload(tmp_path / "in", "bucket", "a"),
            lambda: storage.list("bucket"),
            lambda: storage.has("bucket", ""),
            lambda: storage.info("bucket", "a"),
            lambda: storage.read("bucket", "a"),
            lambda: storage.download("bucket", "a", tmp_path / "out"),
            lambda: storage.delete("bucket", ["a"]),
        ]
        for work in works:
            with pytest.raises(NotAllowed, match=r"storage\.hosted_bucket"):
                work()


def test_who_has_a_grant_hands_on_narrower_ones_and_ends_none(storage: Storage) -> None:
    less = read_grant(storage.share("bucket", "a/b/", allow=["read"], until_ms=9))
    assert (less.share.name, less.limits) == (b"a/b/", Limits(["read"], 0, 9))
    for bucket, name, allow in (("bucket", "b/", "read"), ("other", "a/", "read"), ("bucket", "a/", "write")):
        with pytest.raises(NotAllowed, match=r"storage\.(outside|grant_wider)"):
            storage.share(bucket, name, allow=[allow])  # type: ignore[list-item]
    for grant in (less.text, less.id.hex()):
        with pytest.raises(NotAllowed, match=less.id.hex()):
            storage.revoke(grant)


async def test_an_owner_makes_and_ends_grants() -> None:
    asked: list[RevokeGrant] = []

    class Client:
        async def signing_secret(self) -> Any:
            return SimpleNamespace(**SIGNING._asdict(), access_key=SIGNING.key_id)

        async def ask_vertical(self, _vertical: str, _call: str, body: bytes, **_: Any) -> bytes:
            asked.append(msgspec.msgpack.decode(body, type=RevokeGrant))
            return b"\xc0"

    client: Any = Client()
    shares = OwnShares(client, Profile("http://127.0.0.1", "fk_x"), bytes(32))
    made = read_grant(await shares.share("bucket", "a/", Limits(["read", "list"])))
    check_chain(root_key("s"), read_credential(made.credential))
    assert made.share == GRANT.share, "the same keys, whoever makes it"
    await shares.revoke(made.id)
    assert [call.grant for call in asked] == [made.id]


def test_threads_share_it(storage: Storage) -> None:
    def work(number: int) -> None:
        storage.write("bucket", f"t/{number}", str(number).encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [storage.read("bucket", f"t/{number}") for number in range(8)] == [b"%d" % number for number in range(8)]


def test_what_cannot_be_opened_leaves_no_thread_behind() -> None:
    @asynccontextmanager
    async def failing() -> AsyncIterator[OwnStorage]:
        async with storage_world():
            raise NotAllowed("auth.grant", "No.")
        yield

    before = set(threading.enumerate())
    with pytest.raises(NotAllowed, match=r"auth\.grant"):
        Storage(failing())
    assert set(threading.enumerate()) <= before


def test_what_fails_as_it_is_closed_leaves_no_thread_behind_either() -> None:
    @asynccontextmanager
    async def failing() -> AsyncIterator[OwnStorage]:
        async with opening() as own:
            yield own
        raise Unavailable("stream.lost", "The line broke.")

    before = set(threading.enumerate())
    made = Storage(failing())
    with pytest.raises(Unavailable):
        made.close()
    made.close()
    assert set(threading.enumerate()) <= before


def test_it_is_closed_once_or_twice() -> None:
    made = Storage(opening())
    made.close()
    made.close()


def test_a_file_is_read_by_ranges_and_written_in_parts(files: Any, storage: Storage) -> None:
    with files.open("fallow://bucket/dir/x.bin", "wb", block_size=BLOCK) as file:
        for at in range(0, len(DATA), 700_000):
            file.write(DATA[at : at + 700_000])
        with pytest.raises(NotFound):
            storage.info("bucket", "dir/x.bin")
    assert storage.info("bucket", "dir/x.bin").etag.endswith("-3")
    with files.open("bucket/dir/x.bin", block_size=BLOCK) as file:
        assert file.seek(1_500_000) == 1_500_000
        assert file.read(100) == DATA[1_500_000:1_500_100]
        file.seek(-5, 2)
        assert file.read() == DATA[-5:]
    assert files.cat_file("bucket/dir/x.bin", 10, -10) == DATA[10:-10]
    assert files.cat("bucket/dir/x.bin") == DATA


def test_what_is_written_in_a_transaction_is_there_at_its_end_or_never(files: Any, storage: Storage) -> None:
    def both(error: type[Exception] | None) -> None:
        with files.transaction:
            for name, size in (("small", 10), ("large", 2 * BLOCK + 1)):
                with files.open(f"bucket/{name}", "wb", block_size=BLOCK) as file:
                    file.write(bytes(size))
            assert not storage.has("bucket", "")
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError):
        both(ZeroDivisionError)
    assert not storage.has("bucket", "")
    both(None)
    assert [one.size for one in storage.list("bucket").objects] == [2 * BLOCK + 1, 10]


def test_the_parts_of_a_very_large_file_grow(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(Parts, "add", lambda _, data: sent.append(len(data)))
    monkeypatch.setattr(Parts, "complete", lambda _: None)
    monkeypatch.setattr(fsspec_files, "EVEN_PARTS", 10)
    with files.open("bucket/x", "wb", block_size=100) as file:
        for _ in range(10_000):
            file.write(bytes(10))
    assert sum(sent) == 100_000
    assert sent[:10] == [100] * 10
    assert len(sent) < 10 * (1 + 10)


def test_what_is_stored_in_its_place_is_not_mixed_into_what_is_being_read(files: Any) -> None:
    files.pipe("bucket/x", DATA)
    with files.open("bucket/x", block_size=BLOCK) as file:
        assert file.read(10) == DATA[:10]
        files.pipe("bucket/x", bytes(len(DATA)))
        file.seek(2_900_000)
        with pytest.raises(FileNotFoundError):
            file.read(10)


def test_what_was_broken_off_is_not_there(files: Any, storage: Storage) -> None:
    def half(size: int) -> None:
        with files.open("bucket/half", "wb", block_size=BLOCK) as file:
            file.write(bytes(size))
            raise ZeroDivisionError

    for size in (10, 2 * BLOCK):
        with pytest.raises(ZeroDivisionError):
            half(size)
        assert not files.exists("bucket/half")
    files.touch("bucket/none")
    assert storage.info("bucket", "none").size == 0


def test_folders_are_where_something_lies_below_them(files: Any) -> None:
    for name in ("a/1", "a/b/2", "ab", "c d/é?#%20"):
        files.pipe(f"bucket/{name}", name.encode())
    assert files.ls("", detail=False) == ["bucket"]
    assert files.ls("bucket", detail=False) == ["bucket/a", "bucket/ab", "bucket/c d"]
    assert files.ls("fallow://bucket/a/", detail=False) == ["bucket/a/1", "bucket/a/b"]
    assert files.find("bucket/a") == ["bucket/a/1", "bucket/a/b/2"]
    assert files.glob("bucket/*/*") == ["bucket/a/1", "bucket/a/b", "bucket/c d/é?#%20"]
    assert (files.isdir("bucket/a"), files.isfile("bucket/a"), files.isfile("bucket/a/1")) == (True, False, True)
    assert files.info("bucket/a/1")["size"] == 3
    assert files.cat_file("bucket/c d/é?#%20") == "c d/é?#%20".encode()
    files.mv("bucket/a/1", "bucket/z/1")
    files.rm("bucket/a", recursive=True)
    assert files.find("bucket") == ["bucket/ab", "bucket/c d/é?#%20", "bucket/z/1"]
    assert not files.exists("bucket/a")


def test_a_folder_is_deleted_without_a_look_at_each_file(files: Any, storage: Storage) -> None:
    for number in range(20):
        files.pipe(f"bucket/a/{number % 2}/{number}", b"")
    asked: Any = storage._store._asker.asked  # type: ignore[attr-defined]
    asked.clear()
    files.rm("bucket/a", recursive=True)
    assert sum(asked.values()) < 10, asked
    assert files.find("bucket") == []
    with pytest.raises(FileNotFoundError):
        files.rm("bucket/a", recursive=True)
    files.rm("bucket", recursive=True)


def test_what_is_not_there_or_not_for_him_is_as_with_files(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for work in (files.info, files.cat_file, files.rm_file, files.ls, files.open):
        with pytest.raises(FileNotFoundError):
            work("bucket/none")
    with pytest.raises(FileNotFoundError):
        files.ls("no-such-bucket")
    with pytest.raises(ValueError, match="ab"):
        files.open("bucket/none", "ab")
    with pytest.raises(FileExistsError):
        files.mkdir("bucket")

    def refused(*_: object, **__: object) -> None:
        raise NotAllowed("storage.grant", "The grant does not allow to read.")

    monkeypatch.setattr(Storage, "read", refused)
    with pytest.raises(PermissionError, match="does not allow"):
        files.cat_file("bucket/x")


class Admitting:
    """The network, as whoever shows a grant finds it."""

    def __init__(self, control: Any, grant: Grant) -> None:
        self._control = control
        self._caveats = read_caveats(read_credential(grant.credential).caveats)

    async def ask(self, call: Any) -> Any:
        """See `Asker`."""
        return await self._control.ask(msgspec.structs.replace(admit(call, self._caveats, 0), account=ACCOUNT))


@asynccontextmanager
async def holding(*allow: Operation) -> AsyncIterator[OwnStorage]:
    """What a grant for photos/a/b/ opens, where the owner has some objects."""
    keys = Keys.under(bytes(32), "photos", os.urandom)
    grant = new_grant(SIGNING, keys, "a/b/", Limits(allow), Home("http://127.0.0.1"), os.urandom)
    async with storage_world() as world, another_store(world, bytes(32), own=True) as owner:
        await owner.make_bucket(ACCOUNT, "photos", settings={})
        for name in ("a/b/1", "a/c/2", "d"):
            await owner.put(ACCOUNT, "photos", name, body(b"1"), lambda: Ended("e", {}), head=Head(), marks=Marks())
        asker, keys_of = Admitting(world.control, grant), grant.keys_of(os.urandom)
        async with opened_store(
            NET, NETWORK_KEY, asker, world.reach, FakeClock(), keys_of=keys_of, random_bytes=os.urandom, own=True
        ) as store:
            yield OwnStorage(store, ACCOUNT, GrantShares(grant), ("photos", "a/b/"))


@pytest.mark.parametrize(
    ("allow", "error"),
    [(["read", "list"], FileNotFoundError), (["read"], FileNotFoundError), (["write"], PermissionError)],
)
def test_by_a_grant_there_is_what_it_opens_and_the_way_to_it_alone(
    allow: list[Operation], error: type[Exception]
) -> None:
    """What its holder cannot reach, or is told nothing of, is no folder for that."""
    with Storage(holding(*allow)) as storage:
        files = FallowFileSystem(skip_instance_cache=True)
        files.__dict__["storage"] = storage
        assert all(files.isdir(name) for name in ("photos", "photos/a", "photos/a/b"))
        assert files.isfile("photos/a/b/1") == ("read" in allow)
        for name in ("photos/a/c", "photos/a/c/2", "photos/d", "photos/none", "another"):
            with pytest.raises(PermissionError):
                files.info(name)
        with pytest.raises(error):
            files.info("photos/a/b/none")
        assert not files.exists("photos/a/b/none")
        for work in (lambda: files.ls(""), lambda: files.mkdir("mine"), lambda: files.rm("photos/a/b/1")):
            with pytest.raises(PermissionError):
                work()


def test_programs_find_it_by_its_scheme() -> None:
    assert fsspec.get_filesystem_class("fallow") is FallowFileSystem
    made = fsspec.filesystem("fallow", grant="fgrant_x", skip_instance_cache=True)
    assert fsspec.AbstractFileSystem.from_json(made.to_json()).storage_options["grant"] == "fgrant_x"
    with pytest.raises(InvalidInput, match=r"storage\.grant_text"):
        made.ls("bucket")


def test_what_is_missing_to_open_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("FALLOW_URL", "FALLOW_API_KEY", "FALLOW_GRANT"):
        monkeypatch.delenv(name, raising=False)
    missing: list[tuple[dict[str, Any], str]] = [
        ({}, "cli.profile"),
        ({"url": "http://127.0.0.1:1", "api_key": "fk_x"}, "storage.no_secret"),
        ({"url": "http://127.0.0.1:1", "api_key": "fk_x", "kit": "AAAA"}, "storage.kit"),
        ({"grant": "fgrant_AAAA"}, "storage.grant_text"),
        ({"grant": str(tmp_path / "none")}, "storage.grant_text"),
    ]
    for words, code in missing:
        with pytest.raises(FallowError, match=code.replace(".", r"\.")):
            open_storage(**words)


def test_a_grant_is_given_as_it_is_or_as_a_file_that_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Grant] = []

    def open_it(grant: Grant) -> Any:
        opened.append(grant)
        return opening()

    monkeypatch.setattr(sdk_storage, "granted_storage", open_it)
    (tmp_path / "grant.txt").write_text(f"{GRANT.text}\n")
    for text in (GRANT.text, f" {GRANT.text}\n", str(tmp_path / "grant.txt")):
        monkeypatch.setenv("FALLOW_GRANT", text)
        open_storage().close()
        open_storage(grant=text).close()
    assert opened == [GRANT] * 6
