"""Roots come to the chain once each, whoever signs, sends or dies; and where not, it is said why."""

from __future__ import annotations

from contextlib import suppress

import pytest

from fallow.domain.epochs.distributor import submit_call
from fallow.domain.epochs.quorum import Decision, Vote, tally
from fallow.domain.errors import Unavailable
from fallow.domain.transactions import call_data, topic
from fallow.domain.wallets import address_of
from fallow.ports.votes import published
from fallow.services.sender import publishing
from tests.closed_epochs import VALIDATORS, ClosedEpoch
from tests.instant_chain import Killed
from tests.settled_world import DELAY_S, OPERATOR, SettledWorld, settled_world

ALICE, BOB = b"\xa1" * 20, b"\xb0" * 20
FIRST = 20_000
SUBMITTED = topic("RootSubmitted(uint64,bytes32,bytes32,uint96,uint96,uint40)")


@pytest.fixture
async def world() -> SettledWorld:
    return await settled_world()


async def sent(world: SettledWorld) -> list[int]:
    """Epochs of all roots that the contract ever took."""
    events = await world.chain.events([world.made.distributor], [SUBMITTED], 0, await world.chain.head())
    return [int.from_bytes(event.topics[1]) for event in events]


async def test_a_quorum_brings_a_root_to_the_chain_once(world: SettledWorld) -> None:
    await world.fund(100)
    closed = world.close(FIRST, {ALICE: 60}, VALIDATORS[:2])
    publisher = world.publisher()
    assert await publisher.look() == 0
    waits = published(world.archive, FIRST)
    assert waits is not None
    assert (waits.code, waits.why) == ("root.votes", "2 of 4 validators have signed it; 3 must.")
    closed.vote(VALIDATORS[:3])
    world.put(closed)
    assert await publisher.look() == 1
    assert [await each.look() for each in (publisher, world.publisher())] == [0, 0]
    root = await world.distributor.root(FIRST)
    assert root is not None
    assert (root.root, root.settlement_total) == (closed.root.root, 60)
    view = published(world.archive, FIRST)
    assert view is not None
    assert (view.root, view.active_at) == (f"0x{closed.root.root.hex()}", root.activates_at * 1000)
    assert root.activates_at - world.chain.evm.head.timestamp_s == DELAY_S
    (event,) = await world.chain.events([world.made.distributor], [SUBMITTED], 0, await world.chain.head())
    assert view.transaction == f"0x{event.transaction.hex()}"


async def test_a_wrong_root_or_total_finds_no_quorum(world: SettledWorld) -> None:
    """Two sign what is stated, one another root, one another total: each is alone, and nothing is sent."""
    await world.fund(100)
    closed = world.close(FIRST, {ALICE: 60}, VALIDATORS[:2])
    closed.vote(VALIDATORS[2:3], root=closed.root._replace(root=bytes(32)))
    closed.vote(VALIDATORS[3:], root=closed.root._replace(settlement_total=61))
    world.put(closed)
    assert await world.publisher().look() == 0
    assert "2 of 4" in world.said(FIRST)


async def test_a_quorum_for_what_is_not_stated_is_not_sent(world: SettledWorld) -> None:
    await world.fund(100)
    closed = world.close(FIRST, {ALICE: 60}, [])
    closed.vote(VALIDATORS, root=closed.root._replace(settlement_total=61))
    world.put(closed)
    assert await world.publisher().look() == 0
    assert "0 of 4" in world.said(FIRST)


async def test_an_epoch_without_a_quorum_holds_up_no_later_one(world: SettledWorld) -> None:
    await world.fund(100)
    world.close(FIRST, {ALICE: 10})
    world.close(FIRST + 1, {ALICE: 20}, [])
    world.close(FIRST + 2, {ALICE: 30, BOB: 5})
    assert await world.publisher().look() == 2
    assert await sent(world) == [FIRST, FIRST + 2]


async def test_the_operator_signs_where_the_contract_lists_him() -> None:
    world = await settled_world([address_of(OPERATOR)])
    await world.fund(100)
    world.close(FIRST, {ALICE: 60}, [])
    assert await world.publisher().look() == 1
    assert await sent(world) == [FIRST]


