"""Whoever shows a grant, at the real doors: the control API, the network's side of objects on PostgreSQL, a store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import httpx2
import msgspec
from blake3 import blake3

from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.ports import rpc
from fallow.sdk.client import AsyncClient
from fallow.verticals.storage.client.asking import HttpAsker
from fallow.verticals.storage.client.granting import Grant, Home, Limits, Signing, new_grant
from fallow.verticals.storage.client.keys import Keys, KeysOf, keys_under
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.opening import opened_store
from fallow.verticals.storage.client.store import Ended, Entry, Head, Marks
from fallow.verticals.storage.control.service import Control
from fallow.verticals.storage.core.billing import BUYERS_CALLS
from fallow.verticals.storage.core.calls.accounts import RevokeGrant
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.grants import OPERATIONS, Operation
from fallow.verticals.storage.core.lenders import PROVIDERS_CALLS
from fallow.verticals.storage.core.upkeep import OPERATOR_CALLS
from tests.epoch_files import NET, NETWORK_KEY
from tests.storage_objects import ACCOUNT, OTHER, B, ObjectsWorld, objects_world
from tests.unit.agent_fakes import FakeClock
from tests.unit.fake_network import FakeNetwork, fake_network

ROOT: Final = blake3(b"root of the owner").digest()
URL: Final = "http://127.0.0.1"
SIGNING: Final = Signing("abcdefgh", "secret of abcdefgh")
OTHERS: Final = Signing("bcdefghi", "secret of bcdefghi")
"""Keys of two accounts, and what the network in memory has them sign with."""


class GrantedWorld:
    """The owner's store, and what others do with his grants."""

    def __init__(self, network: FakeNetwork, objects: ObjectsWorld, owner: ObjectStore) -> None:
        self.network = network
        self.objects = objects
        self.owner = owner
        self.keys = Keys.under(ROOT, B, os.urandom)

    def grant(
        self, name: str, *allow: Operation, from_ms: int = 0, until_ms: int | None = None, signing: Signing = SIGNING
    ) -> Grant:
        """Have the owner make one."""
        limits = Limits(allow or OPERATIONS, from_ms, until_ms)
        return new_grant(signing, self.keys, name, limits, Home(URL), os.urandom)

    def set_scopes(self, *scopes: str) -> None:
        """Change what the owner's API key may; nothing: end it."""
        self.network.keys.pop(SIGNING.key_id, None)
        if scopes:
            self.network.keys[SIGNING.key_id] = _info(SIGNING, ACCOUNT, *scopes)

    async def revoke(self, grant: Grant, account: str = ACCOUNT) -> None:
        """End one."""
        subject = calls.verticals.vertical_call("storage", RevokeGrant.name)
        await rpc.call(self.network.bus, subject, RevokeGrant(account=account, grant=grant.id), type(None))

    async def put(self, *keys: str, store: ObjectStore | None = None, account: str = ACCOUNT) -> list[Entry]:
        """Store small objects, whose bytes are their names."""
        return [await put(store or self.owner, key, account=account) for key in keys]

    async def names(self) -> list[str]:
        """What the owner has."""
        return [entry.key for entry in (await self.owner.names(ACCOUNT, B)).entries]

    @asynccontextmanager
    async def holder(self, grant: Grant) -> AsyncIterator[ObjectStore]:
        """A store of whoever has a grant."""
        async with (
            self.client(grant.credential) as client,
            _store(HttpAsker(partial(client.ask_vertical, "storage")), grant.keys_of(os.urandom)) as store,
        ):
            yield store

    def client(self, key: str) -> AsyncClient:
        """A client that shows something, and does not wait."""

        async def at_once(_: float) -> None:
            return None

        transport = httpx2.ASGITransport(self.network.app)  # type: ignore[arg-type]
        return AsyncClient(URL, key, transport=transport, sleep=at_once)

    async def ask(self, credential: str, call: Call[Any]) -> httpx2.Response:
        """Ask as whoever knows HTTP, and keeps to no client's rules."""
        return await self.post(f"/v1/verticals/storage/{call.name}", msgspec.msgpack.encode(call), credential)

    async def post(self, path: str, body: bytes, credential: str) -> httpx2.Response:
        """Send bytes."""
        transport = httpx2.ASGITransport(self.network.app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as http:
            return await http.post(path, content=body, headers={"Authorization": f"Bearer {credential}"})


async def put(store: ObjectStore, key: str, text: str = "", account: str = ACCOUNT) -> Entry:
    """Store a small object."""

    async def body() -> AsyncIterator[bytes]:
        yield (text or key).encode()

    return await store.put(account, B, key, body(), lambda: Ended("e", {}), head=Head(), marks=Marks())


async def text_of(store: ObjectStore, key: str, account: str = "") -> str:
    """Read one."""
    entry = await store.entry(account, B, key)
    return b"".join([chunk async for chunk in store.read(account, B, entry, 0, entry.size)]).decode()


@asynccontextmanager
async def granted_world(dsn: str) -> AsyncIterator[GrantedWorld]:
    """A world with the owner's bucket, which is empty."""

    async def elsewhere(_: Call[Any]) -> None:
        raise NotAllowed("test.segments", "Segments are not under test here.")

    async with objects_world(dsn) as objects, fake_network() as network:
        others = {
            call: elsewhere
            for call in (*BUYERS_CALLS, *PROVIDERS_CALLS, *OPERATOR_CALLS)
            if call not in objects.objects.handlers()
        }
        control = Control(network.bus, objects.clock, objects.database, objects.objects, others)
        network.keys[SIGNING.key_id] = _info(SIGNING, ACCOUNT, "buy")
        network.keys[OTHERS.key_id] = _info(OTHERS, OTHER, "buy")
        async with control.running(), _store(objects, keys_under(lambda _: ROOT, os.urandom)) as owner:
            await owner.make_bucket(ACCOUNT, B, settings={"policy": b"whom the owner lets in"})
            yield GrantedWorld(network, objects, owner)


@asynccontextmanager
async def _store(asker: Any, keys_of: KeysOf) -> AsyncIterator[ObjectStore]:
    reach: Any = None  # nothing here is larger than what lies inline
    async with opened_store(
        NET, NETWORK_KEY, asker, reach, FakeClock(), keys_of=keys_of, random_bytes=os.urandom, own=True
    ) as store:
        yield store


def _info(signing: Signing, account: str, *scopes: str) -> calls.keys.KeyInfo:
    return calls.keys.KeyInfo(key_id=signing.key_id, account=account, scopes=[*scopes])
