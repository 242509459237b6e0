"""What holders of grants try: to reach further, to forge, to go on after the end. All at the doors that they have."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.bootstrap.own_shares import GrantShares
from fallow.cli import storage_files
from fallow.cli.storage_place import Remote
from fallow.domain.calls.verticals import vertical_call
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, TooMuch
from fallow.domain.grants import (
    CAVEATS_MAX,
    TEXT_CHARACTERS_MAX,
    Credential,
    check_chain,
    new_credential,
    read_credential,
    root_key,
)
from fallow.ports import rpc
from fallow.ports.remembered import MOMENT_MS
from fallow.sdk.storage import OwnStorage
from fallow.verticals.storage.client.granting import Grant, Home, Limits, narrowed, new_grant, read_grant
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.client.store import Deleting, Head, Marks
from fallow.verticals.storage.core.calls.accounts import RevokeGrant, Usage
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.buckets import (
    Bucket,
    DropBucket,
    GetBucket,
    ListBuckets,
    MakeBucket,
    SetBucket,
)
from fallow.verticals.storage.core.calls.objects import (
    DeleteObjects,
    Deletion,
    GetObject,
    ListObjects,
    PutObject,
    SetObject,
)
from fallow.verticals.storage.core.calls.uploads import AbortUpload, BeginUpload, CompleteUpload, ListParts, PutPart
from fallow.verticals.storage.core.grants import OPERATIONS, Caveat
from tests.granted_world import OTHERS, SIGNING, GrantedWorld, granted_world, put, text_of
from tests.storage_objects import ACCOUNT, OTHER, B

ID = bytes(16)
NAMES = ("a", "a/", "a/1", "a/b/2", "ab", "ab/3", "b/4", "a/../5", "a/%2e%2e/6", "a%2F7", "a\0", "a\0/8", "/a/9", "A/1")
"""Each is a name like any other."""


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[GrantedWorld]:
    async with granted_world(postgres_dsn) as made:
        yield made


async def code_of(world: GrantedWorld, grant: Grant | Credential, call: Call[Any]) -> str:
    """What a call is refused with; "" where it is done."""
    shown = grant.credential if isinstance(grant, Grant) else grant.text
    answer = await world.ask(shown, call)
    return "" if answer.status_code == HTTPStatus.OK else str(answer.json()["code"])


def get_bucket(bucket: str = B) -> GetBucket:
    return GetBucket(account=ACCOUNT, bucket=bucket)


async def test_who_has_a_folder_reads_lists_and_writes_there_and_nowhere_else(world: GrantedWorld) -> None:
    await world.put(*NAMES)
    for path in ("a/", "a/b/", "ab/", "a\0/", "/"):
        inside = sorted(name for name in NAMES if name.startswith(path))
        async with world.holder(world.grant(path)) as store:
            assert [entry.key for entry in (await store.names("", B, prefix=path)).entries] == inside
            for name in NAMES:
                if name in inside:
                    assert await text_of(store, name) == name
                    continue
                with pytest.raises(NotAllowed, match=r"storage\.(outside|grant)"):
                    await store.entry("", B, name)
        grant = world.grant(path)
        for name in NAMES:  # whoever knows the sealed name, from wherever
            call = GetObject(account="", bucket=B, object=world.keys.seal_name(name.encode()))
            assert await code_of(world, grant, call) == ("" if name in inside else "storage.grant"), (path, name)


async def test_who_has_one_object_has_none_whose_name_begins_so(world: GrantedWorld) -> None:
    await world.put(*NAMES)
    for path in ("a", "ab", "a/1", "a\0"):
        grant = world.grant(path, "read", "write", "delete")
        async with world.holder(grant) as store:
            assert await text_of(store, path) == path
            await put(store, path, "anew", account="")
        assert await text_of(world.owner, path, ACCOUNT) == "anew"
        sealed = world.keys.seal_name(path.encode())
        for beginning in (b"", sealed, sealed[:2]):
            call: Call[Any] = ListObjects(account="", bucket=B, prefix=beginning)
            assert await code_of(world, grant, call) == "storage.grant"
        for name in NAMES:
            call = GetObject(account="", bucket=B, object=world.keys.seal_name(name.encode()))
            assert await code_of(world, grant, call) == ("" if name == path else "storage.grant")


async def test_what_a_grant_does_not_allow_is_refused(world: GrantedWorld) -> None:
    await world.put("a/1")
    sealed = world.keys.seal_name(b"a/1")
    new = world.keys.seal_name(b"a/new")
    at: dict[str, Any] = {"account": "", "bucket": B}
    asked: dict[str, Call[Any]] = {
        "read": GetObject(**at, object=sealed),
        "list": ListObjects(**at, prefix=world.keys.seal_name(b"a/")),
        "write": PutObject(**at, object=new, stream=b"s" * 16, size=1, etag="e", inline=b"1"),
        "delete": DeleteObjects(**at, deletions=[Deletion(object=sealed)]),
    }
    for operation in OPERATIONS:
        grant = world.grant("a/", operation)
        for wanted, call in asked.items():
            assert await code_of(world, grant, call) == ("" if wanted == operation else "storage.grant"), wanted


async def test_who_may_sign_s3_requests_makes_no_grant_that_gets_around_a_hosted_buckets_policy(
    world: GrantedWorld,
) -> None:
    hosted = "hosted"
    await rpc.call(
        world.network.bus,
        vertical_call("storage", MakeBucket.name),
        MakeBucket(account=ACCOUNT, bucket=hosted, settings={"policy": b"denies"}),
        Bucket,
    )
    caveat = msgspec.msgpack.encode(Caveat(bucket=hosted, allow=[*OPERATIONS]))
    grant = new_credential(root_key(SIGNING.secret), SIGNING.key_id, os.urandom(16), caveat)
    at: dict[str, Any] = {"account": "", "bucket": hosted}
    for call in (
        get_bucket(hosted),
        ListObjects(**at),
        DeleteObjects(**at, deletions=[Deletion(object=b"a")]),
        PutObject(**at, object=b"a", stream=ID, size=1, etag="e", inline=b"1"),
        BeginUpload(**at, object=b"a", stream=ID),
    ):
        assert await code_of(world, grant, call) == "storage.hosted_bucket", call


async def test_calls_that_no_grant_allows_are_refused_whatever_it_says(world: GrantedWorld) -> None:
    grant, at = world.grant(""), {"account": ACCOUNT, "bucket": B}
    name = world.keys.seal_name(b"a")
    new: dict[str, Any] = {**at, "object": name, "stream": ID, "size": 1, "etag": "e", "inline": b"1"}
    for call in (
        SetBucket(account=ACCOUNT, bucket=B, settings={"policy": b"all"}),
        DropBucket(account=ACCOUNT, bucket=B),
        MakeBucket(account=ACCOUNT, bucket="another"),
        ListBuckets(account=ACCOUNT),
        SetObject(account=ACCOUNT, bucket=B, object=name, hold=True),
        Usage(account=ACCOUNT, from_day=0, to_day=1),
        RevokeGrant(account=ACCOUNT, grant=ID),
        PutObject(**new, retention="compliance", until_ms=2**40),
        PutObject(**new, hold=True),
        BeginUpload(account="", bucket=B, object=name, stream=ID, hold=True),
        DeleteObjects(account="", bucket=B, deletions=[Deletion(object=name, version=ID)]),
        DeleteObjects(account="", bucket=B, deletions=[Deletion(object=name, null=True)]),
        DeleteObjects(account="", bucket=B, deletions=[Deletion(object=name)], bypass=True),
        DeleteObjects(account="", bucket=B, deletions=[Deletion(object=name)], purge=True),
        get_bucket("another"),
        get_bucket(""),
    ):
        assert await code_of(world, grant, call) == "storage.grant", call
    assert (await world.owner.bucket(B)).settings["policy"] == b"whom the owner lets in"


async def test_one_name_outside_among_many_deletes_none(world: GrantedWorld) -> None:
    await world.put("a/1", "b/2")
    seal = world.keys.seal_name
    deletions = [Deletion(object=seal(name)) for name in (b"a/1", b"b/2")]
    call = DeleteObjects(account="", bucket=B, deletions=deletions)
    assert await code_of(world, world.grant("a/"), call) == "storage.grant"
    assert await world.names() == ["a/1", "b/2"]


async def test_one_who_shows_a_grant_leaves_uploads_to_others_and_to_the_owner(
    world: GrantedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.uploads.UPLOADS_MAX", 16)
    grant = world.grant("a/")

    async def begin(shown: Grant | Credential, number: int) -> str:
        """Whose it is cannot be said by whoever asks."""
        stream, name = os.urandom(16), world.keys.seal_name(f"a/b/{number}".encode())
        call = BeginUpload(account="", bucket=B, object=name, stream=stream, by_grant=os.urandom(16))
        return await code_of(world, shown, call)

    assert [await begin(grant, number) for number in range(3)] == ["", "", "storage.uploads"]
    assert await begin(narrowed(grant, "a/b/", Limits(["write"])), 3) == "storage.uploads"
    for _ in range(3):
        other = world.grant("a/")
        assert [await begin(other, number) for number in range(3)] == ["", "", "storage.uploads"]
    assert await begin(world.grant("a/"), 0) == "storage.uploads"
    for number in range(8):
        await world.owner.begin(ACCOUNT, B, f"a/{number}", head=Head(), marks=Marks())
    with pytest.raises(TooMuch):
        await world.owner.begin(ACCOUNT, B, "a/more", head=Head(), marks=Marks())


async def test_the_body_cannot_name_whose_account_it_is(world: GrantedWorld) -> None:
    """An empty account is a gateway's, another's would be his: neither is taken from who asks."""
    for account in ("", OTHER, ACCOUNT):
        answer = await world.ask(world.grant("").credential, GetBucket(account=account, bucket=B))
        assert msgspec.msgpack.decode(answer.content, type=Bucket).account == ACCOUNT
    other = new_grant(OTHERS, world.keys, "", Limits(OPERATIONS), Home("http://127.0.0.1"), bytes)
    assert await code_of(world, other, get_bucket()) == "storage.not_yours"


async def test_a_holder_does_not_see_whom_the_owner_lets_in(world: GrantedWorld) -> None:
    answer = await world.ask(world.grant("a/", "read").credential, get_bucket())
    assert set(msgspec.msgpack.decode(answer.content, type=Bucket).settings) == {"sealed"}


async def test_who_may_write_and_not_delete_replaces_nothing(world: GrantedWorld) -> None:
    await world.put("in/1")
    async with world.holder(world.grant("in/", "write")) as store:
        await put(store, "in/2", account="")
        for name in ("in/1", "in/2"):
            with pytest.raises(Conflict, match=r"storage\.condition"):
                await put(store, name, "mine now", account="")
        upload = await store.begin("", B, "in/1", head=Head(), marks=Marks())
        with pytest.raises(FallowError, match=r"storage\.(part|condition)"):
            await store.complete("", B, "in/1", upload, [(1, "e")], head=Head(etag="e"))
        with pytest.raises(NotAllowed, match=r"storage\.grant"):
            await store.delete("", B, [Deleting("in/1")])
    assert await text_of(world.owner, "in/1", ACCOUNT) == "in/1"


async def test_what_a_writer_puts_there_that_nobody_can_read_is_listed_around_and_deleted(
    world: GrantedWorld, tmp_path: Path
) -> None:
    await world.put("in/1", "in/z")
    grant, begin = world.grant("in/", "write"), world.keys.seal_name(b"in/")
    junk = [begin + b"\xff" * 6, begin + b"\x00", begin + bytes(4), world.keys.seal_name(b"in/\xff")]
    for number, name in enumerate([*junk, world.keys.seal_name(b"in/spoilt")]):
        new: dict[str, Any] = {"account": "", "bucket": B, "object": name, "head": b"no head", "tags": b"nor tags"}
        stored = PutObject(**new, stream=b"%016d" % number, size=1, etag="e", inline=b"1")
        assert await code_of(world, grant, stored) == ""
        assert await code_of(world, grant, BeginUpload(**new, stream=b"u%015d" % number)) == ""
    good = ["in/1", "in/spoilt", "in/z"]
    for delimiter in ("", "/", "z"):
        listed = await world.owner.names(ACCOUNT, B, prefix="in/", delimiter=delimiter)
        assert [entry.key for entry in listed.entries] == (good[:2] if delimiter == "z" else good)
        assert sorted(listed.damaged) == sorted(junk)
    pages, after = list[str](), ""
    while len(pages) < 9:
        page = await world.owner.names(ACCOUNT, B, limit=1, after=after)
        pages += [entry.key for entry in page.entries]
        after = page.after
        if not page.more:
            break
    assert pages == good
    assert await world.owner.uploads(ACCOUNT, B) == []
    with pytest.raises(InvalidInput, match=r"storage\.document"):
        await world.owner.entry(ACCOUNT, B, "in/spoilt")
    own = OwnStorage(world.owner, ACCOUNT, GrantShares(grant))
    assert await storage_files.remove(own, Remote(B, "in/spoilt"), below=False) == ["in/spoilt"]
    at: dict[str, Any] = {"account": "", "bucket": B, "object": world.keys.seal_name(b"in/spoilt")}
    again = PutObject(**at, head=b"no head", tags=b"", stream=b"s" * 16, size=1, etag="e", inline=b"1")
    assert await code_of(world, grant, again) == ""
    (tmp_path / "spoilt").write_text("mended")
    (copied,) = await storage_files.copy_up(own, tmp_path, Remote(B, "in/"), below=True)
    assert copied.moved
    assert await text_of(world.owner, "in/spoilt", ACCOUNT) == "mended"
    assert len(await storage_files.remove(own, Remote(B, "in/"), below=True)) == 7
    left = await world.owner.names(ACCOUNT, B)
    assert (left.entries, left.damaged) == ([], [])


async def test_who_lies_about_the_slashes_of_his_name_hides_none_of_the_owners(world: GrantedWorld) -> None:
    """The network takes the writer's word for where a folder ends, and skips all that begins so."""
    await world.put("a", "ia/1", "in/box/1", "in/y", "in/z", "io", "iz/2", "z")
    grant = world.grant("in/box/", "write")
    for number, slash in enumerate((2, 3, 4, 10, 13, 15)):
        name = world.keys.seal_name(b"in/box/0%d" % (9 - number))
        new: dict[str, Any] = {"account": "", "bucket": B, "object": name, "slashes": [slash]}
        stored = PutObject(**new, stream=b"%016d" % number, size=1, etag="e", inline=b"1")
        assert await code_of(world, grant, stored) == ""
        for prefix, folders, entries in (
            ("", ["ia/", "in/", "iz/"], ["a", "io", "z"]),
            ("i", ["ia/", "in/", "iz/"], ["io"]),
            ("in/", ["in/box/"], ["in/y", "in/z"]),
        ):
            for limit in (1, 2, 100):
                shown, after = list[str](), ""
                while True:
                    page = await world.owner.names(ACCOUNT, B, prefix=prefix, delimiter="/", after=after, limit=limit)
                    shown += [*page.folders, *(entry.key for entry in page.entries)]
                    after = page.after
                    if not page.more:
                        break
                assert sorted(shown) == sorted([*folders, *entries]), (slash, prefix, limit)