async def test_what_is_not_funded_says_so_and_is_tried_again(world: SettledWorld) -> None:
    await world.fund(10_000)
    world.close(FIRST, {ALICE: 60_000})
    publisher = world.publisher()
    assert await publisher.look() == 0
    assert "it owes 60000 units of the settlement asset in all, and only 10000 were deposited" in world.said(FIRST)
    await world.fund(50_000)
    assert await publisher.look() == 1


async def test_somebody_else_may_send_it_first(world: SettledWorld) -> None:
    await world.fund(100)
    closed = world.close(FIRST, {ALICE: 60})
    async with world.operator() as sender:
        await sender.send("a helpful stranger", world.made.distributor, submit_call(decision_of(world, closed)))
    assert await world.publisher().look() == 0
    view = published(world.archive, FIRST)
    assert view is not None
    assert (view.root, view.transaction) == (f"0x{closed.root.root.hex()}", "")


async def test_after_a_withdrawal_the_next_epoch_has_what_was_owed(world: SettledWorld) -> None:
    await world.fund(100)
    world.close(FIRST, {ALICE: 60})
    publisher = world.publisher()
    await publisher.look()
    async with world.operator() as guardian:
        await guardian.send("withdraw", world.made.distributor, call_data("withdraw(uint64)", FIRST))
    world.close(FIRST + 1, {ALICE: 61})
    assert await publisher.look() == 0
    assert "its signatures are void" in world.said(FIRST)
    world.close(FIRST + 2, {ALICE: 62}, revision=await world.distributor.revision())
    assert await publisher.look() == 1
    assert await sent(world) == [FIRST, FIRST + 2]


async def test_what_can_never_be_sent_does_not_hide_what_can(
    world: SettledWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs from before the network had a chain, more than one look takes; and a network that has none yet."""
    monkeypatch.setattr(publishing, "EPOCHS_MAX", 3)
    publisher = world.publisher()
    assert await publisher.look() == 0
    for epoch in range(FIRST, FIRST + 5):
        world.put(ClosedEpoch(epoch=epoch, leaves=[]))
    assert await publisher.look() == 0
    assert "closed for no contract" in world.said(FIRST + 4)
    await world.fund(100)
    world.close(FIRST + 5, {ALICE: 60})
    assert [await each.look() for each in (publisher, world.publisher())] == [1, 0]
    assert await sent(world) == [FIRST + 5]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("entry", [1, 2])
async def test_a_crash_at_each_step_of_sending(world: SettledWorld, entry: int, after: bool) -> None:
    """Entry 1 is what is signed, entry 2 that it was mined: before and after each is on the disk."""
    await world.fund(100)
    closed = world.close(FIRST, {ALICE: 60})
    world.log.dies_at = (entry, after)
    with pytest.raises((Killed, BaseExceptionGroup)):
        await world.publisher().look()
    closed.vote()  # a fourth signature: what was signed first goes out all the same
    world.put(closed)
    await world.publisher().look()
    assert await sent(world) == [FIRST]
    view = published(world.archive, FIRST)
    assert view is not None
    assert view.transaction


async def test_a_node_that_takes_it_and_does_not_say_so(world: SettledWorld) -> None:
    await world.fund(100)
    world.close(FIRST, {ALICE: 60})
    world.chain.loses_answers = True
    await world.publisher().look()
    assert await sent(world) == [FIRST]


async def test_while_the_chain_is_away_nothing_is_lost(world: SettledWorld) -> None:
    await world.fund(100)
    world.close(FIRST, {ALICE: 60})
    world.chain.silent = True
    with suppress(Unavailable):
        await world.publisher().look()
    world.chain.silent = False
    assert await world.publisher().look() == 1


def decision_of(world: SettledWorld, closed: ClosedEpoch) -> Decision:
    """What the votes come to."""
    votes = [Vote.decode(data) for name, data in closed.files.items() if name.startswith("votes/")]
    found = tally(votes, world.validators, world.distributor.domain, closed.epoch, 0).decision
    assert found is not None
    return found
