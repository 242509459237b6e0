"""Puts together what holds the ledger against the archive and the chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fallow.adapters.postgres.audits import PostgresAuditStore
from fallow.adapters.postgres.chain_store import PostgresChainStore
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.payouts import PostgresPayoutStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.bootstrap.chains import own_chain
from fallow.bootstrap.contracts import addresses_of, read_contracts
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.place import Place
from fallow.bootstrap.settling import open_archive
from fallow.domain.identity import address
from fallow.services.settle.audit import Audit, Sources
from fallow.services.settle.audit_chain import ChainMoney
from fallow.services.settle.audits import Audits
from fallow.services.settle.recorded import Recorded

FOLDER = "auditing"


@asynccontextmanager
async def auditing(ground: Ground, data: Path) -> AsyncIterator[None]:
    """Audit while the context is open."""
    database, network_key = ground.database, bytes(ground.keys.network.verify_key)
    async with AsyncExitStack() as stack:
        sources = Sources(
            database=database,
            ledger=PostgresLedger(),
            epochs=PostgresEpochStore(),
            payouts=PostgresPayoutStore(),
            blocks=PostgresChainStore(),
            recorded=Recorded(database, PostgresDecisionStore(), PostgresIngestStore(), network_key),
            archive=await asyncio.to_thread(open_archive, data, ground.settings),
            network_key=network_key,
            chain=await _chain(stack, data, ground.place),
        )
        audit = Audit(sources, ground.clock, data / FOLDER)
        audits = Audits(
            audit=audit,
            bus=ground.bus,
            clock=ground.clock,
            database=database,
            store=PostgresAuditStore(),
            log=PostgresRegistryStore(),
        )
        await stack.enter_async_context(audits.running())
        ground.watch(audits.measure)
        yield


async def _chain(stack: AsyncExitStack, data: Path, place: Place) -> ChainMoney | None:
    contracts = await asyncio.to_thread(read_contracts, data) if place.chain else None
    if contracts is None:
        return None
    chain = await stack.enter_async_context(own_chain(place))
    return ChainMoney(chain, addresses_of(contracts), address(contracts.settlement), contracts.block)
