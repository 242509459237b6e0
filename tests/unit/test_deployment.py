"""Contracts are there when each step of making them has succeeded, and not before."""

from __future__ import annotations

import pytest

from fallow.bootstrap.contracts import EPOCHS_OF_A_ROOT, root_mint_max
from fallow.domain.epochs.quorum import Domain
from fallow.domain.errors import Conflict
from fallow.domain.rewards.tree import Leaf
from fallow.domain.transactions import selector
from fallow.domain.wallets import address_of
from fallow.services.sender.deployment import Plan, deploy
from tests.closed_epochs import ADDRESSES, VALIDATORS, ClosedEpoch
from tests.evm_accounts import code_of
from tests.instant_chain import CHAIN_ID, InstantChain, KeptLog, SwiftClock
from tests.settled_world import OPERATOR, SettledWorld

TOO_LITTLE = 22_000


class ChangedChain(InstantChain):
    """One call needs more gas when it is mined than its estimate said."""

    def __init__(self, call: str) -> None:
        super().__init__(SwiftClock())
        self._call = selector(call)

    async def estimate(self, sender: bytes, to: bytes, data: bytes) -> int:
        """See the port."""
        return TOO_LITTLE if data.startswith(self._call) else await super().estimate(sender, to, data)


@pytest.mark.parametrize("call", ["setMinter(address)", "transferOwnership(address)"])
async def test_a_token_that_nobody_can_mint_or_that_the_operator_keeps_is_not_taken(call: str) -> None:
    with pytest.raises(Conflict, match=r"chain\.deploy"):
        await ChangedChain(call).with_contracts(OPERATOR, [bytes([1]) * 20], 60)


async def test_a_root_may_bring_the_tokens_of_epochs_that_had_none() -> None:
    """Each epoch owes what it may at most, and a week goes by in which validators sign nothing."""
    an_epoch, chain = 7_200 * 10**18, InstantChain(SwiftClock())
    plan = Plan(address_of(OPERATOR), ADDRESSES, 60, epoch_mint_max=root_mint_max(an_epoch))
    async with chain.sender(OPERATOR, KeptLog()) as sender:
        made = await deploy(sender, code_of, plan)
    world = SettledWorld(chain, made, ADDRESSES)
    for epoch, taken in ((EPOCHS_OF_A_ROOT, 1), (2 * EPOCHS_OF_A_ROOT + 1, 0)):
        closed = ClosedEpoch(
            epoch=epoch,
            leaves=[Leaf(bytes([1]) * 20, made.token, epoch * an_epoch)],
            domain=Domain(CHAIN_ID, made.distributor),
            validators=ADDRESSES,
            settlement=made.settlement,
            token=made.token,
            token_total=(epoch * an_epoch).to_bytes(32),
        )
        closed.vote(VALIDATORS[:3])
        world.put(closed)
        assert await world.publisher().look() == taken
    assert await world.distributor.last_epoch() == EPOCHS_OF_A_ROOT
