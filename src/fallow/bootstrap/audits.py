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
from fallow.bootstrap.chains import own_chain
from fallow.bootstrap.contracts import read_contracts
from fallow.bootstrap.place import Place
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.settling import open_archive
from fallow.domain.chain_events import CONTRACTS
from fallow.domain.identity import address
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.services.settle.audit import Audit, Sources
from fallow.services.settle.audit_chain import ChainPlace
from fallow.services.settle.audits import Audits
from fallow.services.settle.recorded import Recorded

FOLDER = "auditing"


@asynccontextmanager
async def auditing(
    data: Path, place: Place, settings: Settings, network_key: bytes, bus: Bus, clock: Clock, database: Database
) -> AsyncIterator[None]:
    """Audit while the context is open."""
    async with AsyncExitStack() as stack:
        sources = Sources(
            database=database,
            ledger=PostgresLedger(),
            epochs=PostgresEpochStore(),
            payouts=PostgresPayoutStore(),
            blocks=PostgresChainStore(),
            recorded=Recorded(database, PostgresDecisionStore(), PostgresIngestStore(), network_key),
            archive=await asyncio.to_thread(open_archive, data, settings),
            network_key=network_key,
            chain=await _chain(stack, data, place),
        )
        audit = Audit(sources, clock, data / FOLDER)
        audits = Audits(audit=audit, bus=bus, clock=clock, database=database, store=PostgresAuditStore())
        await stack.enter_async_context(audits.running())
        yield


async def _chain(stack: AsyncExitStack, data: Path, place: Place) -> ChainPlace | None:
    contracts = await asyncio.to_thread(read_contracts, data) if place.chain else None
    if contracts is None:
        return None
    chain = await stack.enter_async_context(own_chain(place))
    addresses = {name: address(getattr(contracts, name)) for name in CONTRACTS}
    return ChainPlace(chain, addresses, address(contracts.settlement), contracts.block)
