"""The contracts of a network: made when its chain starts for the first time; their addresses lie in the data folder."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from importlib.resources import files
from pathlib import Path

import msgspec
from eth_abi.exceptions import DecodingError

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock, make_data_folder, write_private
from fallow.adapters.engines.users import choose_user
from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.rpc import connect_chain
from fallow.adapters.signer import FileSigner
from fallow.bootstrap.chains import chain_of, chain_place, no_contracts, own_chain
from fallow.bootstrap.place import ChainPlace, Place, network_id, read_place
from fallow.bootstrap.rewards import read_rewards
from fallow.bootstrap.settings import Settings, load_settings
from fallow.domain.chain_events import CONTRACTS
from fallow.domain.epochs.quorum import read_validators
from fallow.domain.errors import Conflict, InvalidInput
from fallow.domain.identity import address, address_text
from fallow.domain.sending import Done, Rules
from fallow.domain.transactions import answer_of, call_data
from fallow.domain.views.network import ContractsView
from fallow.ports.chain import Chain, ContractRefused
from fallow.ports.clock import Clock
from fallow.services.sender.deployment import Plan, deploy
from fallow.services.sender.service import Sender

FILE = "chain/contracts.json"
SENDS = "chain/operator-sends.log"
POLL_S = 0.25
UINT96_MAX = 2**96 - 1
EPOCHS_OF_A_ROOT = 8
"""So many epochs' tokens one root may bring: one after epochs without a root brings theirs, too. Refused for that, it
would hold up all that anybody is owed, as would every later one, until the timelock lets the limit rise."""
TURN_S = 15
"""How long it takes at most that somebody else sends something on the embedded chain, with much to spare."""
GIVE = "give(address,uint256)"
TEST = "test"
DECIMALS = 6


def read_contracts(data: Path) -> ContractsView | None:
    """Where the contracts are; None where there are none (yet)."""
    file = data / FILE
    return msgspec.json.decode(file.read_bytes(), type=ContractsView) if file.exists() else None


def the_contracts(data: Path) -> ContractsView:
    """Where the contracts are.

    Raises:
        NotFound: they are not made yet (`chain.no_contracts`).
    """
    contracts = read_contracts(data)
    if contracts is None:
        raise no_contracts()
    return contracts


def addresses_of(contracts: ContractsView) -> dict[str, bytes]:
    """Where the contracts are whose events are recorded, by their names."""
    return {name: address(getattr(contracts, name)) for name in CONTRACTS}


def check_contracts(data: Path, place: Place) -> None:
    """Make sure that a network on a chain of others has its contracts there; on its own the chain makes them.

    Raises:
        NotFound: they are not made yet (`chain.no_contracts`).
        Conflict: they are on another chain (`chain.moved`).
    """
    contracts = read_contracts(data)
    if place.chain is None or (place.chain.embedded and contracts is None):
        return
    if contracts is None:
        raise no_contracts()
    if contracts.chain_id not in {0, place.chain.id}:
        raise Conflict(
            "chain.moved", f"The network's contracts are on chain {contracts.chain_id}, not {place.chain.id}."
        )


def operator_signer(data: Path) -> FileSigner:
    """The operator's key on the chain, drawn at the first use."""
    path = data / "secrets" / "chain.key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, secrets.token_hex(32) + "\n")
    return FileSigner(path)


async def make_contracts(
    data: Path, settings: Settings, where: ChainPlace, chain: Chain, clock: Clock, settlement: bytes = b""
) -> ContractsView:
    """Make the contracts unless they are there; returns where they are. Without a settlement asset that too is made.

    Raises:
        InvalidInput: a validator's address is none, or there are too many.
        Conflict: the chain refuses one.
    """
    if (there := read_contracts(data)) is not None:
        return there
    signer = await asyncio.to_thread(operator_signer, data)
    named = read_validators(settings.validators)
    rules = await asyncio.to_thread(read_rewards, settings)
    plan = Plan(signer.address, named or [signer.address], settings.activation_s, settlement)
    if rules.pays:
        plan = msgspec.structs.replace(plan, epoch_mint_max=root_mint_max(rules.mint_max))
    async with operator_sender(data, where, chain, clock) as sender:
        made = await deploy(sender, _code, plan)
    view = ContractsView(
        block=made.block,
        settlement=address_text(made.settlement),
        token=address_text(made.token),
        distributor=address_text(made.distributor),
        validators=address_text(made.validators),
        vault=address_text(made.vault),
        timelock=address_text(made.timelock),
        operator=address_text(signer.address),
        chain_id=where.id,
    )
    write_private(data / FILE, msgspec.json.encode(view).decode() + "\n")
    return view


