"""Who signs two roots, or a wrong one, loses stake: from the vote over HTTP to the fold, on real contracts."""

from __future__ import annotations

import hashlib

import pytest

from fallow.domain.chain_facts import ChainSlashAnnounced, ChainSlashed, ChainSlashStopped
from fallow.domain.epochs.chain_records import ChainRecords
from fallow.domain.epochs.offences import (
    EQUIVOCATED,
    OVERSTATED,
    SHARES_PPM,
    WRONG_RESULT,
    WRONG_ROOT,
    Offence,
    of_nodes,
)
from fallow.domain.epochs.quorum import Root, Vote
from fallow.domain.facts import NodeShown
from fallow.domain.transactions import call_data
from fallow.domain.wallets import address_of
from fallow.services.sender.deployment import APPEAL_S
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, Node
from tests.epoch_world import NODES, filed
from tests.gateway_stake import OWNER, limit, overstated
from tests.instant_chain import Killed
from tests.settled_world import OPERATOR, settled_world
from tests.staked_world import DELEGATED, DELEGATOR, FIRST, LIAR, OWN, World, equivocate, equivocates


@pytest.fixture
async def world() -> World:
    made = World(await settled_world())
    await made.tokens(LIAR, DELEGATOR)
    await made.stake(LIAR, OWN)
    await made.stake(DELEGATOR, DELEGATED)
    return made


async def test_an_equivocating_validator_loses_stake_from_the_vote_to_the_fold(world: World) -> None:
    evidence = await equivocates(world)
    assert await world.slasher.look() == (1, 0)
    assert [await each.look() for each in (world.slasher, world.started())] == [(0, 0), (0, 0)]
    slash = await world.vault.slash(0)
    assert slash is not None
    assert (slash.operator, slash.share_ppm, slash.evidence) == (address_of(LIAR), SHARES_PPM[EQUIVOCATED], evidence)
    world.pass_s(APPEAL_S - 60)
    assert await world.slasher.look() == (0, 0)
    assert (await world.vault.pool(address_of(LIAR))).staked == OWN + DELEGATED
    world.pass_s(120)
    assert await world.started().look() == (0, 1)
    assert await world.slasher.look() == (0, 0)
    left = (OWN + DELEGATED) * 95 // 100
    pool = await world.vault.pool(address_of(LIAR))
    assert (pool.staked, pool.slashes) == (left, 0)

    facts = await world.recorded()
    (announced,) = (fact for fact in facts if isinstance(fact, ChainSlashAnnounced))
    assert (announced.reason.rstrip(b"\0").decode(), announced.evidence) == (EQUIVOCATED, evidence)
    assert sum(isinstance(fact, ChainSlashed) for fact in facts) == 1
    records = ChainRecords(NET, NETWORK_KEY, {})
    assert [records.takes[fact.kind](filed(NETWORK_KEY, fact)).code for fact in facts] == [""] * len(facts)
    assert records.stakes.tokens[address_of(LIAR)] == left
    assert records.stakes.shares[address_of(LIAR)].keys() == {address_of(LIAR), address_of(DELEGATOR)}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("entry", [1, 2])
async def test_a_crash_at_each_step_announces_once(world: World, entry: int, after: bool) -> None:
    await equivocates(world)
    world.settled.log.dies_at = (entry, after)
    with pytest.raises((Killed, BaseExceptionGroup)):
        await world.slasher.look()
    await world.started().look()
    assert await world.started().look() == (0, 0)
    assert (await world.vault.pool(address_of(LIAR))).slashes == 1
    assert await world.vault.slash(1) is None


async def test_what_the_guardian_stops_is_not_announced_again(world: World) -> None:
    await equivocates(world)
    await world.slasher.look()
    await world.send(OPERATOR, world.settled.made.vault, call_data("stopSlash(uint256)", 0))
    world.pass_s(APPEAL_S + 1)
    assert await world.started().look() == (0, 0)
    assert (await world.vault.pool(address_of(LIAR))).staked == OWN + DELEGATED
    assert any(isinstance(fact, ChainSlashStopped) for fact in await world.recorded())


async def test_a_wrong_root_is_slashed_once_a_quorum_found_another(world: World) -> None:
    wrong, _ = equivocate(world, signed=2)
    assert await world.vote(FIRST + 1, wrong) == 201
    assert await world.slasher.look() == (0, 0), "two of four have signed what is stated: that convicts nobody"
    equivocate(world)
    assert await world.slasher.look() == (1, 0)
    slash = await world.vault.slash(0)
    assert slash is not None
    assert (slash.operator, slash.reason.rstrip(b"\0").decode()) == (address_of(LIAR), WRONG_ROOT)


async def test_who_voted_about_another_archive_loses_nothing(world: World) -> None:
    """The operator may have shown two: then his two statements convict him, and no validator."""
    _, right = equivocate(world)
    other: Root = right.about._replace(archive=bytes(32), root=bytes(32))
    assert await world.vote(FIRST + 1, Vote.cast(LIAR, right.domain, other)) == 201
    assert await world.slasher.look() == (0, 0)


async def test_who_has_no_stake_is_slashed_when_he_has_some() -> None:
    made = World(await settled_world())
    await made.tokens(LIAR, DELEGATOR)
    await equivocates(made)
    assert await made.slasher.look() == (0, 0)
    await made.stake(LIAR, OWN)
    assert await made.slasher.look() == (1, 0)


async def test_who_stands_for_a_gateway_loses_stake_for_an_order_beyond_its_limit_and_once() -> None:
    world = World(await settled_world())
    await world.tokens(OWNER)
    await world.stake(OWNER, OWN, OWNER)
    assert await world.vault.staked(address_of(OWNER)) == OWN
    network, body = Node(0), overstated(limit(5), 6)
    network.key, network.id = NETWORK, NETWORK_KEY
    for epoch in (FIRST + 1, FIRST + 2):
        world.settled.put(world.closed(epoch, [], [network.batch(body)]))
    assert await world.slasher.look() == (1, 0)
    assert [await each.look() for each in (world.slasher, world.started())] == [(0, 0), (0, 0)]
    slash = await world.vault.slash(0)
    assert slash is not None
    assert (slash.operator, slash.share_ppm) == (address_of(OWNER), SHARES_PPM[OVERSTATED])
    assert (slash.reason.rstrip(b"\0").decode(), slash.evidence) == (OVERSTATED, hashlib.sha256(body.order).digest())


def test_owners_of_nodes_that_were_wrong_are_slashed_once_an_epoch_on_the_networks_word_alone() -> None:
    owner, other = b"\xa1" * 20, b"\xa2" * 20
    wrong = [NodeShown(node=NODES[at], what="wrong", code="result.wrong", lease=bytes(16)) for at in (0, 1, 2)]
    right = NodeShown(node=NODES[1], what="confirmed", lease=bytes(16))
    records = [
        filed(NETWORK_KEY, wrong[0], 0),
        filed(NETWORK_KEY, wrong[0], 1),
        filed(NODES[0], wrong[1], 2),
        filed(NETWORK_KEY, right, 3),
        filed(NETWORK_KEY, wrong[2], 4),
    ]
    found = of_nodes(records, NETWORK_KEY, {NODES[0]: owner, NODES[1]: other})
    assert found == [Offence(owner, WRONG_RESULT, hashlib.sha256(records[0].raw).digest())]
