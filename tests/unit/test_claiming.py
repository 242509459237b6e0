"""Claims pay what is owed, once, whoever sends them, in whatever order, and whoever dies on the way."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from fallow.domain.epochs.distributor import redirection_digest
from fallow.domain.errors import Conflict, InvalidInput
from fallow.domain.rewards.tree import Leaf
from fallow.domain.wallets import address_of
from fallow.services.registry.custody import Custody
from tests.instant_chain import KeptLog, KeySigner, Killed
from tests.settled_world import DELAY_S, SettledWorld, settled_world

KEY, OTHER_KEY = PrivateKey(b"\x21" * 32), PrivateKey(b"\x22" * 32)
ALICE, BOB = address_of(KEY), address_of(OTHER_KEY)
FRIEND = b"\xf7" * 20
FIRST = 20_000


@pytest.fixture
async def world() -> SettledWorld:
    """An epoch is closed, and its root on the chain."""
    world = await settled_world()
    await world.fund(1000)
    world.close(FIRST, {ALICE: 60, BOB: 7})
    await world.publisher().look()
    return world


def activate(world: SettledWorld) -> None:
    world.clock.ms += (DELAY_S + 1) * 1000


async def test_what_is_owed_waits_and_can_be_claimed_and_is_paid(world: SettledWorld) -> None:
    dues = await world.dues(ALICE)
    assert (dues.each[0][1:], dues.claims) == ((0, 0, 60), [])
    activate(world)
    dues = await world.dues(ALICE)
    assert dues.each[0][1:] == (0, 60, 0)
    async with world.chain.sender(KEY, KeptLog()) as sender:
        done = await world.claiming().claim(sender, dues.claims)
    assert (done.succeeded, await world.held(ALICE)) == (True, 60)
    dues = await world.dues(ALICE)
    assert (dues.each[0][1:], dues.claims) == ((60, 0, 0), [])


async def test_a_claim_twice_is_one_transaction_and_by_another_log_pays_nothing(world: SettledWorld) -> None:
    activate(world)
    claims, log = (await world.dues(ALICE)).claims, KeptLog()
    async with world.chain.sender(KEY, log) as sender:
        first = await world.claiming().claim(sender, claims)
    async with world.chain.sender(KEY, log) as sender:
        assert await world.claiming().claim(sender, claims) == first
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:
        assert await world.claiming().claim(sender, claims) != first
    assert await world.held(ALICE) == 60


async def test_an_account_whose_key_the_network_keeps_is_paid_to_whom_its_earnings_go(world: SettledWorld) -> None:
    custody = Custody(b"c" * 32)
    kept = custody.address(3)
    world.close(FIRST + 1, {ALICE: 60, BOB: 7, kept: 50})
    await world.publisher().look()
    activate(world)
    claims, log = (await world.dues(kept)).claims, KeptLog()

    async def sign(hashed: bytes, nonce: int, deadline_s: int) -> tuple[bytes, bytes]:
        digest = redirection_digest(world.distributor.domain, kept, FRIEND, hashed, nonce, deadline_s)
        return FRIEND, custody.sign_digest(3, digest)

    async with world.chain.sender(KEY, log) as sender:
        done = await world.claiming().claim_kept(sender, kept, claims, sign)
    async with world.chain.sender(KEY, log) as sender:
        assert await world.claiming().claim_kept(sender, kept, claims, sign) == done
    assert (done.succeeded, await world.held(FRIEND), await world.held(kept)) == (True, 50, 0)
    assert (await world.dues(kept)).claims == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("entry", [1, 2])
async def test_a_crash_at_each_step_of_claiming(world: SettledWorld, entry: int, after: bool) -> None:
    activate(world)
    claims, log = (await world.dues(ALICE)).claims, KeptLog()
    log.dies_at = (entry, after)
    with pytest.raises((Killed, BaseExceptionGroup)):
        async with world.chain.sender(KEY, log) as sender:
            await world.claiming().claim(sender, claims)
    async with world.chain.sender(KEY, log) as sender:
        done = await world.claiming().claim(sender, claims)
    assert (done.succeeded, world.chain.evm.nonce(ALICE), await world.held(ALICE)) == (True, 1, 60)


async def test_an_older_root_after_a_newer_one_pays_nothing_and_stops_no_batch(world: SettledWorld) -> None:
    activate(world)
    old = [*(await world.dues(ALICE)).claims, *(await world.dues(BOB)).claims]
    world.close(FIRST + 1, {ALICE: 100, BOB: 8})
    await world.publisher().look()
    activate(world)
    newer = (await world.dues(ALICE)).claims
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:
        await world.claiming().claim(sender, newer)
        assert (await world.claiming().claim(sender, [*old, *newer])).succeeded
    assert [await world.held(each) for each in (ALICE, BOB)] == [100, 7]


async def test_before_it_is_active_the_contract_says_when(world: SettledWorld) -> None:
    claims = await world.prove(FIRST, ALICE)
    async with world.chain.sender(KEY, KeptLog()) as sender:
        with pytest.raises(Conflict, match=rf"claims on the root of epoch {FIRST} count from \d+ \(Unix time\) on"):
            await world.claiming().claim(sender, claims)


async def test_to_somebody_else_by_oneself(world: SettledWorld) -> None:
    activate(world)
    claims = (await world.dues(ALICE)).claims
    async with world.chain.sender(KEY, KeptLog()) as sender:
        await world.claiming().claim_to(sender, claims, FRIEND)
    assert [await world.held(each) for each in (ALICE, FRIEND)] == [0, 60]
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:
        with pytest.raises(Conflict, match="which did not sign"):
            await world.claiming().claim_to(sender, claims, BOB)


async def test_a_payee_without_gas_signs_and_others_send(world: SettledWorld) -> None:
    activate(world)
    claiming, claims = world.claiming(), (await world.dues(ALICE)).claims
    until_s = world.chain.now_s + 600
    redirection, signature = await claiming.redirect(KeySigner(KEY), claims, FRIEND, until_s)
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:
        with pytest.raises(Conflict, match="did not sign this"):
            await claiming.relay(sender, redirection._replace(recipient=BOB), signature)
        await claiming.relay(sender, redirection, signature)
    assert [await world.held(each) for each in (ALICE, FRIEND)] == [0, 60]
    assert world.chain.evm.nonce(ALICE) == 0
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:  # who has no record of it cannot send it again
        with pytest.raises(Conflict, match="signed it before"):
            await claiming.relay(sender, redirection, signature)
    late, signed = await claiming.redirect(KeySigner(KEY), claims, FRIEND, world.chain.now_s - 1)
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:
        with pytest.raises(Conflict, match="held up to"):
            await claiming.relay(sender, late, signed)


async def test_a_network_that_says_more_than_its_root_holds_is_not_believed(world: SettledWorld) -> None:
    activate(world)
    leaf = world.closed[FIRST][0]
    world.closed[FIRST][0] = Leaf(leaf.account, leaf.asset, leaf.cumulative + 1)
    with pytest.raises(InvalidInput, match="is not in the root"):
        await world.dues(leaf.account)


async def test_a_proof_of_anothers_leaf_is_refused_by_the_contract(world: SettledWorld) -> None:
    activate(world)
    (claim,) = await world.prove(FIRST, ALICE)
    stolen = claim._replace(leaf=claim.leaf._replace(account=BOB))
    async with world.chain.sender(OTHER_KEY, KeptLog()) as sender:
        with pytest.raises(Conflict, match="the root does not hold"):
            await world.claiming().claim(sender, [stolen])
