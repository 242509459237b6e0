"""Objects under their owner's own secret: its recovery kit, the mark of its buckets, files in and out."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import shlex
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx2
import msgspec
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from fallow.adapters.clock import SystemClock
from fallow.cli import storage_files, storage_secret
from fallow.cli.main import INTERRUPTED_EXIT, run
from fallow.cli.show import say_s3, show_error
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound, Unavailable
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.verticals.storage.client.copying import Sum, download, place_below
from fallow.verticals.storage.client.ground import Name
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.seals import SEALED, check_seal, write_seal
from fallow.verticals.storage.client.store import Deleting, Ended, Entry, Head, Marks
from fallow.verticals.storage.client.uploading import upload
from fallow.verticals.storage.core.calls.base import HEAD_BYTES_MAX
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.objects import DeleteObjects, GetObject, If
from fallow.verticals.storage.core.calls.uploads import UPLOADS_PAGE_MAX, ListUploads, Upload
from fallow.verticals.storage.core.kit import read_kit, write_kit
from fallow.verticals.storage.gateway.errors import translated
from fallow.verticals.storage.gateway.own import own_gateway
from tests.storage_world import ACCOUNT, World, another_store, storage_world
from tests.unit.agent_fakes import settle

SECRET = bytes(range(32))


def silent(_: int) -> None:
    """Tell nobody."""


@given(st.binary(min_size=32, max_size=32), st.sampled_from([str, str.lower, lambda text: text.replace("-", " ")]))
def test_a_kit_gives_the_secret_back_however_it_is_typed(secret: bytes, typed: object) -> None:
    assert callable(typed)
    text = f"Recovery kit\n\n  {typed(write_kit(secret))}\n\nKeep it."
    assert read_kit(text) == secret
    assert read_kit(f"My code {typed(write_kit(secret))} keep it") == secret, "words of four letters are no groups"


@given(st.binary(min_size=32, max_size=32), st.data())
def test_a_character_that_is_wrong_is_found(secret: bytes, draw: st.DataObject) -> None:
    code = write_kit(secret)
    at = draw.draw(st.sampled_from([number for number, letter in enumerate(code) if letter != "-"]))
    other = draw.draw(st.sampled_from([letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" if letter != code[at]]))
    with pytest.raises(InvalidInput, match="checksum"):
        read_kit(code[:at] + other + code[at + 1 :])


@given(st.text())
def test_what_is_no_kit_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"storage\.kit"):
        read_kit(text)


def test_the_secret_is_kept_for_its_owner_alone_and_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(NotFound, match="no_secret"):
        storage_secret.load_secret()
    storage_secret.keep_secret(SECRET)
    storage_secret.keep_secret(SECRET)
    with pytest.raises(Conflict, match=r"storage\.secret"):
        storage_secret.keep_secret(bytes(32))
    assert storage_secret.load_secret() == SECRET
    assert stat.S_IMODE(storage_secret.secret_path().stat().st_mode) == 0o600
    assert [path.name for path in storage_secret.secret_path().parent.iterdir()] == ["storage-secret"]


def test_the_text_of_a_kit_brings_the_secret_back(tmp_path: Path) -> None:
    (tmp_path / "kit.txt").write_text(storage_secret.kit_text(SECRET, "https://fallow.example"))
    assert storage_secret.kit_from(str(tmp_path / "kit.txt")) == SECRET


@pytest.mark.parametrize(
    ("made", "opened", "code"),
    [
        ((SECRET, True), (SECRET, True), ""),
        ((SECRET, True), (bytes(32), True), "storage.other_secret"),
        ((SECRET, True), (SECRET, False), "storage.own_bucket"),
        ((SECRET, False), (SECRET, True), "storage.hosted_bucket"),
        ((SECRET, False), (bytes(32), False), "storage.other_secret"),
    ],
)
async def test_a_bucket_opens_under_its_secret_alone(
    made: tuple[bytes, bool], opened: tuple[bytes, bool], code: str
) -> None:
    async with storage_world() as world:
        async with another_store(world, *made) as store:
            await store.make_bucket(ACCOUNT, "mine", settings={"acl": b"a"})
        async with another_store(world, *opened) as store:
            if not code:
                assert (await store.bucket("mine")).settings["acl"] == b"a"
                return
            with pytest.raises(NotAllowed) as refused:
                await store.bucket("mine")
        assert refused.value.code == code


@pytest.mark.parametrize("sizes", [(), (5,), (5, 5, 3), (1, 0, 2), (0,)])
def test_the_sum_is_that_of_s3(sizes: tuple[int, ...]) -> None:
    data = random.randbytes(sum(sizes) if sizes else 20)
    for cut in range(1, len(data) + 2):
        made = Sum(sizes)
        for at in range(0, len(data), cut):
            made.add(data[at : at + cut])
        if not sizes:
            assert made.text == hashlib.md5(data, usedforsecurity=False).hexdigest()
            continue
        parts, at = b"", 0
        for size in sizes:
            parts += hashlib.md5(data[at : at + size], usedforsecurity=False).digest()
            at += size
        assert made.text == f"{hashlib.md5(parts, usedforsecurity=False).hexdigest()}-{len(sizes)}"


async def test_etags_are_known_to_the_network_under_the_objects_key_alone_and_compared_all_the_same() -> None:
    async with storage_world() as world:
        told: list[str] = []
        ask = world.control.ask

        async def noted(call: Any) -> Any:
            told.append(repr(call))
            return await ask(call)

        world.control.ask = noted  # type: ignore[method-assign]
        put = partial(put_text, world.store)
        entry = await put("a", "one")
        assert entry.head.etag == etag_of("one") == (await world.store.entry(ACCOUNT, "bucket", "a")).head.etag
        page = (await world.store.names(ACCOUNT, "bucket")).entries
        assert [one.head.etag for one in page] == [etag_of("one")], "lists know it, too"
        upload_id = await world.store.begin(ACCOUNT, "bucket", "p", head=Head(), marks=Marks())
        chunks, ended = text_body("part"), Ended(etag_of("part"), {"crc32": "AAAA"})
        part = await world.store.put_part(ACCOUNT, "bucket", "p", upload_id, 1, chunks, lambda: ended)
        assert part.etag == etag_of("part")
        ((listed, sums),) = await world.store.parts(ACCOUNT, "bucket", "p", upload_id)
        assert (listed.etag, sums) == (etag_of("part"), {"crc32": "AAAA"})
        chosen = [(1, part.etag)]
        made = await world.store.complete(ACCOUNT, "bucket", "p", upload_id, chosen, head=Head(etag="whole-1"))
        assert made.head.etag == "whole-1"
        upload_id = await world.store.begin(ACCOUNT, "bucket", "q", head=Head(), marks=Marks())
        with pytest.raises(InvalidInput, match=r"storage\.part"):
            await world.store.complete(ACCOUNT, "bucket", "q", upload_id, chosen, head=Head(etag="whole-1"))
        assert not any(plain in words for words in told for plain in (etag_of("one"), etag_of("part"), "whole-1"))


@pytest.mark.parametrize(("asked", "told"), [("", ""), ("*", "*"), ("e", None)])
def test_a_condition_is_told_as_the_network_knows_it(asked: str, told: str | None) -> None:
    name = Name(Keys.under(SECRET, "bucket", os.urandom), "a")
    found = name.only_if(If(etag=asked, size=3))
    assert (found.size, found.etag) == (3, name.etag("e") if told is None else told)
    assert name.etag("e") != Name(Keys.under(SECRET, "bucket", os.urandom), "b").etag("e")


def etag_of(text: str) -> str:
    """As S3 says it."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