async def test_parts_go_to_ones_own_uploads_only(world: GrantedWorld) -> None:
    """A call that names an upload by its id has to say of which object it is, and that is held against it."""
    upload = bytes.fromhex(await world.owner.begin(ACCOUNT, B, "b/big", head=Head(), marks=Marks()))
    inside, outside = world.keys.seal_name(b"a/1"), world.keys.seal_name(b"b/big")
    part: dict[str, Any] = {"account": "", "bucket": B, "stream": upload}
    for name, code in ((inside, "storage.no_upload"), (outside, "storage.grant"), (b"", "storage.grant")):
        for call in (
            PutPart(**part, object=name, bytes_of=b"x" * 16, number=1, size=1, etag="e"),
            ListParts(**part, object=name),
            AbortUpload(**part, object=name),
            CompleteUpload(**part, object=name, parts=[(1, "e")], etag="e"),
        ):
            assert await code_of(world, world.grant("a/"), call) == code, call
    assert [one.key for one in await world.owner.uploads(ACCOUNT, B)] == ["b/big"]


async def test_what_was_forged_cut_short_or_patched_is_refused(world: GrantedWorld) -> None:
    grant = narrowed(world.grant("a/"), "a/b/", Limits(["read"]))
    shown = read_credential(grant.credential)
    wide = msgspec.msgpack.encode(Caveat(bucket=B, allow=list(OPERATIONS)))
    root = root_key("what nobody signs with")
    forged = [
        shown._replace(caveats=shown.caveats[:1]),
        shown._replace(caveats=()),
        shown._replace(caveats=(wide,)),
        shown._replace(caveats=shown.caveats[::-1]),
        shown._replace(tag=shown.tag[:-1] + bytes([shown.tag[-1] ^ 1])),
        shown._replace(nonce=bytes(16)),
        shown._replace(key_id=OTHERS.key_id),
        shown._replace(key_id="zzzzzzzz"),
        new_credential(root, SIGNING.key_id, ID, wide),
        Credential(SIGNING.key_id, ID, (), bytes(32)),
    ]
    assert await code_of(world, grant, get_bucket()) == ""
    for one in forged:
        assert await code_of(world, one, get_bucket()) == "auth.grant", one
    for text in (
        grant.credential[:-4],
        grant.credential + "AAAA",
        "fg_",
        f"fg_{SIGNING.key_id}_",
        "fg_../../x_" + "A" * 64,
    ):
        assert (await world.ask(text, get_bucket())).status_code == HTTPStatus.UNAUTHORIZED, text


