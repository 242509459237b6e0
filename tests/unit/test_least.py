"""The least that a chain's contracts take for what becomes a record for ever."""

from __future__ import annotations

from fallow.domain.chain_facts import DEPOSIT_MIN, TOKENS_MIN
from fallow.domain.transactions import answer_of
from tests.evm_accounts import call_data
from tests.settled_world import settled_world
from tests.vault_world import VaultWorld


def test_what_makes_a_record_for_ever_costs_something() -> None:
    """Where a chain takes no gas, a dollar in units of a millionth would be a million records."""
    world = VaultWorld()
    me = world.holders[0].address
    for contract, call in ((world.token, "burnForCredits(uint256,address)"), (world.vault, "stake(address,uint256)")):
        for amount, taken in ((TOKENS_MIN - 1, False), (TOKENS_MIN, True)):
            arguments = (amount, me) if contract == world.token else (me, amount)
            assert world.send(0, contract, call, *arguments) is taken
    assert len(world.facts) == 2


async def test_the_least_deposit_is_the_contracts() -> None:
    world = await settled_world()
    asked = await world.chain.call(world.made.distributor, call_data("DEPOSIT_MIN()"))
    assert answer_of("(uint256)", asked) == (DEPOSIT_MIN,)
    await world.fund(1)
    deposited = await world.chain.call(world.made.distributor, call_data("deposited()"))
    assert answer_of("(uint256)", deposited) == (DEPOSIT_MIN,)