async def text_body(text: str) -> AsyncIterator[bytes]:
    """Bytes that come."""
    yield text.encode()


async def put_text(store: ObjectStore, key: str, text: str) -> Entry:
    """Store a text."""
    chunks, ended = text_body(text), Ended(etag_of(text), {})
    return await store.put(ACCOUNT, "bucket", key, chunks, lambda: ended, head=Head(), marks=Marks())


async def text_of(store: ObjectStore, key: str) -> str:
    """Read a text."""
    entry = await store.entry(ACCOUNT, "bucket", key)
    return b"".join([chunk async for chunk in store.read(ACCOUNT, "bucket", entry, 0, entry.size)]).decode()


class Breaking:
    """A store whose reads break off after so many bytes; it notes where they began."""

    def __init__(self, store: ObjectStore, after: int) -> None:
        self.began: list[int] = []
        self._store = store
        self._after = after

    async def read(self, account: str, bucket: str, entry: Entry, start: int, stop: int) -> AsyncIterator[bytes]:
        """See `Store`."""
        self.began.append(start)
        left = self._after
        async for chunk in self._store.read(account, bucket, entry, start, stop):
            yield chunk[:left]
            left -= len(chunk)
            if left < 0:
                raise Unavailable("stream.lost", "The line broke.")


async def stored(world: World, folder: Path, size: int) -> tuple[bytes, Entry]:
    """A file that was stored."""
    data = random.randbytes(size)
    (folder / "in.bin").write_bytes(data)
    moved: list[int] = []
    entry = await upload(world.store, ACCOUNT, "bucket", "a/in.bin", folder / "in.bin", moved.append)
    assert sum(moved) == size
    return data, entry


