# ruff: noqa: D102
"""How long somebody stays signed in."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from coincurve import PrivateKey

from fallow.adapters.memory.sessions import MemorySessionStore
from fallow.domain import calls
from fallow.domain.errors import FallowError
from fallow.domain.identity import address, address_text
from fallow.domain.wallets import address_of, sign_text
from fallow.http import sessions
from fallow.ports.bus import Bus
from fallow.ports.rpc import Empty, call
from fallow.ports.sign_in_text import VALID_MS, SignInText
from fallow.services.registry.sessions import IDLE_MS, PER_HOLDER_MAX, SESSION_MS, Sessions
from tests.unit.test_registry import World

WALLET = PrivateKey(b"\x07" * 32)
ACCOUNT = address_text(address_of(WALLET))
HERE: dict[str, Any] = {"scheme": "https", "domain": "fallow.example:8443", "chain_id": 31337}


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

    async def opened(self, key: str) -> calls.sessions.SessionInfo:
        return await call(
            self.bus, calls.sessions.OPEN_SESSION, calls.keys.CheckKey(key=key), calls.sessions.SessionInfo
        )

    async def challenged(self, account: str = ACCOUNT) -> calls.sessions.Challenged:
        return await call(
            self.bus, calls.sessions.CHALLENGE, calls.sessions.Challenge(account=account), calls.sessions.Challenged
        )

    async def opened_by_wallet(
        self, asked: calls.sessions.Challenged, key: PrivateKey = WALLET, of: str = ACCOUNT, **shown: Any
    ) -> calls.sessions.SessionInfo:
        """Sign what `shown` changes of the text, and send it as if it had been HERE."""
        said = {**HERE, "account": address(of), "nonce": asked.nonce, "asked_at": asked.asked_at, **shown}
        signature = "0x" + sign_text(key, str(SignInText(**said))).hex()
        request = calls.sessions.OpenByWallet(account=of, nonce=asked.nonce, signature=signature, **HERE)
        return await call(self.bus, calls.sessions.OPEN_BY_WALLET, request, calls.sessions.SessionInfo)

    async def check(self, secret: str, *, used: bool = True) -> calls.sessions.SessionInfo:
        request = calls.sessions.SessionRef(secret=secret, used=used)
        return await call(self.bus, calls.sessions.CHECK_SESSION, request, calls.sessions.SessionInfo)

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


async def test_what_only_looks_whether_a_session_lasts_does_not_make_it_last(signing: Signing) -> None:
    opened = await signing.opened((await signing.world.key()).secret)
    signing.world.clock.ms += IDLE_MS - 1
    await signing.check(opened.secret, used=False)
    signing.world.clock.ms += 1
    assert await signing.refusal(opened.secret) == "auth.session"


async def test_a_gateway_that_has_just_looked_tells_the_registry_of_use_all_the_same(signing: Signing) -> None:
    opened = await signing.opened((await signing.world.key()).secret)
    gateway = sessions.Sessions(signing.bus, signing.world.clock)
    signing.world.clock.ms += IDLE_MS - 1
    await gateway.check(opened.secret, used=False)
    await gateway.check(opened.secret)
    signing.world.clock.ms += IDLE_MS - 1
    await signing.check(opened.secret)


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
    await call(signing.bus, calls.sessions.END_SESSION, calls.sessions.SessionRef(secret=first.secret), Empty)
    assert await signing.refusal(first.secret) == "auth.session"
    await signing.check(second.secret)


async def test_a_key_has_so_many_sessions_at_most(signing: Signing) -> None:
    key = (await signing.world.key()).secret
    opened = []
    for _ in range(PER_HOLDER_MAX + 1):
        opened.append(await signing.opened(key))
        signing.world.clock.ms += 1
    assert await signing.refusal(opened[0].secret) == "auth.session"
    for session in opened[1:]:
        await signing.check(session.secret)


async def test_a_wallet_opens_a_session_for_its_account(signing: Signing) -> None:
    opened = await signing.opened_by_wallet(await signing.challenged())
    seen = await signing.check(opened.secret)
    assert (seen.key.account, seen.key.key_id, seen.key.scopes) == (ACCOUNT, "", ["buy", "withdraw"])
    signing.world.clock.ms += IDLE_MS
    assert await signing.refusal(opened.secret) == "auth.session"


@pytest.mark.parametrize(
    "shown",
    [
        {"domain": "evil.example"},
        {"scheme": "http"},
        {"chain_id": 1},
        {"nonce": "0" * 32},
        {"asked_at": 1},
        {"account": bytes(20)},
        {"key": PrivateKey(b"\x08" * 32)},
    ],
)
async def test_a_text_of_another_page_and_anothers_signature_open_nothing(
    signing: Signing, shown: dict[str, Any]
) -> None:
    with pytest.raises(FallowError) as caught:
        await signing.opened_by_wallet(await signing.challenged(), **shown)
    assert caught.value.code == "auth.wallet"


async def test_a_text_is_signed_once_in_time_and_by_whom_it_was_made_for(signing: Signing) -> None:
    async def refused(asked: calls.sessions.Challenged, **how: Any) -> str:
        with pytest.raises(FallowError) as caught:
            await signing.opened_by_wallet(asked, **how)
        return caught.value.code

    asked = await signing.challenged()
    await signing.opened_by_wallet(asked)
    assert await refused(asked) == "auth.challenge"
    late = await signing.challenged()
    signing.world.clock.ms += VALID_MS
    assert await refused(late) == "auth.challenge"
    assert await refused(calls.sessions.Challenged(nonce="0" * 32, asked_at=1)) == "auth.challenge"
    other = PrivateKey(b"\x08" * 32)
    anothers = await signing.challenged()
    assert await refused(anothers, key=other, of=address_text(address_of(other))) == "auth.challenge"


async def test_a_banned_account_has_no_session_by_its_wallet_either(signing: Signing) -> None:
    opened = await signing.opened_by_wallet(await signing.challenged())
    async with signing.world.database.transaction() as tx:
        await signing.world.store.set_ban(tx, address(ACCOUNT), "fraud")
    assert await signing.refusal(opened.secret) == "account.banned"
    with pytest.raises(FallowError) as caught:
        await signing.opened_by_wallet(await signing.challenged())
    assert caught.value.code == "account.banned"


async def test_a_wallet_has_so_many_sessions_at_most(signing: Signing) -> None:
    opened = []
    for _ in range(PER_HOLDER_MAX + 1):
        opened.append(await signing.opened_by_wallet(await signing.challenged()))
        signing.world.clock.ms += 1
    assert await signing.refusal(opened[0].secret) == "auth.session"
    await signing.check(opened[1].secret)
