"""What verticals bring to a network: their own side of it, and the gateways that buyers reach them by."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.migrations import Migration, load
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.streams.dialling import dial
from fallow.adapters.streams.direct import dial_direct
from fallow.bootstrap.chains import own_chain
from fallow.bootstrap.contracts import the_contracts
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.http_server import serving
from fallow.bootstrap.keys import load_keys, signer
from fallow.bootstrap.latency import Latency
from fallow.bootstrap.listening import refuse_outside
from fallow.bootstrap.place import bus_context, read_place
from fallow.bootstrap.plugins import load_verticals
from fallow.bootstrap.proxies import read_proxies
from fallow.bootstrap.settings import CORE, Settings
from fallow.bootstrap.telling import telling
from fallow.bootstrap.tls import own_context, server_context
from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.identity import address
from fallow.domain.rewards.oracle import TOKEN_UNITS
from fallow.domain.vouching import read_vouch
from fallow.ports.bus import Bus
from fallow.ports.rpc import call
from fallow.ports.vertical.control import UNREADABLE_ANSWER, ControlGround, Hosted
from fallow.ports.vertical.gateway import GatewayGround
from fallow.ports.vertical.plugin import Vertical
from fallow.sdk.bills import offers
from fallow.services.sender.vault import Vault

TAKEN: Final = frozenset({"core", *CORE, "gateway", "chain", "http", "bus"})
"""What the network's own roles and ports are called."""
StakeOf = Callable[[bytes], Awaitable[int]]
"""Units of the token that are at stake with an operator."""


def migrations() -> list[list[Migration]]:
    """Read the migrations that verticals bring, each for a schema of its own name."""
    verticals = load_verticals().values()
    return [load(one.name, one.migrations) for one in verticals if one.migrations is not None]


def gateway_roles() -> dict[str, Vertical]:
    """Return the verticals' gateways by their roles.

    Raises:
        InvalidInput: two have a role of one name, or one has a name of the network's own, or none (`plugin.role`).
    """
    roles: dict[str, Vertical] = {}
    for vertical in load_verticals().values():
        for role in vertical.gateways:
            if role in roles:
                raise InvalidInput("plugin.role", f"Two verticals bring a gateway {role!r}.")
            if role in TAKEN or not role.isidentifier():
                raise InvalidInput("plugin.role", f"No gateway of a vertical can be called {role!r}.")
            roles[role] = vertical
    return roles


def read_ports(text: str) -> dict[str, int]:
    """Read the setting `gateway_ports`.

    Raises:
        InvalidInput: it is none (`settings.gateway_ports`).
    """
    ports: dict[str, int] = {}
    for word in text.split():
        role, _, port = word.partition("=")
        if role not in gateway_roles() or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            names = ", ".join(gateway_roles())
            raise InvalidInput("settings.gateway_ports", f"{word!r} gives no gateway a port.", f"Gateways: {names}")
        ports[role] = int(port)
    return ports


@asynccontextmanager
async def controls(ground: Ground, data: Path) -> AsyncIterator[None]:
    """Run the network's side of all verticals that have one.

    Raises:
        InvalidInput: somebody is to have stake behind a gateway where there is no chain (`settings.gateway_stake`), or
            a word is not by him and for it.
    """
    async with AsyncExitStack() as stack:
        stake_of = await stack.enter_async_context(_stakes(ground, data))
        for name, vertical in load_verticals().items():
            running = vertical.control(_control_ground(ground, name, stake_of))
            if running is not None:
                await stack.enter_async_context(running)
        yield