async def test_a_download_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    async with storage_world() as world:
        data, entry = await stored(world, tmp_path, 3_000_000)
        breaking = Breaking(world.store, 1_000_000)
        with pytest.raises(Unavailable, match=r"stream\.lost"):
            await download(breaking, ACCOUNT, "bucket", entry, tmp_path / "out" / "x", silent)  # type: ignore[arg-type]
        assert not (tmp_path / "out" / "x").exists()
        whole = Breaking(world.store, 1 << 30)
        await download(whole, ACCOUNT, "bucket", entry, tmp_path / "out" / "x", silent)  # type: ignore[arg-type]
        assert whole.began == [1_000_000]
        assert (tmp_path / "out" / "x").read_bytes() == data
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def spoil(folder: Path) -> None:
    """Write other bytes where a download was broken off."""
    (part,) = folder.glob(".*.part")
    part.write_bytes(b"other bytes")


async def test_what_lies_there_and_is_other_bytes_is_found_and_not_gone_on_with(tmp_path: Path) -> None:
    async with storage_world() as world:
        data, entry = await stored(world, tmp_path, 2_000_000)
        with pytest.raises(Unavailable, match=r"stream\.lost"):
            await download(Breaking(world.store, 9), ACCOUNT, "bucket", entry, tmp_path / "x", silent)  # type: ignore[arg-type]
        spoil(tmp_path)
        with pytest.raises(Unavailable, match=r"storage\.altered"):
            await download(world.store, ACCOUNT, "bucket", entry, tmp_path / "x", silent)
        await download(world.store, ACCOUNT, "bucket", entry, tmp_path / "x", silent)
        assert (tmp_path / "x").read_bytes() == data


async def test_a_name_may_be_as_long_as_a_files_can_be(tmp_path: Path) -> None:
    async with storage_world() as world:
        await put_text(world.store, "a", "text")
        entry, path = await world.store.entry(ACCOUNT, "bucket", "a"), tmp_path / ("n" * 255)
        await download(world.store, ACCOUNT, "bucket", entry, path, silent)
        assert path.read_text() == "text"


async def test_of_what_an_error_cancels_the_rest_was_not_begun() -> None:
    begun: list[int] = []
    tasks: list[int] = []

    async def copy(number: int) -> None:
        begun.append(number)
        await settle()
        if number == 0:
            tasks.append(len(asyncio.all_tasks()))
            raise Unavailable("stream.lost", "The line broke.")
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup):
        await storage_files._some_at_once(partial(copy, number) for number in range(20))
    assert storage_files.AT_ONCE <= len(begun) < 20
    assert tasks == [storage_files.AT_ONCE + 1], "a million files are no million tasks"


def test_what_a_network_says_is_no_command_of_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    say_s3("https://x; touch pwned", "$(touch pwned)", "a'`touch pwned`\x1b]0;x\nrm")
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 6
    assert [word for line in said.splitlines() for word in shlex.split(line)] == [
        "export",
        "AWS_ENDPOINT_URL=https://x; touch pwned",
        "export",
        "S3_ENDPOINT_URL=https://x; touch pwned",
        "export",
        "AWS_ACCESS_KEY_ID=$(touch pwned)",
        "export",
        "AWS_SECRET_ACCESS_KEY=a'`touch pwned`\ufffd]0;x\ufffdrm",
        "export",
        "AWS_REGION=fallow",
        "export",
        "AWS_DEFAULT_REGION=fallow",
    ]
    shell = subprocess.run(
        ["/bin/sh", "-c", f"{said}\necho $AWS_ACCESS_KEY_ID"], capture_output=True, check=True, text=True
    )
    assert shell.stdout == "$(touch pwned)\n"


