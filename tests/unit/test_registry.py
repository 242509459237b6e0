"""Who gets in: joining, tokens, keys, and whose account a node is bound to."""

# ruff: noqa: D102 - made-up tokens

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain import calls
from fallow.domain.bindings import BindingCode, binding_text
from fallow.domain.errors import FallowError, NotAllowed, NotFound
from fallow.domain.identity import address, address_text
from fallow.domain.networks import network_of
from fallow.domain.views.keys import KeyView
from fallow.domain.wallets import address_of, sign_text, signer_of
from fallow.ports.registry_store import NodeRow
from fallow.ports.rpc import Empty, call
from fallow.services.registry.custody import Custody
from fallow.services.registry.service import TUNNEL_MS, Registry
from tests.faulty_database import Fault, FaultyDatabase
from tests.unit.agent_fakes import FakeClock

NET = "lab-1"
DAY_S = 86_400
PIN = "a" * 32


class World:
    """The production registry over in-memory ports."""

    def __init__(self, pin: str = "") -> None:
        self.hub, self.clock, self.database = MemoryHub(), FakeClock(), FaultyDatabase()
        self.store = MemoryRegistryStore()
        self._pin = pin
        self.registry = self.copy()

    def copy(self) -> Registry:
        """Make a copy of the registry: what they have in common is the database."""
        return Registry(
            net=NET,
            custody=Custody(b"s" * 32),
            random_bytes=random.Random(1).randbytes,
            bus=self.hub.connect(),
            clock=self.clock,
            database=self.database,
            store=self.store,
            pin=self._pin,
        )

    async def networks(self) -> dict[bytes, str]:
        async with self.database.transaction() as tx:
            return await self.store.networks(tx)

    async def token(self, uses: int = 1, valid_s: int = DAY_S) -> str:
        request = calls.keys.CreateToken(uses=uses, valid_s=valid_s)
        return (await call(self.hub.connect(), calls.keys.CREATE_TOKEN, request, calls.keys.Secret)).secret

    async def join(self, key: SigningKey, token: str, **changes: str) -> calls.nodes.Joined:
        node = bytes(key.verify_key).hex()
        proof = key.sign(calls.nodes.join_message(token, node, changes.get("account", ""))).signature.hex()
        request = msgspec.structs.replace(
            calls.nodes.Join(token=token, node=node, proof=proof, label="attic"), **changes
        )
        return await call(self.hub.connect(), calls.nodes.JOIN, request, calls.nodes.Joined)

    async def key(self, account: str = "", *scopes: str) -> calls.keys.Secret:
        request = calls.keys.CreateKey(account=account, scopes=list(scopes) or ["buy"], label="laptop")
        return await call(self.hub.connect(), calls.keys.CREATE_KEY, request, calls.keys.Secret)

    async def check(self, key: str) -> calls.keys.KeyInfo:
        return await call(self.hub.connect(), calls.keys.CHECK_KEY, calls.keys.CheckKey(key=key), calls.keys.KeyInfo)

    async def revoke(self, key_id: str) -> None:
        await call(self.hub.connect(), calls.keys.REVOKE_KEY, calls.keys.RevokeKey(key_id=key_id), Empty)

    async def nodes(self) -> list[NodeRow]:
        async with self.database.transaction() as tx:
            return await self.store.nodes(tx)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.registry.running():
        yield made


def node_key(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "big"))


async def refusal(world: World, key: SigningKey, token: str, **changes: str) -> str:
    before = await world.nodes()
    with pytest.raises(FallowError) as caught:
        await world.join(key, token, **changes)
    assert await world.nodes() == before
    return caught.value.code


# Joining


async def test_joining_binds_a_node_to_an_account_of_its_own(world: World) -> None:
    token = await world.token(uses=2)
    keys = [node_key(1), node_key(2)]
    joined = [await world.join(key, token) for key in keys]
    assert len({one.account for one in joined}) == 2
    for key, one in zip(keys, joined, strict=True):
        node, account = bytes(key.verify_key), address(one.account)
        assert one.net == NET
        # Anybody can check the account's half: the signature recovers to it, and to nothing else.
        signature = bytes.fromhex(one.account_signature)
        assert signer_of(binding_text(NET, node, account), signature) == account
        assert signer_of(binding_text("lab-2", node, account), signature) != account
        assert signer_of(binding_text(NET, bytes(32), account), signature) != account
        assert NodeRow(node, account, "attic", world.clock.ms, "") in await world.nodes()
        assert await world.registry.may_connect(node)
    assert not await world.registry.may_connect(bytes(node_key(3).verify_key))