def root_mint_max(epoch_mint_max: int) -> int:
    """Units of the token that a root may add, where an epoch comes to owe so many at most."""
    return min(EPOCHS_OF_A_ROOT * epoch_mint_max, UINT96_MAX)


async def deploy_contracts(data: Path, environment: Mapping[str, str], tell: Callable[[str], None]) -> ContractsView:
    """Make a network's contracts on a chain of others; what an earlier call has begun goes on.

    `tell` is told whose account pays for it, before anything is sent.

    Raises:
        InvalidInput: the settings name no such chain, or no asset to settle in.
        Conflict: the chain is another one, or it refuses.
        Unavailable: the chain does not answer.
    """
    settings = load_settings(data, environment, {})
    make_data_folder(data, choose_user(settings.engine_user or None, data / "nats"))
    where = chain_place(network_id(data, settings.preset), settings, "http://embedded")
    if where is None or where.embedded:
        raise InvalidInput(
            "chain.settings",
            "The settings name no chain of others.",
            'Set preset = "public", chain_rpc and chain_id in fallow.toml.',
        )
    async with connect_chain(where.own_url) as chain:
        if (number := await chain.chain_id()) != where.id:
            raise Conflict("chain.other", f"The chain at chain_rpc is {number}, and chain_id says {where.id}.")
        settlement = await _asset(chain, settings.chain_settlement)
        (data / "chain").mkdir(mode=0o700, exist_ok=True)
        tell(address_text((await asyncio.to_thread(operator_signer, data)).address))
        return await make_contracts(data, settings, where, chain, SystemClock(), settlement)


async def _asset(chain: Chain, named: str) -> bytes:
    """Check the asset that is to back paid credits; none is one to be made."""
    if named == TEST:
        return b""
    asset = address(named)
    try:
        (decimals,) = answer_of("(uint8)", await chain.call(asset, call_data("decimals()")))
    except (ContractRefused, DecodingError) as error:
        raise InvalidInput("chain.settlement", f"{named} is no ERC-20 on that chain.") from error
    if decimals != DECIMALS:
        raise InvalidInput(
            "chain.settlement",
            f"{named} has {decimals} decimals, and a credit is a millionth of a US dollar.",
            "Choose one that is worth a US dollar, with 6 decimals.",
        )
    return asset


async def give_test_dollars(data: Path, id_: str, to: bytes, units: int) -> Done:
    """Give an account units of the settlement asset that the operator makes; the same id counts once.

    Raises:
        NotFound: the network has no chain.
        Conflict: another process sends with the operator's key just now.
        Unavailable: the chain does not answer.
    """
    place, contracts = read_place(data), the_contracts(data)
    settlement, call = address(contracts.settlement), call_data(GIVE, to, units)
    async with own_chain(place) as chain, operator_sender(data, chain_of(place), chain, SystemClock()) as own:
        return await own.send(f"give/{id_}", settlement, call)


@asynccontextmanager
async def operator_sender(data: Path, where: ChainPlace, chain: Chain, clock: Clock) -> AsyncIterator[Sender]:
    """Send with the operator's key while the context is open; waits a little for who does just now.

    Raises:
        Conflict: another process does for long.
    """
    async with AsyncExitStack() as stack:
        await _take_turn(stack, data, clock)
        log = stack.enter_context(closing(BlockLog(data / SENDS)))
        signer = operator_signer(data)
        rules = Rules(depth=where.depth)
        sender = Sender(chain=chain, chain_id=where.id, signer=signer, log=log, clock=clock, rules=rules, poll_s=POLL_S)
        await stack.enter_async_context(sender.running())
        yield sender


async def _take_turn(stack: AsyncExitStack, data: Path, clock: Clock) -> None:
    give_up = clock.now_ms() + TURN_S * 1000
    while True:
        try:
            stack.enter_context(data_lock(data, "chain-operator"))
        except Conflict:
            if clock.now_ms() >= give_up:
                raise
            await clock.sleep(POLL_S)
        else:
            return


def _code(name: str) -> bytes:
    return bytes.fromhex(json.loads((files("fallow.data") / "contracts" / f"{name}.json").read_text())["bytecode"])