async def test_a_head_without_restrictions_is_no_grant(world: GrantedWorld) -> None:
    """Who has the API key could make one: it would be the API key by another name, and nobody could tell them apart."""
    bare = new_credential(root_key(SIGNING.secret), SIGNING.key_id, ID, b"")
    assert await code_of(world, bare, get_bucket()) == "storage.grant", "a caveat that is not understood"
    with pytest.raises(NotAllowed, match=r"auth\.grant"):
        check_chain(root_key(SIGNING.secret), bare._replace(caveats=()))


async def test_a_restriction_that_is_not_understood_allows_nothing(world: GrantedWorld) -> None:
    extras: list[dict[str, Any]] = [{"sudo": True}, {"allow": ["read", "own"]}, {"bucket": None}, {"until_ms": -1}]
    for extra in extras:
        caveat = msgspec.msgpack.encode({"bucket": B, "allow": ["read"], **extra})
        shown = read_credential(world.grant("").credential).narrowed(caveat)
        assert await code_of(world, shown, get_bucket()) == "storage.grant"


async def test_a_grant_holds_between_its_times_by_the_networks_clock(world: GrantedWorld) -> None:
    now = world.objects.clock.now
    grant = world.grant("a/", from_ms=now + 10, until_ms=now + 20)
    longer = read_credential(grant.credential).narrowed(
        msgspec.msgpack.encode(Caveat(bucket=B, allow=list(OPERATIONS), until_ms=2**50))
    )
    for at, code in (
        (9, "storage.grant_time"),
        (10, ""),
        (19, ""),
        (20, "storage.grant_time"),
        (99, "storage.grant_time"),
    ):
        world.objects.clock.now = now + at
        assert await code_of(world, grant, get_bucket()) == code, at
        assert await code_of(world, longer, get_bucket()) == code, "a later end changes nothing"


