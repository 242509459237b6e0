"""The contracts of a network: made when its chain starts for the first time; their addresses lie in the data folder."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from importlib.resources import files
from pathlib import Path

import msgspec

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock, write_private
from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.rpc import connect_chain
from fallow.adapters.signer import FileSigner
from fallow.bootstrap.listening import loopback_of, url_of
from fallow.bootstrap.place import Place, read_place
from fallow.bootstrap.settings import Settings, load_settings
from fallow.bootstrap.tls import own_context
from fallow.domain.chains import chain_id_of
from fallow.domain.epochs.quorum import read_validators
from fallow.domain.errors import Conflict, NotFound
from fallow.domain.identity import address, address_text
from fallow.domain.sending import Done, Rules
from fallow.domain.transactions import call_data
from fallow.domain.views import ContractsView
from fallow.ports.chain import Chain
from fallow.ports.clock import Clock
from fallow.services.sender.deployment import Plan, deploy
from fallow.services.sender.service import Sender

FILE = "chain/contracts.json"
SENDS = "chain/operator-sends.log"
EMBEDDED = Rules(depth=1)
"""The embedded chain takes no block back."""
POLL_S = 0.25
TURN_S = 15
"""How long it takes at most that somebody else sends something on the embedded chain, with much to spare."""
GIVE = "give(address,uint256)"


def read_contracts(data: Path) -> ContractsView | None:
    """Where the contracts are; None where there are none (yet)."""
    file = data / FILE
    return msgspec.json.decode(file.read_bytes(), type=ContractsView) if file.exists() else None


def operator_signer(data: Path) -> FileSigner:
    """The operator's key on the chain, drawn at the first use."""
    path = data / "secrets" / "chain.key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, secrets.token_hex(32) + "\n")
    return FileSigner(path)


async def make_contracts(data: Path, settings: Settings, chain: Chain, clock: Clock) -> ContractsView:
    """Make the contracts unless they are there; returns where they are.

    Raises:
        InvalidInput: a validator's address is none, or there are too many.
        Conflict: the chain refuses one.
    """
    if (there := read_contracts(data)) is not None:
        return there
    signer = await asyncio.to_thread(operator_signer, data)
    named = read_validators(settings.validators)
    plan = Plan(signer.address, named or [signer.address], settings.activation_s)
    async with operator_sender(data, chain, clock) as sender:
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
    )
    write_private(data / FILE, msgspec.json.encode(view).decode() + "\n")
    return view


async def give_test_dollars(data: Path, id_: str, to: bytes, units: int) -> Done:
    """Give an account units of the settlement asset that the operator makes; the same id counts once.

    Raises:
        NotFound: the network has no chain.
        Conflict: another process sends with the operator's key just now.
        Unavailable: the chain does not answer.
    """
    place, contracts = read_place(data), read_contracts(data)
    if contracts is None:
        raise NotFound("chain.none", f"{place.net} has no chain.", "Those of the preset public have one.")
    url = local_chain(place, load_settings(data, {}, {}, beside=True))
    settlement, call = address(contracts.settlement), call_data(GIVE, to, units)
    async with connect_chain(url, own_context(place.tls)) as chain, operator_sender(data, chain, SystemClock()) as own:
        return await own.send(f"give/{id_}", settlement, call)


@asynccontextmanager
async def operator_sender(data: Path, chain: Chain, clock: Clock) -> AsyncIterator[Sender]:
    """Send with the operator's key while the context is open; waits a little for who does just now.

    Raises:
        Conflict: another process does for long.
    """
    async with AsyncExitStack() as stack:
        await _take_turn(stack, data, clock)
        log = stack.enter_context(closing(BlockLog(data / SENDS)))
        signer = operator_signer(data)
        number = chain_id_of(read_place(data).net)
        sender = Sender(
            chain=chain, chain_id=number, signer=signer, log=log, clock=clock, rules=EMBEDDED, poll_s=POLL_S
        )
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


def local_chain(place: Place, settings: Settings) -> str:
    """Return where the network's own processes reach its chain."""
    return url_of("https" if place.tls else "http", loopback_of(settings.host), settings.chain_port)


def _code(name: str) -> bytes:
    return bytes.fromhex(json.loads((files("fallow.data") / "contracts" / f"{name}.json").read_text())["bytecode"])
