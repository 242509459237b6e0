"""Keys with which a machine lets its owner look on: what they may, who makes them, and who does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain import calls
from fallow.domain.api_keys import ApiKey, new_key, owners_key_message
from fallow.domain.errors import FallowError, NotAllowed
from fallow.domain.views.keys import KeyView
from fallow.ports.rpc import call
from fallow.services.registry.owners_keys import KEYS_MAX
from tests.unit.test_registry import NET, World, node_key


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A registry with one machine, the first."""
    made = World()
    async with made.registry.running():
        await made.join(node_key(1), await made.token())
        yield made


def asked(machine: SigningKey, key: ApiKey, **changes: str) -> calls.keys.OwnersKey:
    """What a machine asks for; `net` is the network that its signature is for."""
    name, sha256 = bytes(machine.verify_key).hex(), key.digest.hex()
    message = owners_key_message(changes.pop("net", NET), name, key.key_id, sha256)
    request = calls.keys.OwnersKey(
        node=name, key_id=key.key_id, sha256=sha256, proof=machine.sign(message).signature.hex()
    )
    return msgspec.structs.replace(request, **changes)


async def add(world: World, request: calls.keys.OwnersKey) -> KeyView:
    return await call(world.hub.connect(), calls.keys.OWNERS_KEY, request, KeyView)


async def refused(world: World, request: calls.keys.OwnersKey) -> str:
    with pytest.raises(FallowError) as caught:
        await add(world, request)
    return caught.value.code


def drawn(number: int) -> ApiKey:
    return new_key(number.to_bytes(5), number.to_bytes(20))


async def test_the_key_is_of_the_machines_account_and_may_only_look(world: World) -> None:
    view = await add(world, asked(node_key(1), drawn(1)))
    info = await world.check(drawn(1).text)
    (row,) = await world.nodes()
    assert (info.key_id, info.scopes) == (view.key_id, ["provide"])
    assert bytes.fromhex(info.account[2:]) == row.account
    assert await add(world, asked(node_key(1), drawn(1))) == view, "the same again counts once"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sha256": "0" * 64}, "owners_key.proof"),
        ({"key_id": "bbbbbbbb"}, "owners_key.proof"),
        ({"net": "another"}, "owners_key.proof"),
        ({"node": bytes(node_key(2).verify_key).hex()}, "owners_key.proof"),
        ({"proof": "0" * 128}, "owners_key.proof"),
    ],
)
async def test_what_the_machine_has_not_signed_is_refused(world: World, changes: dict[str, str], code: str) -> None:
    assert await refused(world, asked(node_key(1), drawn(1), **changes)) == code
    with pytest.raises(NotAllowed):
        await world.check(drawn(1).text)


async def test_a_machine_that_has_not_joined_makes_none(world: World) -> None:
    assert await refused(world, asked(node_key(2), drawn(1))) == "node.unknown"


async def test_nobody_takes_the_key_of_somebody_else(world: World) -> None:
    theirs = await world.key("", "buy")
    taken = ApiKey(theirs.secret.split("_")[1], drawn(1).text)
    assert await refused(world, asked(node_key(1), taken)) == "owners_key.taken"
    assert (await world.check(theirs.secret)).scopes == ["buy"]


async def test_what_was_revoked_does_not_come_back(world: World) -> None:
    request = asked(node_key(1), drawn(1))
    await add(world, request)
    await world.revoke(drawn(1).key_id)
    assert await refused(world, request) == "owners_key.taken"
    with pytest.raises(NotAllowed):
        await world.check(drawn(1).text)


async def test_a_banned_machine_makes_none(world: World) -> None:
    async with world.database.transaction() as tx:
        await world.store.set_ban(tx, bytes(node_key(1).verify_key), "fraud")
    assert await refused(world, asked(node_key(1), drawn(1))) == "node.banned"


async def test_there_are_so_many_and_no_more_until_one_is_revoked(world: World) -> None:
    for number in range(KEYS_MAX):
        await add(world, asked(node_key(1), drawn(number)))
    assert await refused(world, asked(node_key(1), drawn(KEYS_MAX))) == "owners_key.many"
    await world.revoke(drawn(3).key_id)
    await add(world, asked(node_key(1), drawn(KEYS_MAX)))
