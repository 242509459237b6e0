"""The embedded chain's process: one writer, its log, and its JSON-RPC on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import httpx2

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock
from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.machine import BLOCK_GAS_MAX, PyEvm
from fallow.adapters.evm.rpc import EvmRpc
from fallow.bootstrap.chains import chain_of, own_chain
from fallow.bootstrap.contracts import make_contracts, the_contracts
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.listening import refuse_outside
from fallow.bootstrap.place import Place, read_place
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.settling import publisher, slasher
from fallow.bootstrap.tls import server_context
from fallow.domain.errors import Conflict
from fallow.domain.views.network import ContractsView
from fallow.http.json_rpc import create_rpc_app
from fallow.ports.chain import Chain
from fallow.ports.clock import Clock
from fallow.ports.steady import Steady
from fallow.services.devchain.rpc import Rpc
from fallow.services.devchain.service import DevChain

FOLDER = "chain"


@asynccontextmanager
async def run_chain(data: Path, settings: Settings) -> AsyncIterator[str]:
    """Run the embedded chain while the context is open, if that is the network's; yields where others reach it.

    The network's contracts are on it then. Roots of closed epochs are brought to it from here, and slashes: what the
    operator's key signs is signed by this process.

    Raises:
        Conflict: it runs already, or its log leads to something else than it did.
        InvalidInput: its log is damaged, or it would be reachable from outside without TLS.
        Unavailable: its port cannot be had.
    """
    place, clock = read_place(data), Steady(SystemClock())
    where = chain_of(place)
    if where.embedded:
        async with _embedded(data, settings, place, clock) as chain:
            contracts = await make_contracts(data, settings, where, chain, clock)
            async with _bringing(data, settings, contracts, chain, clock):
                yield where.url
        return
    async with own_chain(place) as chain:
        if (number := await chain.chain_id()) != where.id:
            raise Conflict("chain.other", f"The chain at chain_rpc is {number}, and chain_id says {where.id}.")
        contracts = await asyncio.to_thread(the_contracts, data)
        async with _bringing(data, settings, contracts, chain, clock):
            yield where.url


@asynccontextmanager
async def _bringing(
    data: Path, settings: Settings, contracts: ContractsView, chain: Chain, clock: Clock
) -> AsyncIterator[None]:
    """Bring roots and slashes to the chain while the context is open."""
    async with (
        (await publisher(data, settings, contracts, chain, clock)).running(),
        (await slasher(data, settings, contracts, chain, clock)).running(),
    ):
        yield


@asynccontextmanager
async def _embedded(data: Path, settings: Settings, place: Place, clock: Clock) -> AsyncIterator[EvmRpc]:
    """Run the chain; yields the way to ask it from inside, by which alone contracts are made."""
    if place.tls is None:
        refuse_outside(settings.host)
    folder = data / FOLDER
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, data_lock(data, FOLDER))
        folder.mkdir(mode=0o700, exist_ok=True)
        log = stack.enter_context(closing(BlockLog(folder / "blocks.log")))
        chain_id = chain_of(place).id
        chain = DevChain(chain_id=chain_id, machine=PyEvm(chain_id), log=log, clock=clock, block_gas_max=BLOCK_GAS_MAX)
        await asyncio.to_thread(chain.replay)
        await stack.enter_async_context(chain.running())
        app, own = (
            create_rpc_app(Rpc(chain, version("fallow"), makes_contracts=makes).answer, clock)
            for makes in (False, True)
        )
        tls = server_context(place.tls) if place.tls else None
        await stack.enter_async_context(serving(app, settings.host, settings.chain_port, tls))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(cast("Any", own))) as client:
            yield EvmRpc(client, "http://chain/")
