"""The role `registry`: who there is, what each may do, and which nodes reach the bus."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from nacl.signing import SigningKey

from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.callout import CALLOUT_REPLY_ROOT, Callout, ClientInfo, serve_callout
from fallow.adapters.nats.kick import kick
from fallow.adapters.nats.permissions import INBOX_ROOT, Permissions, Refusal, inbox_prefix, node_permissions
from fallow.adapters.nats.server_config import NETWORK_ACCOUNT
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.delegations import PostgresDelegationStore
from fallow.adapters.postgres.payees import PostgresPayeeStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.postgres.sessions import PostgresSessionStore
from fallow.bootstrap.alerting import alerting
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.keys import signer
from fallow.bootstrap.place import bus_context
from fallow.bootstrap.plugins import load_verticals
from fallow.bootstrap.settling import domain_of
from fallow.ports.vertical.plugin import tariffs_of
from fallow.services.registry.actions import Actions
from fallow.services.registry.custody import Custody
from fallow.services.registry.delegations import Delegations
from fallow.services.registry.fees import FeeSetting
from fallow.services.registry.payees import Payees
from fallow.services.registry.rules import Rules
from fallow.services.registry.service import Registry
from fallow.services.registry.sessions import Sessions
from fallow.services.registry.tariffs import TariffSetting

CONNECTION_S = 600
"""A node's connection is checked again after this time, should cutting off a banned one have failed."""


@asynccontextmanager
async def registry_role(ground: Ground, data: Path) -> AsyncIterator[None]:
    """Run the role `registry` while the context is open."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(
            _own_connection(ground, ground.keys.callout, "callout", reply_root=CALLOUT_REPLY_ROOT)
        )
        system = await stack.enter_async_context(_own_connection(ground, ground.keys.system, "system"))
        registry = _registry(ground)
        await stack.enter_async_context(serve_callout(bus, _callout(ground, registry)))
        await stack.enter_async_context(registry.running())
        await stack.enter_async_context(_sessions(ground, registry).running())
        await stack.enter_async_context(_delegations(ground).running())
        await stack.enter_async_context((await _payees(ground, data)).running())
        await stack.enter_async_context(_rules(ground).running())
        await stack.enter_async_context(_fees(ground).running())
        await stack.enter_async_context(_tariffs(ground).running())
        await stack.enter_async_context(alerting(ground).running())
        await stack.enter_async_context(_actions(ground, system).running())
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


def _callout(ground: Ground, registry: Registry) -> Callout:
    async def authorize(public_key: bytes, client: ClientInfo) -> Permissions | Refusal:
        if await registry.connects(public_key, client.nonce, client.host):
            return node_permissions(public_key, expires_s=CONNECTION_S)
        return Refusal("not enrolled")

    return Callout(signer(ground.keys.issuer), NETWORK_ACCOUNT, authorize, ground.clock)


def _registry(ground: Ground) -> Registry:
    return Registry(
        net=ground.place.net,
        custody=Custody(ground.keys.custody_seed),
        random_bytes=secrets.token_bytes,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresRegistryStore(),
        pin=ground.place.tls.pin if ground.place.tls else "",
    )


def _sessions(ground: Ground, registry: Registry) -> Sessions:
    return Sessions(
        check_key=registry.check_key,
        random_bytes=secrets.token_bytes,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        registry=PostgresRegistryStore(),
        store=PostgresSessionStore(),
    )


def _delegations(ground: Ground) -> Delegations:
    return Delegations(
        net=ground.place.net,
        custody=Custody(ground.keys.custody_seed),
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        registry=PostgresRegistryStore(),
        store=PostgresDelegationStore(),
    )


async def _payees(ground: Ground, data: Path) -> Payees:
    return Payees(
        net=ground.place.net,
        custody=Custody(ground.keys.custody_seed),
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        registry=PostgresRegistryStore(),
        store=PostgresPayeeStore(),
        decisions=PostgresDecisionStore(),
        domain=await asyncio.to_thread(domain_of, data, ground.place),
    )


def _rules(ground: Ground) -> Rules:
    return Rules(bus=ground.bus, clock=ground.clock, database=ground.database, store=PostgresRegistryStore())


def _fees(ground: Ground) -> FeeSetting:
    return FeeSetting(
        fees=ground.fees,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresRegistryStore(),
    )


def _tariffs(ground: Ground) -> TariffSetting:
    return TariffSetting(
        tariffs=tariffs_of(load_verticals()),
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresRegistryStore(),
    )


def _actions(ground: Ground, system: NatsBus) -> Actions:
    return Actions(
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=PostgresRegistryStore(),
        decisions=PostgresDecisionStore(),
        disconnect=partial(kick, system),
    )
