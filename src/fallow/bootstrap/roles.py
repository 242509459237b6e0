"""The roles of a network's side, each put together from its parts and run until told to stop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from nacl.signing import SigningKey

from fallow.adapters.blobs import FolderBlobs
from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.callout import CALLOUT_REPLY_ROOT, Callout, ClientInfo, serve_callout
from fallow.adapters.nats.dial import BusState
from fallow.adapters.nats.kick import kick
from fallow.adapters.nats.permissions import INBOX_ROOT, Permissions, Refusal, inbox_prefix, node_permissions
from fallow.adapters.nats.server_config import NETWORK_ACCOUNT
from fallow.adapters.nats.tunnel import PATH as BUS_PATH
from fallow.adapters.nats.tunnel import BusTunnels
from fallow.adapters.postgres.burn_store import PostgresBurnStore
from fallow.adapters.postgres.chain_store import PostgresChainStore
from fallow.adapters.postgres.checks import PostgresCheckStore
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.delegations import PostgresDelegationStore
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.market import PostgresMarketStore
from fallow.adapters.postgres.payees import PostgresPayeeStore
from fallow.adapters.postgres.payouts import PostgresPayoutStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.postgres.subscriptions import PostgresSubscriptionStore
from fallow.adapters.streams.asgi import with_links
from fallow.adapters.streams.dialling import PATH as STREAMS_PATH
from fallow.adapters.streams.dialling import dial
from fallow.adapters.streams.direct import dial_direct
from fallow.bootstrap.audits import auditing
from fallow.bootstrap.chains import chain_of, own_chain
from fallow.bootstrap.closing import conclude_apart
from fallow.bootstrap.contracts import read_contracts
from fallow.bootstrap.garbage import short_collections
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.install import read_installer
from fallow.bootstrap.keys import NetworkKeys, load_keys, signer
from fallow.bootstrap.lag import measured_lag
from fallow.bootstrap.listening import address_of, refuse_outside, url_of
from fallow.bootstrap.place import Place, bus_context, read_place
from fallow.bootstrap.plugins import load_meterings, load_verticals
from fallow.bootstrap.proxies import read_proxies
from fallow.bootstrap.rewards import read_rewards
from fallow.bootstrap.settings import CORE, Settings
from fallow.bootstrap.settling import attesting, domain_of, open_archive, rules_of
from fallow.bootstrap.tls import own_context, server_context
from fallow.domain import calls
from fallow.domain.billing import FeePolicy
from fallow.domain.chain_events import CONTRACTS
from fallow.domain.checks import Starting
from fallow.domain.encoding import tagged_hash
from fallow.domain.epochs.quorum import read_validators
from fallow.domain.facts import CORE_FACTS
from fallow.domain.identity import address
from fallow.domain.records import SALT_BYTES
from fallow.domain.views import NetworkView
from fallow.http.app import create_app
from fallow.ports.rpc import Empty, call
from fallow.ports.steady import Steady
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
from fallow.services.registry.payees import Payees
from fallow.services.registry.service import Registry
from fallow.services.relay.probing import Probes
from fallow.services.relay.service import Relay
from fallow.services.settle.burns import Burns
from fallow.services.settle.chain_events import ChainEvents
from fallow.services.settle.payouts import Payouts
from fallow.services.settle.service import Settle
from fallow.services.settle.subscriptions import Subscriptions
from fallow.services.settle.takes import Takes
from fallow.services.settle.withdrawals import Withdrawals

HOUR_MS = 3_600_000
CONNECTION_S = 600
"""A node's connection is checked again after this time, should cutting off a banned one have failed."""


class Ground(NamedTuple):
    """What all core roles stand on."""

    place: Place
    settings: Settings
    keys: NetworkKeys
    clock: Steady
    bus: NatsBus
    database: PostgresDatabase


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
        ground = Ground(place, settings, keys, clock, bus, database)
        name = "core" if set(roles) == set(CORE) else "-".join(sorted(roles))
        await stack.enter_async_context(measured_lag(name, bus, clock))
        await stack.enter_async_context(short_collections(clock))
        if "settle" in roles:
            settle = Settle(bus=bus, clock=clock, database=database, ledger=PostgresLedger())
            await stack.enter_async_context(settle.running())
            await stack.enter_async_context(_subscriptions(ground).running())
            await stack.enter_async_context(_withdrawals(ground).running())
            await stack.enter_async_context((await _payouts(ground, data)).running())
            await stack.enter_async_context(_burns(ground).running())
            await stack.enter_async_context(_takes(ground).running())
            if place.chain is not None:
                await stack.enter_async_context(_chain_events(ground, data))
            network_key = bytes(keys.network.verify_key)
            await stack.enter_async_context(auditing(data, place, settings, network_key, bus, clock, database))
        if "registry" in roles:
            await stack.enter_async_context(_registry(ground, data))
        if "ingest" in roles:
            await stack.enter_async_context(_ingest(ground).running())
            await stack.enter_async_context(_sealer(ground).running())
        if "market" in roles:
            rounds, market = _market(ground, data)
            heard.append(rounds)
            await stack.enter_async_context(market.running())
        if "epochs" in roles:
            await stack.enter_async_context(_closing(ground, data))
        yield


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
        delegations.running(),
        payees.running(),
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