async def test_a_token_works_so_often_and_so_long(world: World) -> None:
    once, short = await world.token(), await world.token(uses=9, valid_s=10)
    await world.join(node_key(1), once)
    assert await refusal(world, node_key(2), once) == "join.token_used_up"
    assert await refusal(world, node_key(2), "fj_" + "a" * 32) == "join.token_unknown"
    assert await refusal(world, node_key(2), "") == "join.token_unknown"
    world.clock.ms += 9_999
    await world.join(node_key(3), short)
    world.clock.ms += 1
    assert await refusal(world, node_key(2), short) == "join.token_expired"


async def test_the_last_use_goes_to_one(world: World) -> None:
    token = await world.token(uses=2)
    results = await asyncio.gather(
        *(world.join(node_key(number), token) for number in range(1, 6)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Joined"] * 2 + ["NotAllowed"] * 3
    assert len(await world.nodes()) == 2


async def test_a_token_may_carry_the_pin_of_the_networks_authority() -> None:
    world = World(pin=PIN)
    async with world.registry.running():
        token = await world.token(uses=3)
        secret, _, pin = token.rpartition("_")
        assert pin == PIN
        await world.join(node_key(1), token)
        await world.join(node_key(2), secret)  # the pin is for the agent; the network knows its own
        assert await refusal(world, node_key(3), token[:-1]) == "tls.pin"
        await world.join(node_key(3), token)


async def test_joining_again_uses_no_token(world: World) -> None:
    token = await world.token()
    first = await world.join(node_key(1), token)
    assert await world.join(node_key(1), token) == first
    assert await world.join(node_key(1), "anything", label="other") == first
    (row,) = await world.nodes()
    assert row.label == "attic"


async def test_a_join_that_was_lost_on_the_way_can_be_repeated(world: World) -> None:
    token = await world.token()
    for fault in (Fault.BEGIN, Fault.COMMIT, Fault.ANSWER):
        world.database.fault = partial(Fault, fault)
        with pytest.raises(FallowError) as caught:
            await world.join(node_key(1), token)
        assert caught.value.code == "database.unreachable"
        world.database.fault = lambda: Fault.NONE
        assert len(await world.nodes()) == (fault is Fault.ANSWER)
    await world.join(node_key(1), token)


async def test_the_node_itself_must_ask(world: World) -> None:
    token = await world.token()
    mine, other = node_key(1), bytes(node_key(2).verify_key).hex()
    assert await refusal(world, mine, token, node=other) == "join.proof"
    assert await refusal(world, mine, token, proof="00" * 64) == "join.proof"
    elsewhere = mine.sign(calls.nodes.join_message("another token", bytes(mine.verify_key).hex())).signature.hex()
    assert await refusal(world, mine, token, proof=elsewhere) == "join.proof"
    assert await refusal(world, mine, token, proof="xx" * 64) == "rpc.malformed"
    await world.join(mine, token)


async def test_a_banned_node_stays_out(world: World) -> None:
    await world.join(node_key(1), await world.token())
    (row,) = await world.nodes()
    async with world.database.transaction() as tx:
        await world.store.set_ban(tx, row.node, "spam")
    assert await refusal(world, node_key(1), await world.token()) == "join.banned"
    assert not await world.registry.may_connect(row.node)


async def test_an_account_with_a_key_of_its_own_signs_for_itself(world: World) -> None:
    node, owner = bytes(node_key(1).verify_key), b"o" * 20
    async with world.database.transaction() as tx:
        await world.store.add_account(tx, owner, None, 1)
        await world.store.add_node(tx, NodeRow(node, owner, "", 1, ""))
    assert await refusal(world, node_key(1), await world.token()) == "join.account"


HOLDER, STRANGER = PrivateKey(b"h" * 32), PrivateKey(b"x" * 32)


def code_of(world: World, holder: PrivateKey, key: SigningKey, **changes: Any) -> str:
    """What `fallow account bind` makes, for `key`'s node; `changes` are what a cheat signs instead."""
    account = changes.get("account", address_of(holder))
    before_s = world.clock.ms // 1000 + DAY_S
    node = bytes(changes.get("node", key).verify_key)
    text = binding_text(changes.get("net", NET), node, account, changes.get("signed_s", before_s))
    return BindingCode(account, before_s, sign_text(holder, text)).text


async def test_an_account_takes_a_node_by_its_code(world: World) -> None:
    token, mine = await world.token(uses=2), node_key(1)
    code = code_of(world, HOLDER, mine)
    joined = await world.join(mine, token, account=code)
    assert joined.account == address_text(address_of(HOLDER))
    (row,) = await world.nodes()
    assert row.account == address_of(HOLDER)
    # Asked again it answers the same, also when the code has expired meanwhile, and takes nothing of the token.
    world.clock.ms += 2 * DAY_S * 1000
    assert await world.join(mine, token, account=code) == joined
    await world.join(node_key(2), await world.token(), account=code_of(world, HOLDER, node_key(2)))
    assert {row.account for row in await world.nodes()} == {address_of(HOLDER)}


async def test_a_code_is_worth_nothing_but_what_its_account_signed(world: World) -> None:
    token, mine, other = await world.token(), node_key(1), node_key(2)
    good = code_of(world, HOLDER, mine)
    cheats = {
        "another account's": code_of(world, STRANGER, mine, account=address_of(HOLDER)),
        "for another node": code_of(world, HOLDER, mine, node=other),
        "for another network": code_of(world, HOLDER, mine, net="lab-2"),
        "with a longer life": code_of(world, HOLDER, mine, signed_s=world.clock.ms // 1000 + 1),
    }
    for cheat, code in cheats.items():
        assert await refusal(world, mine, token, account=code) == "join.account_signature", cheat
    # Whoever finds it cannot use it for a node of his own, nor put it into a node's request.
    assert await refusal(world, other, token, account=good) == "join.account_signature"
    node = bytes(mine.verify_key).hex()
    without = mine.sign(calls.nodes.join_message(token, node)).signature.hex()
    assert await refusal(world, mine, token, account=good, proof=without) == "join.proof"
    for nonsense in (good[:-1], good + "A", "fa_", address_text(address_of(HOLDER)), good.replace("fa_", "fb_")):
        assert await refusal(world, mine, token, account=nonsense) == "rpc.malformed"
    assert (await world.join(mine, token, account=good)).account == address_text(address_of(HOLDER))


async def test_an_expired_code_takes_no_node_and_no_use_of_the_token(world: World) -> None:
    token, mine = await world.token(valid_s=9 * DAY_S), node_key(1)
    code = code_of(world, HOLDER, mine)
    world.clock.ms += DAY_S * 1000
    assert await refusal(world, mine, token, account=code) == "join.code_expired"
    await world.join(mine, token, account=code_of(world, HOLDER, mine))


async def test_a_node_stays_with_its_account(world: World) -> None:
    mine = node_key(1)
    first = await world.join(mine, await world.token(), account=code_of(world, HOLDER, mine))
    taken = code_of(world, STRANGER, mine)
    assert await refusal(world, mine, await world.token(), account=taken) == "join.other_account"
    world.clock.ms += 1000
    assert (await world.join(mine, "", account=code_of(world, HOLDER, mine))).account == first.account
    custodial = node_key(2)
    await world.join(custodial, await world.token())
    assert await refusal(world, custodial, "", account=code_of(world, HOLDER, custodial)) == "join.other_account"


# Observed networks


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("127.0.3.1", "127.0.3.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("localhost", ""),
        ("", ""),
        ("192.0.2.777", ""),
    ],
)
def test_a_network_is_a_block_of_addresses(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_from_where_a_node_connects_is_kept_and_told_when_it_changes(world: World) -> None:
    await world.join(node_key(1), await world.token())
    node = bytes(node_key(1).verify_key)
    told = []
    async with world.hub.connect().subscribe(calls.nodes.OBSERVED) as observed:
        for address in ("192.0.2.1", "192.0.2.2", "198.51.100.9"):
            assert await world.registry.connects(node, "nonce-of-none", address)
        assert not await world.registry.connects(bytes(node_key(2).verify_key), "nonce-of-none", "192.0.2.1")
        told = [msgspec.msgpack.decode((await anext(observed)).data, type=calls.nodes.Observed) for _ in range(2)]
    assert [(one.node, one.network) for one in told] == [
        (node.hex(), "192.0.2.0/24"),
        (node.hex(), "198.51.100.0/24"),
    ]
    async with world.database.transaction() as tx:
        assert await world.store.networks(tx) == {node: "198.51.100.0/24"}


# API keys


async def test_a_key_speaks_for_its_account_and_scopes(world: World) -> None:
    first = await world.key()
    second = await world.key(first.account, "operate", "buy")
    third = await world.key("", "view")
    assert second.account == first.account != third.account
    found = [await world.check(key.secret) for key in (first, second, third)]
    assert [info.account for info in found] == [first.account, first.account, third.account]
    assert [info.scopes for info in found] == [["buy"], ["buy", "operate"], ["view"]]
    assert len({info.key_id for info in found}) == 3


async def test_an_account_sees_and_ends_its_own_keys_alone(world: World) -> None:
    mine, other = await world.key(), await world.key()
    second = await world.key(mine.account)
    bus = world.hub.connect()
    shown = await call(bus, calls.keys.OWN_KEYS, calls.base.AccountRef(account=mine.account), list[KeyView])
    ids = sorted([(await world.check(key.secret)).key_id for key in (mine, second)])
    assert [view.key_id for view in shown] == ids
    page = calls.base.AccountRef(account=mine.account, after=ids[0], limit=1)
    assert [view.key_id for view in await call(bus, calls.keys.OWN_KEYS, page, list[KeyView])] == ids[1:]
    foreign = calls.keys.RevokeKey(key_id=(await world.check(other.secret)).key_id, account=mine.account)
    with pytest.raises(NotFound):
        await call(bus, calls.keys.REVOKE_KEY, foreign, Empty)
    await world.check(other.secret)
    await call(bus, calls.keys.REVOKE_KEY, calls.keys.RevokeKey(key_id=ids[0], account=mine.account), Empty)
    shown = await call(bus, calls.keys.OWN_KEYS, calls.base.AccountRef(account=mine.account), list[KeyView])
    assert [view.revoked_at for view in shown] == [world.clock.ms, None]


@pytest.mark.parametrize("scopes", [["everything"], ["buy", "everything"], ["Buy"]])
async def test_unknown_scopes_are_refused(world: World, scopes: list[str]) -> None:
    with pytest.raises(FallowError) as caught:
        await world.key("", *scopes)
    assert caught.value.code == "auth.scopes"


async def test_keys_are_made_for_known_accounts_only(world: World) -> None:
    for account, code in (("0x" + "11" * 20, "account.unknown"), ("11" * 20, "identity.malformed")):
        with pytest.raises(FallowError) as caught:
            await world.key(account)
        assert caught.value.code == code
    with pytest.raises(FallowError) as caught:
        await call(world.hub.connect(), calls.keys.CREATE_KEY, calls.keys.CreateKey(scopes=[]), calls.keys.Secret)
    assert caught.value.code == "auth.scopes"


async def test_a_revoked_key_is_worth_nothing(world: World) -> None:
    made, kept = await world.key(), await world.key()
    key_id = (await world.check(made.secret)).key_id
    for _ in range(2):
        await world.revoke(key_id)
        with pytest.raises(NotAllowed):
            await world.check(made.secret)
    await world.check(kept.secret)
    with pytest.raises(FallowError) as caught:
        await world.revoke("aaaaaaaa")
    assert caught.value.code == "auth.no_such_key"


async def test_forged_keys_are_refused_without_saying_why(world: World) -> None:
    made = await world.key()
    prefix, key_id, secret = made.secret.split("_")
    said: set[str] = set()
    for forged in (f"{prefix}_{key_id}_{'a' * len(secret)}", f"{prefix}_{'a' * len(key_id)}_{secret}"):
        with pytest.raises(NotAllowed) as caught:
            await world.check(forged)
        said.add(str(caught.value))
    await world.revoke(key_id)
    with pytest.raises(NotAllowed) as caught:
        await world.check(made.secret)
    assert said == {str(caught.value)}
    for nonsense in ("", "fk", f"fx_{key_id}_{secret}", f"{made.secret}_a", made.secret.upper(), f" {made.secret}"):
        with pytest.raises(NotAllowed):
            await world.check(nonsense)


async def test_secrets_are_not_kept(world: World) -> None:
    made, token = await world.key(), await world.token()
    kept = repr([vars(world.store)])
    for secret in (made.secret, made.secret.rpartition("_")[2], token):
        assert secret not in kept


async def test_any_copy_knows_where_a_client_comes_from_that_a_gateway_carries(world: World) -> None:
    """The gateway tells one copy, and the bus asks another."""
    await world.join(node_key(1), await world.token())
    node, told, asked = bytes(node_key(1).verify_key), world.copy(), world.copy()
    await told.tunnel(calls.streams.Tunnel(nonce="nonce-of-one", address="192.0.2.1"))
    await told.tunnel(calls.streams.Tunnel(nonce="nonce-of-another", address="198.51.100.9"))
    for nonce, network in (("nonce-of-one", "192.0.2.0/24"), ("nonce-of-another", "198.51.100.0/24")):
        assert await asked.connects(node, nonce, "127.0.0.1")
        assert await world.networks() == {node: network}
    await world.clock.advance(TUNNEL_MS / 1000 + 1)
    await told.tunnel(calls.streams.Tunnel(nonce="nonce-of-a-third", address="192.0.2.1"))
    assert await asked.connects(node, "nonce-of-one", "203.0.113.5")
    assert await world.networks() == {node: "203.0.113.0/24"}, "what was long ago is forgotten"
