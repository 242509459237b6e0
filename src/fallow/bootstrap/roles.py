"""The roles of a network's core, each put together from its parts and run until told to stop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.dial import BusState
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.measuring import PostgresMeasures
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.bootstrap.closing import conclude_apart
from fallow.bootstrap.garbage import short_collections
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.keys import load_keys, signer
from fallow.bootstrap.market_role import market_of
from fallow.bootstrap.place import bus_context, read_place
from fallow.bootstrap.plugins import load_meterings
from fallow.bootstrap.registry_role import registry_role
from fallow.bootstrap.rewards import fee_of
from fallow.bootstrap.settings import CORE, Settings
from fallow.bootstrap.settling import attesting, open_archive, rules_of
from fallow.bootstrap.settling_role import settling_role
from fallow.bootstrap.telling import telling
from fallow.bootstrap.verticals import controls
from fallow.domain.billing import HOUR_MS
from fallow.domain.facts import CORE_FACTS
from fallow.domain.fees import Fees, FeeWord
from fallow.domain.records import SALT_BYTES
from fallow.ports.steady import Steady
from fallow.ports.words import following
from fallow.services.epochs.service import Closing
from fallow.services.ingest.sealing import Sealer
from fallow.services.ingest.service import Ingest
from fallow.services.market.rounds import Rounds
from fallow.services.registry.fees import begun


@asynccontextmanager
async def run_core(data: Path, settings: Settings, roles: Collection[str]) -> AsyncIterator[None]:
    """Run some or all of `CORE` while the context is open."""
    place, keys, clock = read_place(data), load_keys(data), Steady(SystemClock())
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(place.postgres_dsn))
        heard: list[Rounds] = []
        bus = await stack.enter_async_context(
            connect_nats(
                place.bus_url,
                signer=signer(keys.core),
                name="core",
                tls=bus_context(place),
                inbox_prefix=inbox_prefix(bytes(keys.core.verify_key)),
                on_state=lambda state: _on_state(state, heard),
            )
        )
        name = "core" if set(roles) == set(CORE) else "-".join(sorted(roles))
        watch = await stack.enter_async_context(telling(name, roles, bus, clock))
        fees = Fees(await asyncio.to_thread(fee_of, settings))
        fees.words = await begun(database, PostgresRegistryStore(), fees.first)  # before anything is charged
        await stack.enter_async_context(following("fees", fees, partial(_fee_words, database), clock))
        ground = Ground(place, settings, keys, clock, bus, database, watch, fees)
        measures = PostgresMeasures(database, clock)
        watch(measures.reach)
        watch(measures.up)
        await stack.enter_async_context(short_collections(clock))
        if "settle" in roles:
            await stack.enter_async_context(settling_role(ground, data))
        if "registry" in roles:
            await stack.enter_async_context(registry_role(ground, data))
            watch(measures.registry)
        if "ingest" in roles:
            ingest = _ingest(ground)
            await stack.enter_async_context(ingest.running())
            watch(ingest.measure)
            watch(measures.ingest)
            await stack.enter_async_context(_sealer(ground).running())
        if "market" in roles:
            rounds, market = market_of(ground, data)
            heard.append(rounds)
            await stack.enter_async_context(market.running())
            watch(market.measure)
        if "verticals" in roles:
            await stack.enter_async_context(controls(ground, data))
        if "epochs" in roles:
            await stack.enter_async_context(_closing(ground, data))
            watch(measures.epochs)
        yield


async def _fee_words(database: PostgresDatabase) -> Sequence[FeeWord]:
    async with database.transaction() as tx:
        return [row.word for row in await PostgresRegistryStore().fees(tx)]


def _on_state(state: BusState, heard: list[Rounds]) -> None:
    """After the bus was away no node could be heard: none of them is to blame for its silence."""
    if state is BusState.CONNECTED:
        for rounds in heard:
            rounds.forgive_silence()


def _ingest(ground: Ground) -> Ingest:
    return Ingest(
        net=ground.place.net,
        sign=ground.keys.sign,
        epoch_ms=ground.settings.epoch_hours * HOUR_MS,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresIngestStore(),
        registry=PostgresRegistryStore(),
    )


@asynccontextmanager
async def _closing(ground: Ground, data: Path) -> AsyncIterator[None]:
    meterings = load_meterings()
    kinds = {fact.kind for fact in CORE_FACTS}.union(*(one.kinds for one in meterings.values()))
    rules = await asyncio.to_thread(rules_of, data, ground.place, ground.settings)
    async with attesting(data, ground.place, ground.settings) as attested:
        closing = Closing(
            net=ground.place.net,
            holder=secrets.token_hex(8),
            sign=ground.keys.sign,
            network_key=bytes(ground.keys.network.verify_key),
            kinds=kinds,
            folder=data / "closing",
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            log=PostgresIngestStore(),
            store=PostgresEpochStore(),
            archive=await asyncio.to_thread(open_archive, data, ground.settings),
            rules=rules,
            meterings=meterings,
            conclude=conclude_apart,
            attesting=attested,
        )
        async with closing.running():
            yield


def _sealer(ground: Ground) -> Sealer:
    return Sealer(
        net=ground.place.net,
        node=bytes(ground.keys.network.verify_key),
        sign=ground.keys.sign,
        new_salt=partial(secrets.token_bytes, SALT_BYTES),
        epoch_ms=ground.settings.epoch_hours * HOUR_MS,
        clock=ground.clock,
        database=ground.database,
        decisions=PostgresDecisionStore(),
        log=PostgresIngestStore(),
    )
