"""What S3's signatures are checked with: asked of the registry, kept for a moment, and gone with the key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from fallow.adapters.memory.bus import MemoryHub
from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.ports.remembered import MOMENT_MS
from fallow.ports.rpc import serve
from fallow.ports.signing_secrets import SigningSecrets
from fallow.verticals.storage.gateway.running import KnownUsers
from fallow.verticals.storage.gateway.users import READ, WRITE
from tests.unit.agent_fakes import FakeClock

ACCOUNT = "0x" + "11" * 20


class Keys:
    """The registry's side: these keys are valid, with their scopes; `asked` is what it was asked for."""

    def __init__(self) -> None:
        self.valid: dict[str, list[str]] = {"buyer": ["buy"], "operator": ["operate"]}
        self.asked: list[str] = []
        self.banned = False

    async def answer(self, request: calls.keys.KeyRef) -> calls.keys.SigningSecret:
        """Answer."""
        self.asked.append(request.key_id)
        if self.banned:
            raise NotAllowed("account.banned", "This account is banned.")
        if request.key_id not in self.valid:
            raise NotAllowed("auth.key", "This API key is not valid.")
        info = calls.keys.KeyInfo(key_id=request.key_id, account=ACCOUNT, scopes=self.valid[request.key_id])
        return calls.keys.SigningSecret(info=info, secret=f"secret of {request.key_id}")


class World(NamedTuple):
    """Who asks, and whom."""

    secrets: SigningSecrets
    keys: Keys
    clock: FakeClock


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Both sides on one bus."""
    hub, keys, clock = MemoryHub(), Keys(), FakeClock()
    async with serve(hub.connect(), calls.keys.SIGNING_SECRET, calls.keys.KeyRef, keys.answer, queue="registry"):
        yield World(SigningSecrets(hub.connect(), clock), keys, clock)


async def test_a_key_is_asked_for_once_in_a_while_and_ends_soon_after_it_is_revoked(world: World) -> None:
    for _ in range(3):
        found = await world.secrets.find("buyer")
        assert found is not None
        assert found.secret.endswith("of buyer")
    assert world.keys.asked == ["buyer"]
    world.keys.valid.clear()
    await world.clock.advance(MOMENT_MS / 1000)
    assert await world.secrets.find("buyer") is None


async def test_the_keys_of_who_is_banned_say_so(world: World) -> None:
    await world.secrets.find("buyer")
    world.keys.banned = True
    await world.clock.advance(MOMENT_MS / 1000)
    with pytest.raises(NotAllowed, match=r"account\.banned"):
        await world.secrets.find("buyer")


@pytest.mark.parametrize("key", ["", "a\0", "\udc80", "a b", "a\n", "a" * 101, "*", "ü"])
async def test_for_what_can_be_no_key_nobody_is_asked(world: World, key: str) -> None:
    assert await world.secrets.find(key) is None
    assert not world.keys.asked


async def test_a_key_that_may_not_buy_may_do_nothing(world: World) -> None:
    users = KnownUsers(world.secrets)
    buyer, operator = await users.user("buyer"), await users.user("operator")
    assert buyer is not None
    assert operator is not None
    assert buyer.account == ACCOUNT
    assert buyer.may == {READ, WRITE}
    assert not operator.may
    assert await users.user("nobody") is None
