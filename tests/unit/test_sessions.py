# ruff: noqa: D102
"""How long somebody stays signed in."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.sessions import MemorySessionStore
from fallow.domain import calls
from fallow.domain.errors import FallowError
from fallow.domain.identity import address
from fallow.ports.bus import Bus
from fallow.ports.rpc import Empty, call
from fallow.services.registry.sessions import IDLE_MS, PER_KEY_MAX, SESSION_MS, Sessions
from tests.unit.test_registry import World


class Signing:
    """The production registry, and its sessions."""

    def __init__(self) -> None:
        self.world = World()
        self.bus: Bus = self.world.hub.connect()
        self.sessions = Sessions(
            check_key=self.world.registry.check_key,
            random_bytes=random.Random(2).randbytes,
            bus=self.bus,
            clock=self.world.clock,
            database=self.world.database,
            registry=self.world.store,
            store=MemorySessionStore(),
        )

    async def opened(self, key: str) -> calls.SessionInfo:
        return await call(self.bus, calls.OPEN_SESSION, calls.CheckKey(key=key), calls.SessionInfo)

    async def check(self, secret: str) -> calls.SessionInfo:
        return await call(self.bus, calls.CHECK_SESSION, calls.SessionRef(secret=secret), calls.SessionInfo)

    async def refusal(self, secret: str) -> str:
        with pytest.raises(FallowError) as caught:
            await self.check(secret)
        return caught.value.code


@pytest.fixture
async def signing() -> AsyncIterator[Signing]:
    made = Signing()
    async with made.world.registry.running(), made.sessions.running():
        yield made


async def test_a_session_speaks_for_the_account_of_its_key(signing: Signing) -> None:
    key = await signing.world.key("", "buy", "withdraw")
    opened = await signing.opened(key.secret)
    assert opened.secret.startswith("fs_")
    seen = await signing.check(opened.secret)
    assert (seen.key, seen.secret) == (await signing.world.check(key.secret), "")
    assert seen.ends_at == opened.ends_at == signing.world.clock.ms + SESSION_MS


@pytest.mark.parametrize("key", ["", "fk_nobody", "fk_aaaaaaaa_" + "a" * 32])
async def test_nobody_gets_in_without_a_key(signing: Signing, key: str) -> None:
    with pytest.raises(FallowError) as caught:
        await signing.opened(key)
    assert caught.value.code == "auth.key"
    assert await signing.refusal("fs_" + "a" * 32) == "auth.session"


async def test_a_session_ends_when_nobody_uses_it(signing: Signing) -> None:
    opened = await signing.opened((await signing.world.key()).secret)
    signing.world.clock.ms += IDLE_MS - 1
    await signing.check(opened.secret)
    signing.world.clock.ms += IDLE_MS - 1
    await signing.check(opened.secret)
    signing.world.clock.ms += IDLE_MS
    assert await signing.refusal(opened.secret) == "auth.session"


async def test_a_session_ends_after_its_time_however_much_it_is_used(signing: Signing) -> None:
    opened = await signing.opened((await signing.world.key()).secret)
    for _ in range(11):
        signing.world.clock.ms += 3_600_000
        await signing.check(opened.secret)
    signing.world.clock.ms = opened.ends_at
    assert await signing.refusal(opened.secret) == "auth.session"


async def test_a_session_ends_with_its_key_and_its_account(signing: Signing) -> None:
    world = signing.world
    kept, lost = await world.key(), await world.key()
    mine, other = await signing.opened(kept.secret), await signing.opened(lost.secret)
    await world.revoke(other.key.key_id)
    assert await signing.refusal(other.secret) == "auth.session"
    async with world.database.transaction() as tx:
        await world.store.set_ban(tx, address(mine.key.account), "fraud")
    assert await signing.refusal(mine.secret) == "account.banned"


async def test_signing_out_ends_one_session_and_no_other(signing: Signing) -> None:
    key = (await signing.world.key()).secret
    first, second = await signing.opened(key), await signing.opened(key)
    await call(signing.bus, calls.END_SESSION, calls.SessionRef(secret=first.secret), Empty)
    assert await signing.refusal(first.secret) == "auth.session"
    await signing.check(second.secret)


async def test_a_key_has_so_many_sessions_at_most(signing: Signing) -> None:
    key = (await signing.world.key()).secret
    opened = []
    for _ in range(PER_KEY_MAX + 1):
        opened.append(await signing.opened(key))
        signing.world.clock.ms += 1
    assert await signing.refusal(opened[0].secret) == "auth.session"
    for session in opened[1:]:
        await signing.check(session.secret)