async def test_what_was_made_of_a_revoked_grant_ends_with_it_and_what_was_not_goes_on(world: GrantedWorld) -> None:
    parent, sibling = world.grant("a/"), world.grant("a/")
    child = narrowed(parent, "a/b/", Limits(["read", "write"]))
    grandchild = narrowed(child, "a/b/c", Limits(["read"]))
    for grant in (parent, child, grandchild, sibling):
        assert await code_of(world, grant, get_bucket()) == ""
    await world.revoke(child)
    assert [await code_of(world, one, get_bucket()) for one in (parent, child, grandchild, sibling)] == [
        "", "auth.revoked", "auth.revoked", "",
    ]  # fmt: skip
    await world.revoke(parent, OTHER)
    assert await code_of(world, parent, get_bucket()) == "", "nobody else revokes it"
    await world.revoke(parent)
    await world.revoke(parent)
    again = narrowed(parent, "a/", Limits(["read"]))
    assert await code_of(world, parent, get_bucket()) == "auth.revoked"
    assert await code_of(world, again, get_bucket()) == "auth.revoked", "nor does a new one help that is made of it"
    assert await code_of(world, sibling, get_bucket()) == ""


async def test_a_grant_ends_with_its_api_key_or_with_what_that_may(world: GrantedWorld) -> None:
    grant = world.grant("a/")
    world.set_scopes("operate")
    assert await code_of(world, grant, get_bucket()) == "scope.missing"
    world.set_scopes()
    world.objects.clock.now += MOMENT_MS
    assert await code_of(world, grant, get_bucket()) == "auth.grant"


