"""The roles of a network's core, each put together from its parts and run until told to stop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from nacl.signing import SigningKey

from fallow.adapters.blobs import FolderBlobs
from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.callout import CALLOUT_REPLY_ROOT, Callout, ClientInfo, serve_callout
from fallow.adapters.nats.dial import BusState
from fallow.adapters.nats.kick import kick
from fallow.adapters.nats.permissions import INBOX_ROOT, Permissions, Refusal, inbox_prefix, node_permissions
from fallow.adapters.nats.server_config import NETWORK_ACCOUNT
from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.checks import PostgresCheckStore
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.delegations import PostgresDelegationStore
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.market import PostgresMarketStore
from fallow.adapters.postgres.measuring import PostgresMeasures
from fallow.adapters.postgres.payees import PostgresPayeeStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.postgres.sessions import PostgresSessionStore
from fallow.bootstrap.alerting import alerting
from fallow.bootstrap.closing import conclude_apart
from fallow.bootstrap.garbage import short_collections
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.keys import load_keys, signer
from fallow.bootstrap.place import bus_context, read_place
from fallow.bootstrap.plugins import load_meterings, load_verticals
from fallow.bootstrap.rewards import fee_of
from fallow.bootstrap.settings import CORE, Settings
from fallow.bootstrap.settling import attesting, domain_of, open_archive, rules_of
from fallow.bootstrap.settling_role import settling_role
from fallow.bootstrap.telling import telling
from fallow.bootstrap.verticals import controls
from fallow.domain.billing import HOUR_MS
from fallow.domain.checks import Starting
from fallow.domain.encoding import tagged_hash
from fallow.domain.epochs.quorum import read_validators
from fallow.domain.facts import CORE_FACTS
from fallow.domain.fees import Fees, FeeWord
from fallow.domain.records import SALT_BYTES
from fallow.ports.steady import Steady
from fallow.ports.vertical.plugin import tariffs_of
from fallow.ports.words import following
from fallow.services.epochs.service import Closing
from fallow.services.ingest.sealing import Sealer
from fallow.services.ingest.service import Ingest
from fallow.services.market.money import Cashier
from fallow.services.market.outbound import Outbound
from fallow.services.market.rollcalls import RollCalls
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.market.service import Market
from fallow.services.market.vault import Vault
from fallow.services.registry.actions import Actions
from fallow.services.registry.custody import Custody
from fallow.services.registry.delegations import Delegations
from fallow.services.registry.fees import FeeSetting, begun
from fallow.services.registry.payees import Payees
from fallow.services.registry.rules import Rules
from fallow.services.registry.service import Registry
from fallow.services.registry.sessions import Sessions
from fallow.services.registry.tariffs import TariffSetting

CONNECTION_S = 600
"""A node's connection is checked again after this time, should cutting off a banned one have failed."""


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
            await stack.enter_async_context(_registry(ground, data))
            watch(measures.registry)
        if "ingest" in roles:
            ingest = _ingest(ground)
            await stack.enter_async_context(ingest.running())
            watch(ingest.measure)
            watch(measures.ingest)
            await stack.enter_async_context(_sealer(ground).running())
        if "market" in roles:
            rounds, market = _market(ground, data)
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


