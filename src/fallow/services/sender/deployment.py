"""Makes a network's contracts: each once, also when it is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from fallow.domain.errors import Conflict
from fallow.domain.sending import Done
from fallow.domain.transactions import arguments_of, call_data
from fallow.services.sender.service import Sender

TIMELOCK_S = 2 * 86_400
UNBONDING_S, APPEAL_S = 14 * 86_400, 7 * 86_400
MINTED_MAX = 10**27
EPOCH_MINT_MAX = 7_200 * 10**18
NOBODY = bytes(20)
SLASHED = bytes(18) + b"\xde\xad"
"""What is slashed goes where nobody has a key."""


class Plan(msgspec.Struct, frozen=True):
    """What the contracts are made with: who guards roots, who signs them, and seconds until they are active.

    Without the address of a settlement asset, one that is play money is made, too. `epoch_mint_max` is how many units
    of the token a root may add.
    """

    operator: bytes
    validators: Sequence[bytes]
    activation_s: int
    settlement: bytes = b""
    epoch_mint_max: int = EPOCH_MINT_MAX


class Addresses(msgspec.Struct, frozen=True):
    """Where the contracts are, and the block after which all of them were there."""

    block: int
    timelock: bytes
    settlement: bytes
    token: bytes
    validators: bytes
    distributor: bytes
    vault: bytes


async def deploy(sender: Sender, code_of: Callable[[str], bytes], plan: Plan) -> Addresses:
    """Make all contracts. Everything that can change belongs to the timelock in the end, which the operator speaks to.

    Raises:
        Conflict: the chain refused one.
    """

    async def made(name: str, types: str, *arguments: object) -> bytes:
        return (await sent(name, b"", code_of(name) + arguments_of(types, *arguments))).contract

    async def sent(name: str, to: bytes, data: bytes) -> Done:
        done = await sender.send(f"deploy/{name}", to, data)
        if not done.succeeded:
            raise Conflict("chain.deploy", f"The chain refused a step of it: {name}.", "Its log says why.")
        return done

    operator = [plan.operator]
    timelock = await made(
        "TimelockController", "(uint256,address[],address[],address)", TIMELOCK_S, operator, operator, NOBODY
    )
    settlement = plan.settlement or await made("TestDollars", "(address)", plan.operator)
    token, validators = await asyncio.gather(
        made("FallowToken", "(string,string,uint96,address)", "Fallow", "FLW", MINTED_MAX, plan.operator),
        made("Validators", "(address[],address)", plan.validators, timelock),
    )
    distributor, vault = await asyncio.gather(
        made(
            "Distributor", "(address,address,address,address,uint40,uint96,address)",
            settlement, token, validators, plan.operator, plan.activation_s, plan.epoch_mint_max, timelock,
        ),
        made(
            "StakeVault", "(address,address,address,address,uint64,uint64,address)",
            token, SLASHED, plan.operator, plan.operator, UNBONDING_S, APPEAL_S, timelock,
        ),
    )  # fmt: skip
    await sent("minter", token, call_data("setMinter(address)", distributor))
    last = await sent("owner", token, call_data("transferOwnership(address)", timelock))
    return Addresses(last.block, timelock, settlement, token, validators, distributor, vault)