async def test_a_grant_is_no_key_for_anything_else(world: GrantedWorld) -> None:
    grant = world.grant("")
    async with world.client(grant.credential) as client:
        for ask in (client.balance, client.signing_secret, client.keys):
            with pytest.raises(NotAllowed, match=r"auth\.key"):
                await ask()
    answer = await world.post("/v1/verticals/compute/bucket.get", b"", grant.credential)
    assert answer.json()["code"] == "vertical.no_call"
    for path in ("granted", "bucket.due"):  # neither the envelope itself, nor what gateways ask
        assert (
            await world.post(f"/v1/verticals/storage/{path}", b"\x80", grant.credential)
        ).status_code == HTTPStatus.NOT_FOUND


async def test_who_tries_grants_out_is_slowed_down_by_his_address(world: GrantedWorld) -> None:
    good, bad = world.grant("a/"), read_credential(world.grant("a/").credential)._replace(tag=bytes(32))
    assert await code_of(world, good, get_bucket()) == ""
    codes = [await code_of(world, bad, get_bucket()) for _ in range(80)]
    assert codes[0] == "auth.grant"
    assert codes[-1] == "rate.requests"
    assert await code_of(world, good, get_bucket()) == "", "whose grant was good a moment ago is not"


async def test_a_wrong_body_changes_nothing_and_is_no_fault_of_the_server(world: GrantedWorld) -> None:
    for body in (b"", b"\xc1", b"\x93\x93\x93", msgspec.msgpack.encode({"account": 1}), b"\x91" * 5000):
        answer = await world.post("/v1/verticals/storage/object.get", body, world.grant("").credential)
        assert answer.json()["code"] == "vertical.malformed"