@asynccontextmanager
async def _registry(ground: Ground, data: Path) -> AsyncIterator[None]:
    keys = ground.keys
    registry = Registry(
        net=ground.place.net,
        custody=Custody(keys.custody_seed),
        random_bytes=secrets.token_bytes,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresRegistryStore(),
        pin=ground.place.tls.pin if ground.place.tls else "",
    )

    sessions = Sessions(
        check_key=registry.check_key,
        random_bytes=secrets.token_bytes,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        registry=PostgresRegistryStore(),
        store=PostgresSessionStore(),
    )

    delegations = Delegations(
        net=ground.place.net,
        custody=Custody(keys.custody_seed),
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        registry=PostgresRegistryStore(),
        store=PostgresDelegationStore(),
    )

    payees = Payees(
        net=ground.place.net,
        custody=Custody(keys.custody_seed),
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        registry=PostgresRegistryStore(),
        store=PostgresPayeeStore(),
        decisions=PostgresDecisionStore(),
        domain=await asyncio.to_thread(domain_of, data, ground.place),
    )

    async def authorize(public_key: bytes, client: ClientInfo) -> Permissions | Refusal:
        if await registry.connects(public_key, client.nonce, client.host):
            return node_permissions(public_key, expires_s=CONNECTION_S)
        return Refusal("not enrolled")

    callout = Callout(signer(keys.issuer), NETWORK_ACCOUNT, authorize, ground.clock)
    async with (
        _own_connection(ground, keys.callout, "callout", reply_root=CALLOUT_REPLY_ROOT) as bus,
        _own_connection(ground, keys.system, "system") as system,
        serve_callout(bus, callout),
        registry.running(),
        sessions.running(),
        delegations.running(),
        payees.running(),
        Rules(bus=ground.bus, clock=ground.clock, database=ground.database, store=PostgresRegistryStore()).running(),
        FeeSetting(
            fees=ground.fees,
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            store=PostgresRegistryStore(),
        ).running(),
        TariffSetting(
            tariffs=tariffs_of(load_verticals()),
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            store=PostgresRegistryStore(),
        ).running(),
        alerting(ground).running(),
        Actions(
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            store=PostgresRegistryStore(),
            decisions=PostgresDecisionStore(),
            disconnect=partial(kick, system),
        ).running(),
    ):
        yield


def _own_connection(
    ground: Ground, key: SigningKey, name: str, *, reply_root: str = INBOX_ROOT
) -> AbstractAsyncContextManager[NatsBus]:
    return connect_nats(
        ground.place.bus_url,
        signer=signer(key),
        name=name,
        tls=bus_context(ground.place),
        inbox_prefix=inbox_prefix(bytes(key.verify_key)),
        reply_root=reply_root,
    )


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


def _market(ground: Ground, data: Path) -> tuple[Rounds, Market]:
    settings, store, registry = ground.settings, PostgresMarketStore(), PostgresRegistryStore()
    cashier, vault = Cashier(PostgresLedger(), PostgresBudgetStore()), Vault(ground.keys.custody_seed)
    checks, verticals = PostgresCheckStore(), load_verticals()
    seeds = Seeds(
        net=ground.place.net,
        secret=tagged_hash("fallow/check-secret/1", bytes(ground.keys.network)),
        sign=ground.keys.sign,
        epoch_ms=settings.epoch_hours * HOUR_MS,
        store=checks,
        decisions=PostgresDecisionStore(),
        validators=read_validators(settings.validators),
    )
    rounds = Rounds(
        holder=secrets.token_hex(8),
        fees=ground.fees,
        starting=Starting(settings.checks_usd * 1_000_000),
        seeds=seeds,
        window_ms=settings.window_s * 1000,
        clock=ground.clock,
        database=ground.database,
        store=store,
        log_store=PostgresIngestStore(),
        decisions=PostgresDecisionStore(),
        registry=registry,
        cashier=cashier,
        outbound=Outbound(
            net=ground.place.net,
            epoch_ms=settings.epoch_hours * HOUR_MS,
            sign=ground.keys.sign,
            vault=vault,
            bus=ground.bus,
        ),
    )
    blobs = FolderBlobs(data / "blobs")
    comparers = {name: vertical.comparer(blobs, data / "comparing" / name) for name, vertical in verticals.items()}
    roll_calls = RollCalls(
        net=ground.place.net,
        calls_a_day=settings.roll_calls_a_day,
        rounds=rounds,
        verticals=verticals,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=checks,
        decisions=PostgresDecisionStore(),
    )
    market = Market(
        rounds=rounds,
        seeds=seeds,
        cashier=cashier,
        vault=vault,
        verticals=verticals,
        comparers={name: comparer for name, comparer in comparers.items() if comparer is not None},
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=store,
        registry=registry,
        roll_calls=roll_calls,
    )
    return rounds, market