def test_boto3_takes_what_is_printed_whatever_else_it_was_set_up_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    say_s3("http://127.0.0.1:1", "access", "secret")
    for line in capsys.readouterr().out.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    assert (client.meta.region_name, client.meta.endpoint_url) == ("fallow", "http://127.0.0.1:1")


def test_who_stores_by_a_grant_what_is_there_is_told_so_and_not_of_a_condition_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_error(Conflict("storage.condition", "The object is not as the request's condition says."), as_json=False)
    assert "There is such an object already" in capsys.readouterr().err


def test_who_waits_for_a_network_that_is_away_can_end_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def never(*_: object) -> AsyncIterator[None]:
        signal.raise_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            await asyncio.Event().wait()
        yield

    monkeypatch.setattr(storage_files, "served", never)
    assert run(["s3", "serve"]) == INTERRUPTED_EXIT
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", ".", "", "a/", "a\0b"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(FallowError, match=r"storage\.path"):
        place_below(tmp_path, name)


def test_a_name_leads_below(tmp_path: Path) -> None:
    assert place_below(tmp_path, "a/b c/..d") == tmp_path / "a" / "b c" / "..d"
    assert os.sep == "/"


def test_the_command_line_makes_a_secret_once_and_brings_it_back_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FALLOW_URL", "https://fallow.example")
    monkeypatch.setenv("FALLOW_API_KEY", "fk_x")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "one"))
    assert run(["storage", "init"]) == 0
    (tmp_path / "kit.txt").write_text(capsys.readouterr().out)
    secret = storage_secret.load_secret()
    assert run(["storage", "init"]) == 1
    assert "storage.secret" in capsys.readouterr().err
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "two"))
    assert run(["storage", "init", "--recover", str(tmp_path / "kit.txt")]) == 0
    assert storage_secret.load_secret() == secret
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "three"))
    monkeypatch.setattr("sys.stdin", io.StringIO((tmp_path / "kit.txt").read_text()))
    assert run(["storage", "init", "--recover", "-"]) == 0
    assert storage_secret.load_secret() == secret


@pytest.mark.parametrize(
    "words",
    [
        ["storage", "cp", "a", "b"],
        ["storage", "cp", "fallow://a/b", "fallow://c/d"],
        ["storage", "rm", "fallow:///x"],
        ["s3", "serve", "--port", "65536"],
    ],
)
def test_a_place_that_makes_no_sense_is_refused_before_anything_is_asked(words: list[str]) -> None:
    assert run(words) == 2


async def test_a_gateway_of_ones_own_serves_who_signs_and_refuses_what_nobody_would_do() -> None:
    rules = b"<LifecycleConfiguration><Rule/></LifecycleConfiguration>"
    async with storage_world() as world, another_store(world, SECRET, own=True) as store:
        await store.make_bucket(ACCOUNT, "mine", settings={})
        app, user = own_gateway(store, ACCOUNT, SECRET, SystemClock(), random_bytes=os.urandom)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:

            async def asked(method: str, path: str, body: bytes = b"", secret: str = user.secret) -> httpx2.Response:
                request = AWSRequest(method, f"http://127.0.0.1{path}", data=body)
                S3SigV4Auth(Credentials(user.access_key, secret), "s3", "fallow").add_auth(request)
                return await http.request(method, path, content=body, headers=dict(request.headers.items()))

            assert (await asked("PUT", "/mine/a", b"text")).status_code == 200
            assert (await asked("GET", "/mine/a")).content == b"text"
            assert (await asked("GET", "/mine/a", secret="x" * 40)).status_code == 403
            assert (await http.get("/mine/a")).status_code == 403
            refused = await asked("PUT", "/mine?lifecycle=", rules)
            assert (refused.status_code, "NotImplemented" in refused.text) == (501, True), refused.text


