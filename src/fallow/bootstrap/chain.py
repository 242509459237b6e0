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
from fallow.bootstrap.contracts import make_contracts
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.listening import refuse_outside, url_of
from fallow.bootstrap.place import read_place
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.settling import publisher, slasher
from fallow.bootstrap.tls import server_context
from fallow.domain.chains import chain_id_of
from fallow.http.json_rpc import create_rpc_app
from fallow.ports.steady import Steady
from fallow.services.devchain.rpc import Rpc
from fallow.services.devchain.service import DevChain

FOLDER = "chain"


@asynccontextmanager
async def run_chain(data: Path, settings: Settings) -> AsyncIterator[str]:
    """Run the embedded chain while the context is open; yields its URL, once the network's contracts are on it.

    The roots of closed epochs are brought to it from here, and slashes: what the operator's key signs is signed by this
    process.

    Raises:
        Conflict: it runs already, or its log leads to something else than it did.
        InvalidInput: its log is damaged, or it would be reachable from outside without TLS.
        Unavailable: its port cannot be had.
    """
    place, clock = read_place(data), Steady(SystemClock())
    if place.tls is None:
        refuse_outside(settings.host)
    folder = data / FOLDER
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, data_lock(data, FOLDER))
        folder.mkdir(mode=0o700, exist_ok=True)
        log = stack.enter_context(closing(BlockLog(folder / "blocks.log")))
        chain_id = chain_id_of(place.net)
        chain = DevChain(chain_id=chain_id, machine=PyEvm(chain_id), log=log, clock=clock, block_gas_max=BLOCK_GAS_MAX)
        await asyncio.to_thread(chain.replay)
        await stack.enter_async_context(chain.running())
        app, own = (
            create_rpc_app(Rpc(chain, version("fallow"), makes_contracts=makes).answer, clock)
            for makes in (False, True)
        )
        tls = server_context(place.tls) if place.tls else None
        port = await stack.enter_async_context(serving(app, settings.host, settings.chain_port, tls))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(cast("Any", own))) as client:
            inside = EvmRpc(client, "http://chain/")
            contracts = await make_contracts(data, settings, inside, clock)
            async with (
                (await publisher(data, settings, contracts, inside, clock)).running(),
                (await slasher(data, settings, contracts, inside, clock)).running(),
            ):
                yield url_of("https" if tls else "http", settings.host, port)
