"""Keys that sign for buyers, with those that would like to: another's key, another order, again, too late."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.memory.delegations import MemoryDelegationStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain import calls
from fallow.domain.delegations import (
    Delegation,
    Receipt,
    check_signed,
    consent_message,
    delegation_text,
    order_message,
    receipts_message,
)
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, NotFound, TooMuch
from fallow.domain.identity import address, address_text
from fallow.domain.views.keys import DelegationView
from fallow.domain.wallets import address_of, sign_text, signer_of
from fallow.sdk.signing import BuyerKey
from fallow.services.registry.custody import Custody
from fallow.services.registry.delegations import KEYS_MAX, Delegations
from tests.faulty_database import FaultyDatabase
from tests.unit.agent_fakes import FakeClock

NET = "lab-1"
JOB, OTHER_JOB = "1" * 32, "2" * 32
DAY_S = 86_400
OWN = PrivateKey(b"o" * 32)


class World:
    """The production service over in-memory ports, with two custodial accounts and one that keeps its own key."""

    def __init__(self) -> None:
        self.clock, self.database = FakeClock(), FaultyDatabase()
        self.custody = Custody(b"s" * 32)
        self.registry = MemoryRegistryStore()
        self.service = Delegations(
            net=NET,
            custody=self.custody,
            bus=MemoryHub().connect(),
            clock=self.clock,
            database=self.database,
            registry=self.registry,
            store=MemoryDelegationStore(),
        )
        self.alice, self.bob = (address_text(self.custody.address(index)) for index in (0, 1))
        self.own = address_text(address_of(OWN))

    async def prepare(self) -> None:
        """Add the accounts."""
        async with self.database.transaction() as tx:
            for index, account in enumerate((self.alice, self.bob)):
                await self.registry.add_account(tx, address(account), index, 0)
            await self.registry.add_account(tx, address(self.own), None, 0)

    async def delegate(self, account: str, key: BuyerKey, **changes: Any) -> DelegationView:
        """Delegate to a key, with its consent."""
        fields = {"account": account, "key": key.public, "proof": key.consent(), "valid_s": DAY_S, **changes}
        return await self.service.delegate(calls.delegations.Delegate(**fields))

    async def order(self, account: str, key: BuyerKey, signed: bytes, **changes: Any) -> None:
        """Send a signed order to the door."""
        fields = {"account": account, "order": JOB, "key": key.public, "signature": key.order(signed), "body": signed}
        await self.service.sign_order(calls.delegations.SignOrder(**fields | changes))

    async def countersign(self, account: str, key: BuyerKey, signed: list[Receipt], **changes: Any) -> None:
        """Send signed receipts."""
        signature = key.receipts(JOB, signed)
        fields = {"account": account, "job": JOB, "key": key.public, "signature": signature, "receipts": signed}
        await self.service.countersign(calls.delegations.Countersign(**fields | changes))


@pytest.fixture
async def world() -> World:
    world = World()
    await world.prepare()
    return world


def receipt(number: int, **changes: Any) -> Receipt:
    whole = Receipt(item=number, lease=f"{number:032x}", node="a" * 64, result="b" * 64, used_ms=1000)
    return msgspec.structs.replace(whole, **changes)


async def test_an_account_delegates_with_its_own_signature(world: World) -> None:
    key = BuyerKey.create(world.alice, NET)
    view = await world.delegate(world.alice, key)
    text = delegation_text(NET, address(world.alice), bytes.fromhex(key.public), view.expires_at)
    assert signer_of(text, bytes.fromhex(view.account_signature)) == address(world.alice)
    assert view.expires_at == world.clock.now_ms() + DAY_S * 1000
    again = await world.delegate(world.alice, key, valid_s=60)
    assert again == view, "the same key again changes nothing"
    assert await world.service.delegations(calls.base.AccountRef(account=world.alice)) == [view]
    assert await world.service.delegations(calls.base.AccountRef(account=world.bob)) == []


async def test_a_key_must_want_to_sign(world: World) -> None:
    key, thief = BuyerKey.create(world.alice, NET), BuyerKey.create(world.bob, NET)
    for proof in (thief.consent(), BuyerKey.create(world.alice, "lab-2").consent(), "0" * 128, key.order(b"")):
        with pytest.raises(NotAllowed, match=r"delegation\.proof"):
            await world.delegate(world.alice, key, proof=proof)
    await world.delegate(world.alice, key)
    with pytest.raises(NotAllowed, match=r"delegation\.proof"):
        await world.delegate(world.bob, key)


async def test_an_account_that_keeps_its_own_key_is_not_signed_for(world: World) -> None:
    with pytest.raises(Conflict, match=r"delegation\.account"):
        await world.delegate(world.own, BuyerKey.create(world.own, NET))


def by_itself(world: World, key: BuyerKey, signer: PrivateKey = OWN, **changes: Any) -> dict[str, Any]:
    """What an account that keeps its own key sends along."""
    said = {"expires_s": world.clock.now_ms() // 1000 + DAY_S, "net": NET, **changes}
    text = delegation_text(said["net"], address(world.own), bytes.fromhex(key.public), said["expires_s"] * 1000)
    return {"expires_s": said["expires_s"], "account_signature": sign_text(signer, text).hex()}


async def test_it_signs_itself(world: World) -> None:
    key = BuyerKey.create(world.own, NET)
    sent = by_itself(world, key)
    view = await world.delegate(world.own, key, **sent)
    assert (view.account_signature, view.expires_at) == (sent["account_signature"], sent["expires_s"] * 1000)
    await world.order(world.own, key, b"{}")
    await world.service.revoke(calls.delegations.DelegationRef(account=world.own, key=key.public))
    with pytest.raises(NotAllowed, match=r"delegation\.revoked"):
        await world.order(world.own, key, b"[]")
    await world.delegate(world.own, key, **sent)
    with pytest.raises(NotAllowed, match=r"delegation\.revoked"):
        await world.order(world.own, key, b"[]")


async def test_nobody_signs_for_it(world: World) -> None:
    key, other = BuyerKey.create(world.own, NET), BuyerKey.create(world.own, NET)
    for sent in (
        by_itself(world, key, PrivateKey(b"x" * 32)),
        by_itself(world, key, net="lab-2"),
        by_itself(world, other),
        by_itself(world, key) | {"expires_s": world.clock.now_ms() // 1000 + DAY_S + 1},
    ):
        with pytest.raises(NotAllowed, match=r"delegation\.account_signature"):
            await world.delegate(world.own, key, **sent)
    now_s = world.clock.now_ms() // 1000
    for expires_s in (0, now_s, now_s + calls.delegations.DELEGATION_S_MAX + 1):
        with pytest.raises(InvalidInput, match=r"delegation\.time"):
            await world.delegate(world.own, key, **by_itself(world, key, expires_s=expires_s))
    with pytest.raises(NotAllowed, match=r"delegation\.account_signature"):
        await world.delegate(world.alice, BuyerKey.create(world.alice, NET), **by_itself(world, key))


async def test_keys_are_bounded(world: World) -> None:
    for _ in range(KEYS_MAX - 1):
        await world.delegate(world.alice, BuyerKey.create(world.alice, NET))
    last = await world.delegate(world.alice, BuyerKey.create(world.alice, NET))
    with pytest.raises(TooMuch):
        await world.delegate(world.alice, BuyerKey.create(world.alice, NET))
    await world.service.revoke(calls.delegations.DelegationRef(account=world.alice, key=last.key))
    await world.delegate(world.alice, BuyerKey.create(world.alice, NET))


async def test_an_order_is_signed_byte_by_byte(world: World) -> None:
    key = BuyerKey.create(world.alice, NET)
    await world.delegate(world.alice, key)
    body = b'{"id": "1"}'
    for _ in range(2):
        await world.order(world.alice, key, body)
    with pytest.raises(Conflict, match="signed_otherwise"):
        await world.order(world.alice, key, body + b" ")
    with pytest.raises(NotAllowed, match=r"delegation\.signature"):
        await world.order(world.alice, key, body, body=body + b" ")


async def test_who_cannot_sign_for_an_account(world: World) -> None:
    key, foreign, unknown = (BuyerKey.create(account, NET) for account in (world.alice, world.bob, world.alice))
    await world.delegate(world.alice, key)
    await world.delegate(world.bob, foreign)
    elsewhere = BuyerKey.read(key.text.replace(NET, "lab-2"))
    for hostile, code in ((foreign, "unknown"), (unknown, "unknown"), (elsewhere, "signature")):
        with pytest.raises(NotAllowed, match=rf"delegation\.{code}"):
            await world.order(world.alice, hostile, b"order")
        with pytest.raises(NotAllowed, match=rf"delegation\.{code}"):
            await world.countersign(world.alice, hostile, [receipt(1)])
    with pytest.raises(NotAllowed, match=r"delegation\.signature"):
        await world.countersign(world.alice, key, [receipt(1)], signature=key.order(b"order"))
    with pytest.raises(NotFound):
        await world.service.revoke(calls.delegations.DelegationRef(account=world.bob, key=key.public))
    await world.order(world.alice, key, b"order")


async def test_a_key_signs_until_it_is_revoked_or_expires(world: World) -> None:
    revoked, expired = BuyerKey.create(world.alice, NET), BuyerKey.create(world.alice, NET)
    await world.delegate(world.alice, revoked)
    await world.delegate(world.alice, expired)
    ended = await world.service.revoke(calls.delegations.DelegationRef(account=world.alice, key=revoked.public))
    await world.clock.advance(DAY_S - 1)
    assert await world.service.revoke(calls.delegations.DelegationRef(account=world.alice, key=revoked.public)) == ended
    assert (await world.delegate(world.alice, revoked)).revoked_at == ended.revoked_at, "it does not come back"
    with pytest.raises(NotAllowed, match=r"delegation\.revoked"):
        await world.order(world.alice, revoked, b"order")
    await world.order(world.alice, expired, b"order")
    await world.clock.advance(1)
    with pytest.raises(NotAllowed, match=r"delegation\.expired"):
        await world.order(world.alice, expired, b"order")


async def test_receipts_are_signed_together_and_the_first_stays(world: World) -> None:
    key = BuyerKey.create(world.alice, NET)
    await world.delegate(world.alice, key)
    first = [receipt(number) for number in range(5)]
    await world.countersign(world.alice, key, first)
    await world.countersign(world.alice, key, first)
    await world.countersign(world.alice, key, [receipt(4, used_ms=7), receipt(5)])
    for altered in ([*first, receipt(6)], first[:-1], [*first[:-1], receipt(4, used_ms=7)], first[::-1]):
        with pytest.raises(NotAllowed, match=r"delegation\.signature"):
            await world.countersign(world.alice, key, first, receipts=altered)
    with pytest.raises(NotAllowed, match=r"delegation\.signature"):
        await world.countersign(world.alice, key, first, job=OTHER_JOB)
    asked = calls.delegations.MutualRef(leases=[receipt(number).lease for number in range(8)])
    assert await world.service.mutual(asked) == [receipt(number).lease for number in range(6)]


def test_a_signing_key_is_read_back() -> None:
    key = BuyerKey.create("0x" + "ab" * 20, NET)
    again = BuyerKey.read(key.text)
    assert (again.public, again.order(b"x"), again.text) == (key.public, key.order(b"x"), key.text)


ACCOUNTS = st.sampled_from([b"a" * 20, b"b" * 20])
NETS = st.sampled_from(["lab-1", "lab-2"])
BODIES = st.binary(max_size=40)


@given(data=st.data())
def test_a_signature_holds_for_nothing_but_what_was_signed(data: st.DataObject) -> None:
    """Whatever is signed and whatever it is shown for: it holds exactly where all of it is the same."""
    signer, named = (SigningKey(bytes([data.draw(st.integers(1, 2))] * 32)) for _ in range(2))
    made, shown = ((data.draw(NETS), data.draw(ACCOUNTS), data.draw(BODIES)) for _ in range(2))
    if data.draw(st.booleans()):
        shown = made
    revoked_at = data.draw(st.sampled_from([None, 5]))
    now = data.draw(st.integers(0, 20))
    delegation = Delegation(
        account=made[1],
        key=bytes(named.verify_key),
        issued_at=0,
        expires_at=10,
        signature=b"",
        revoked_at=revoked_at,
    )
    signature = signer.sign(order_message(*made)).signature
    holds = made == shown and signer == named and revoked_at is None and now < 10
    try:
        check_signed(delegation, shown[1], order_message(*shown), signature, now)
    except NotAllowed:
        assert not holds
    else:
        assert holds


@given(st.lists(st.integers(0, 3), max_size=4), st.lists(st.integers(0, 3), max_size=4))
def test_messages_of_different_purposes_never_agree(first: list[int], second: list[int]) -> None:
    account, key = b"a" * 20, b"k" * 32
    batches = [[receipt(number) for number in numbers] for numbers in (first, second)]
    messages = [receipts_message(NET, account, job, batch) for job in (JOB, OTHER_JOB) for batch in batches]
    messages += [consent_message(NET, account, key), order_message(NET, account, key)]
    assert len(set(messages)) == len(messages) - (2 if first == second else 0)