def test_names_and_chains_that_are_too_long_are_refused_where_they_are_made() -> None:
    keys = Keys.under(bytes(32), B, bytes)
    grant = new_grant(SIGNING, keys, "a/", Limits(OPERATIONS), Home("http://127.0.0.1"), bytes)
    for _ in range(CAVEATS_MAX - 1):
        grant = narrowed(grant, "a/", Limits(OPERATIONS))
    with pytest.raises(TooMuch, match=r"grant\.length"):
        narrowed(grant, "a/", Limits(OPERATIONS))
    long = new_grant(SIGNING, keys, "n" * 1024, Limits(["read"]), Home("http://127.0.0.1"), bytes)
    assert len(long.credential) <= TEXT_CHARACTERS_MAX
    with pytest.raises(TooMuch, match=r"grant\.length"):
        new_grant(SIGNING, keys, "n" * 2048, Limits(["read"]), Home("http://127.0.0.1"), bytes)


async def test_the_keys_in_a_grant_open_nothing_beside_it_for_who_has_all_sealed_bytes(
    world: GrantedWorld,
) -> None:
    """The network's side may be in league with the holder: what it has is sealed under other keys."""
    await world.put("a/1", "b/2")
    keys = Keys(world.grant("a/").share, bytes)
    version = (await world.owner.entry(ACCOUNT, B, "b/2")).source
    assert version is not None
    with pytest.raises(InvalidInput, match=r"storage\.name"):
        keys.open_names([version.name])
    for name in (b"a/1", b"a/b/2", b"a/"):
        with pytest.raises(InvalidInput, match=r"storage\.document"):
            keys.open(name, "head", version.head, Head, version.stream)


@pytest.mark.parametrize(
    "text", ["", "fgrant_", "fgrant_AAAA", "fg_x", "fgrant_" + "A" * 40_000, "fgrant_\udcff", "fgrant_é"]
)
def test_what_is_no_grant_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"storage\.grant_text"):
        read_grant(text)


def test_a_grant_says_nothing_of_what_it_is_worth_in_a_log() -> None:
    keys = Keys.under(bytes(range(32)), B, bytes)
    grant = new_grant(SIGNING, keys, "a/", Limits(OPERATIONS), Home("http://127.0.0.1"), bytes)
    credential = read_credential(grant.credential)
    for said in (repr(grant), repr(credential), repr(grant.share)):
        assert credential.tag.hex() not in said
        assert repr(credential.tag) not in said
        assert repr(grant.share.secret) not in said