def test_a_gateway_says_in_s3s_words_whose_secret_it_lacks() -> None:
    bucket = Bucket(name="mine", account=ACCOUNT, made_ms=0, profile="lab")
    keys = Keys.under(SECRET, "mine", os.urandom)
    bucket = msgspec.structs.replace(bucket, settings={SEALED: write_seal(keys, own=True)})
    with pytest.raises(NotAllowed) as refused:
        check_seal(bucket, keys, own=False)
    said = translated(refused.value)
    assert (said.status, said.code) == (403, "AccessDenied")
    assert "own secret" in said.message
    damaged = msgspec.structs.replace(bucket, settings={SEALED: b"\xc1"})
    with pytest.raises(InvalidInput, match=r"storage\.seal"):
        check_seal(damaged, keys, own=False)


async def test_calls_are_no_larger_than_messages_however_long_names_are() -> None:
    async with storage_world() as world:
        names = [f"{number:04}".ljust(1024, "/") for number in range(250)]
        asked: list[Any] = []
        ask = world.control.ask

        async def noted(call: Any) -> Any:
            asked.append(call)
            return await ask(call)

        world.control.ask = noted  # type: ignore[method-assign]
        gone = await world.store.delete(ACCOUNT, "bucket", [Deleting(name) for name in names])
        assert [one.key for one in gone] == names
        for number in range(UPLOADS_PAGE_MAX + 1):
            await world.store.begin(ACCOUNT, "bucket", f"u{number:03}", head=Head(), marks=Marks())
        assert len(await world.store.uploads(ACCOUNT, "bucket")) == UPLOADS_PAGE_MAX + 1
        deletions = [call for call in asked if isinstance(call, DeleteObjects)]
        assert max(len(msgspec.msgpack.encode(call)) for call in deletions) <= MESSAGE_BYTES_MAX
        upload = Upload(
            stream=bytes(16),
            object=bytes(2048),
            made_ms=1 << 60,
            head=bytes(HEAD_BYTES_MAX),
            tags=bytes(HEAD_BYTES_MAX),
        )
        most = max(call.limit for call in asked if isinstance(call, ListUploads))
        assert len(msgspec.msgpack.encode([upload] * most)) <= MESSAGE_BYTES_MAX - 1024


@pytest.mark.parametrize("size", [100, 100_000])
async def test_what_is_listed_is_read(size: int) -> None:
    async with storage_world() as world:
        data = random.randbytes(size)
        await put_text(world.store, "a", data.hex())
        (listed,) = (await world.store.names(ACCOUNT, "bucket")).entries
        await put_text(world.store, "b", "x")
        chunks = world.store.read(ACCOUNT, "bucket", listed, 0, listed.size)
        assert b"".join([chunk async for chunk in chunks]).decode() == data.hex()


@pytest.mark.parametrize("shown", [{"size": 1_000_000}, {"size": 1_000_000, "head": b"", "etag": ""}])
async def test_an_object_that_the_network_cuts_is_no_download(tmp_path: Path, shown: dict[str, Any]) -> None:
    async with storage_world() as world:
        await stored(world, tmp_path, 1_500_000)
        ask = world.control.ask

        async def cut(call: Any) -> Any:
            found = await ask(call)
            return msgspec.structs.replace(found, **shown) if isinstance(call, GetObject) else found

        world.control.ask = cut  # type: ignore[method-assign]
        entry = await world.store.entry(ACCOUNT, "bucket", "a/in.bin")
        with pytest.raises(Unavailable, match=r"storage\.altered"):
            await download(world.store, ACCOUNT, "bucket", entry, tmp_path / "x", silent)
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("taken", [{"head"}, {"inline", "key"}, {"head", "inline", "key"}])
async def test_the_network_cannot_put_an_objects_bytes_or_head_in_place_of_later_ones(taken: set[str]) -> None:
    async with storage_world() as world:
        before = await put_text(world.store, "a", "pay Ada")
        await put_text(world.store, "a", "pay Bob")
        assert await text_of(world.store, "a") == "pay Bob"
        ask = world.control.ask

        async def swapped(call: Any) -> Any:
            found = await ask(call)
            return msgspec.structs.replace(found, **{name: getattr(before.source, name) for name in taken})

        world.control.ask = swapped  # type: ignore[method-assign]
        with pytest.raises(InvalidInput, match=r"storage\.(document|key)"):
            await text_of(world.store, "a")