@asynccontextmanager
async def run_gateway_role(data: Path, settings: Settings, role: str) -> AsyncIterator[str]:
    """Run a vertical's gateway while the context is open; yields its URL. It has no access to the database.

    Raises:
        NotFound: there is no such role.
        InvalidInput: it would be reachable from outside without TLS.
        Unavailable: its port cannot be had.
    """
    place, keys = read_place(data), load_keys(data)
    vertical = gateway_roles().get(role)
    if vertical is None:
        raise NotFound("serve.role", f"No vertical brings a gateway {role!r}.")
    if place.tls is None:
        refuse_outside(settings.host)
    async with connect_nats(
        place.bus_url,
        signer=signer(keys.gateway),
        name=role,
        tls=bus_context(place),
        inbox_prefix=inbox_prefix(bytes(keys.gateway.verify_key)),
    ) as bus:
        ground = GatewayGround(
            net=place.net,
            network_key=bytes(keys.network.verify_key),
            secret=keys.secret("gateway", vertical.name),
            key=keys.hosted(vertical.name),
            url=place.gateways.get(role, ""),
            clock=SystemClock(),
            bus=bus,
            relay=lambda: dial(place.url, tls=own_context(place.tls)),
            direct=dial_direct,
            random_bytes=secrets.token_bytes,
            console_port=place.http_port,
        )
        tls = server_context(place.tls) if place.tls else None
        latency = Latency(ground.clock)
        async with (
            telling(role, (role,), bus, ground.clock) as watch,
            vertical.gateway(role, ground) as app,
            serving(latency.of(app), settings.host, place.port_of(role), tls, read_proxies(settings.proxies)),
        ):
            watch(latency.measure)
            yield place.gateways[role]


@asynccontextmanager
async def _stakes(ground: Ground, data: Path) -> AsyncIterator[StakeOf]:
    """Tell what is at stake with operators, where anybody wants to know."""
    settings = ground.settings
    if not settings.gateway_words and not settings.gateway_stake_min:
        yield _nothing
        return
    if ground.place.chain is None:
        raise InvalidInput(
            "settings.gateway_stake",
            "Nothing can be at stake for a gateway: this network has no chain.",
            "Leave gateway_words and gateway_stake_min out.",
        )
    contracts = await asyncio.to_thread(the_contracts, data)
    async with own_chain(ground.place) as chain:
        yield Vault(chain, address(contracts.vault)).staked


async def _nothing(_: bytes) -> int:
    return 0


def _hosted(ground: Ground, name: str, stake_of: StakeOf) -> Hosted:
    key, settings = bytes(ground.keys.hosted(name).verify_key), ground.settings
    words = [word for word in settings.gateway_words.split() if word.partition(":")[0] == name]
    return Hosted(
        key=key,
        stake_of=stake_of,
        vouched=read_vouch(words[-1], ground.place.net, key) if words else None,
        stake_min=settings.gateway_stake_min * TOKEN_UNITS,
    )


def _control_ground(ground: Ground, name: str, stake_of: StakeOf) -> ControlGround:
    return ControlGround(
        net=ground.place.net,
        network_key=bytes(ground.keys.network.verify_key),
        secret=ground.keys.secret("control", name),
        sign=ground.keys.sign,
        clock=ground.clock,
        bus=ground.bus,
        database=ground.database,
        registry=PostgresRegistryStore(),
        log=PostgresIngestStore(),
        decisions=PostgresDecisionStore(),
        ask=Asker(ground.bus, name),
        told=lambda: _told(ground.bus, name),
        relay=lambda: dial(ground.place.url, tls=own_context(ground.place.tls)),
        direct=dial_direct,
        hosted=_hosted(ground, name, stake_of),
        watch=ground.watch,
        offers=offers(),
        fees=ground.fees,
    )


class Asker:
    """Asks the workers of one vertical: see the port. Nodes are strangers, whose answers need not make sense."""

    def __init__(self, bus: Bus, vertical: str) -> None:
        self._bus = bus
        self._vertical = vertical

    async def __call__(self, node: bytes, question: bytes, *, timeout_s: float = 10.0) -> bytes:
        """See the port. InvalidInput: `vertical.answer`."""
        subject = calls.verticals.vertical_question(node.hex(), self._vertical)
        try:
            return await call(self._bus, subject, question, bytes, timeout_s=timeout_s)
        except UNREADABLE as error:
            raise InvalidInput(UNREADABLE_ANSWER, f"The node's answer makes no sense: {error}.") from error


@asynccontextmanager
async def _told(bus: Bus, vertical: str) -> AsyncIterator[AsyncIterator[tuple[bytes, bytes]]]:
    async with bus.subscribe(calls.verticals.vertical_told("*", vertical), pending_max=10_000) as messages:

        async def words() -> AsyncIterator[tuple[bytes, bytes]]:
            async for message in messages:
                yield calls.verticals.vertical_teller(message.subject), message.data

        yield words()