@asynccontextmanager
async def _chain_events(ground: Ground, data: Path) -> AsyncIterator[None]:
    """Nothing where the contracts are not there yet: the chain makes them before other roles start."""
    contracts = await asyncio.to_thread(read_contracts, data)
    if contracts is None:
        yield
        return
    async with own_chain(ground.place) as chain:
        events = ChainEvents(
            chain=chain,
            chain_id=chain_of(ground.place).id,
            contracts={name: address(getattr(contracts, name)) for name in CONTRACTS},
            first_block=contracts.block,
            depth=chain_of(ground.place).depth,
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            ledger=PostgresLedger(),
            store=PostgresChainStore(),
            burns=PostgresBurnStore(),
            decisions=PostgresDecisionStore(),
        )
        async with events.running():
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


def _subscriptions(ground: Ground) -> Subscriptions:
    return Subscriptions(
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        store=PostgresSubscriptionStore(),
        decisions=PostgresDecisionStore(),
        fee=_fee(ground.settings),
        epoch_ms=ground.settings.epoch_hours * HOUR_MS,
    )


def _withdrawals(ground: Ground) -> Withdrawals:
    return Withdrawals(
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        decisions=PostgresDecisionStore(),
    )


def _takes(ground: Ground) -> Takes:
    return Takes(
        net=ground.place.net,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        decisions=PostgresDecisionStore(),
    )


def _burns(ground: Ground) -> Burns:
    rules = read_rewards(ground.settings)
    return Burns(
        net=ground.place.net,
        feeds=rules.feeds,
        guard=rules.guard,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        store=PostgresBurnStore(),
        decisions=PostgresDecisionStore(),
    )


async def _payouts(ground: Ground, data: Path) -> Payouts:
    return Payouts(
        network_key=bytes(ground.keys.network.verify_key),
        clock=ground.clock,
        database=ground.database,
        ledger=PostgresLedger(),
        epochs=PostgresEpochStore(),
        store=PostgresPayoutStore(),
        archive=await asyncio.to_thread(open_archive, data, ground.settings),
    )


def _fee(settings: Settings) -> FeePolicy:
    """What incentives may reach of a fee is paid back to nobody: both come out of it only once."""
    rules = read_rewards(settings)
    return FeePolicy(settings.fee_ppm, settings.reserve_ppm, rules.cap_ppm if rules.pays else 0)


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
    cashier, vault = Cashier(PostgresLedger()), Vault(ground.keys.custody_seed)
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
        fee=_fee(settings),
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


async def _tell_tunnel(bus: NatsBus, nonce: str, address: str) -> None:
    await call(bus, calls.TUNNEL, calls.Tunnel(nonce=nonce, address=address), Empty)


@asynccontextmanager
async def run_gateway(data: Path, settings: Settings) -> AsyncIterator[str]:
    """Run an HTTP gateway while the context is open; yields its URL. It has no access to the database.

    Raises:
        InvalidInput: it would be reachable from outside without TLS.
        Unavailable: its port cannot be had.
    """
    place, keys, clock = read_place(data), load_keys(data), SystemClock()
    if place.tls is None:
        refuse_outside(settings.host)
    installer = await asyncio.to_thread(read_installer, data)
    network = NetworkView(
        net=place.net,
        public_key=bytes(keys.network.verify_key).hex(),
        bus_url=place.bus_public_url,
        preset=settings.preset,
        version=version("fallow"),
        url=place.url,
        install_sha256=installer.sha256 if installer else "",
        chain_url=place.chain.url if place.chain else "",
        chain_id=place.chain.id if place.chain else 0,
        contracts=await asyncio.to_thread(read_contracts, data) if place.chain else None,
    )
    async with connect_nats(
        place.bus_url,
        signer=signer(keys.gateway),
        name="gateway",
        tls=bus_context(place),
        inbox_prefix=inbox_prefix(bytes(keys.gateway.verify_key)),
    ) as bus:
        relay = Relay(
            net=place.net,
            network_key=bytes(keys.network.verify_key),
            bus=bus,
            clock=clock,
            random_bytes=secrets.token_bytes,
            dial=lambda url: dial(url, tls=own_context(place.tls)),
            probes=Probes(
                place.net,
                clock,
                network_host=await asyncio.to_thread(address_of, urlsplit(place.url).hostname or settings.host),
                dial=dial_direct,
                random_bytes=secrets.token_bytes,
            ),
        )
        app = create_app(
            bus=bus,
            blobs=FolderBlobs(data / "blobs"),
            network=network,
            clock=clock,
            verticals=load_verticals(),
            streams=relay,
            archive=await asyncio.to_thread(open_archive, data, settings),
            any_host=place.any_host,
            ca_pem=place.tls.ca_pem() if place.tls else "",
            installer=installer,
            keep_days=settings.blob_days,
        )
        tls = server_context(place.tls) if place.tls else None
        proxies = read_proxies(settings.proxies)
        tunnels = BusTunnels(place.bus_url, bus_context(place), partial(_tell_tunnel, bus))
        served = with_links(app, {STREAMS_PATH: relay.attend, BUS_PATH: tunnels.attend}, clock)
        async with serving(served, settings.host, settings.http_port, tls, proxies) as port:
            scheme = "https" if tls else "http"
            at = url_of(scheme, urlsplit(place.url).hostname or settings.host, port)
            async with relay.running(at):
                yield url_of(scheme, settings.host, port)
