"""`fallow up`: a whole network on this machine. Engines and roles are child processes that cannot outlive it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from fallow.adapters.engines.folders import make_data_folder, write_private
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.engines.process import Child, Program, spawn
from fallow.adapters.engines.supervisor import Supervisor
from fallow.adapters.engines.users import EngineUser, choose_user
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.nkeys import Kind, encode_public
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.nats.server_config import nats_auth_config
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.bootstrap.http_server import free_port
from fallow.bootstrap.keys import NetworkKeys, load_keys, signer
from fallow.bootstrap.place import Place, network_id, write_place
from fallow.bootstrap.settings import Settings
from fallow.domain import calls
from fallow.domain.errors import InvalidInput
from fallow.domain.views import BalanceView
from fallow.ports.bus import Bus
from fallow.ports.rpc import call

USD = 1_000_000
READY_S = 60.0
SCHEMAS = ("ledger", "registry", "ingest", "market")
STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
LOOPBACK = ("127.", "::1", "localhost")
"""What an address without TLS must begin with."""


class FirstKeys(NamedTuple):
    """What a new network's operator begins with."""

    buyer_key: str
    buyer_account: str
    operator_key: str
    join_token: str


class Welcome(NamedTuple):
    """What the operator of a network needs to know."""

    net: str
    url: str
    keys: FirstKeys


@asynccontextmanager
async def run_network(data: Path, settings: Settings) -> AsyncIterator[Welcome]:
    """Run a network while the context is open.

    Raises:
        InvalidInput: it would be reachable from outside without TLS.
        FallowError: what the engines raise (`engine.*`).
    """
    if not settings.host.startswith(LOOPBACK):
        raise InvalidInput(
            "up.no_tls",
            f"{settings.host} can be reached from outside, and this version has no TLS of its own yet.",
            "Use a loopback address.",
        )
    async with AsyncExitStack() as stack:
        place = await _engines(stack, data, settings)
        write_place(data, place)
        await stack.enter_async_context(_role(data, "core", settings))
        await stack.enter_async_context(_role(data, "gateway", settings))
        keys = await asyncio.to_thread(load_keys, data)
        host = f"[{place.http_host}]" if ":" in place.http_host else place.http_host
        first = await _first_keys(data, place, keys, settings)
        yield Welcome(place.net, f"http://{host}:{place.http_port}", first)


async def _engines(stack: AsyncExitStack, data: Path, settings: Settings) -> Place:
    user = settings.engine_user or None
    make_data_folder(data, choose_user(user, data / "nats"))
    dsn = settings.postgres_url or (await stack.enter_async_context(EmbeddedPostgres(data, user=user))).dsn()
    keys = await asyncio.to_thread(load_keys, data, create=True)
    ports = _ports(data, settings)
    nats = EmbeddedNats(data, host=settings.host, port=ports["bus"], config=_bus_config(keys), user=user)
    await stack.enter_async_context(nats)
    async with open_database(dsn, pool_size=1) as database:
        await migrate(database, *(builtin(schema) for schema in SCHEMAS))
    return Place(
        net=network_id(data, settings.preset),
        postgres_dsn=dsn,
        bus_url=nats.url,
        http_host=settings.host,
        http_port=ports["http"],
    )


def _bus_config(keys: NetworkKeys) -> str:
    def public(key: str) -> str:
        return encode_public(Kind.USER, bytes(getattr(keys, key).verify_key))

    return nats_auth_config(
        core_public_keys={"core": public("core"), "gateway": public("gateway")},
        callout_public_key=public("callout"),
        callout_issuer_public=encode_public(Kind.ACCOUNT, bytes(keys.issuer.verify_key)),
    )


def _ports(data: Path, settings: Settings) -> dict[str, int]:
    """Set ports; where a setting is 0, a free one that is kept, since agents and buyers remember it."""
    file = data / "ports.json"
    kept: dict[str, int] = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
    ports = {
        "http": settings.http_port or kept.get("http") or free_port(settings.host),
        "bus": settings.bus_port or kept.get("bus") or free_port(settings.host),
    }
    if ports != kept:
        write_private(file, msgspec.json.encode(ports).decode() + "\n")
    return ports


@asynccontextmanager
async def _role(data: Path, role: str, settings: Settings) -> AsyncIterator[Supervisor]:
    """Keep `fallow serve --role ROLE` running, in a process of its own."""
    ready = data / f"{role}.ready"
    settings_file = data / "effective-settings.json"
    write_private(settings_file, msgspec.json.encode(settings).decode() + "\n")

    async def start() -> Child:
        ready.unlink(missing_ok=True)
        child = await spawn(_program(data, role, settings_file, ready))
        try:
            await child.ready(ready.exists, READY_S)
        except BaseException:
            await child.stop(STEPS[1:])
            raise
        return child

    async with Supervisor(f"role {role}", start, STEPS) as supervisor:
        yield supervisor


def _program(data: Path, role: str, settings_file: Path, ready: Path) -> Program:
    command = (sys.executable, "-m", "fallow.bootstrap.serve", role, str(data), str(settings_file), str(ready))
    ourselves = EngineUser(os.geteuid(), os.getegid(), drop=False)
    return Program(command, ourselves, data / "logs" / f"{role}.log", signal.SIGTERM)


async def _first_keys(data: Path, place: Place, keys: NetworkKeys, settings: Settings) -> FirstKeys:
    """Make the first keys and the first credits once; show the same ones at every later start."""
    file = data / "secrets" / "first-keys.json"
    if not file.exists():
        async with connect_nats(
            place.bus_url,
            signer=signer(keys.core),
            name="up",
            tls=None,
            inbox_prefix=inbox_prefix(bytes(keys.core.verify_key)),
        ) as bus:
            first = await _make_keys(bus, settings)
        write_private(file, msgspec.json.encode(first._asdict()).decode() + "\n")
    return FirstKeys(**msgspec.json.decode(file.read_bytes()))


async def _make_keys(bus: Bus, settings: Settings) -> FirstKeys:
    operator = await call(bus, calls.CREATE_KEY, calls.CreateKey(scopes=["operate"], label="operator"), calls.Secret)
    buyer = await call(bus, calls.CREATE_KEY, calls.CreateKey(scopes=["buy"], label="first buyer"), calls.Secret)
    if settings.test_credits_usd:
        amount = settings.test_credits_usd * USD
        grant = calls.Grant(id="0" * 31 + "1", account=buyer.account, amount_microusd=amount)
        await call(bus, calls.GRANT, grant, BalanceView)
    for gift in (_gift("fee", settings.checks_usd), _gift("reserve", settings.reserve_usd)):
        if gift is not None:
            await call(bus, calls.FUND, gift, dict[str, str])
    token = await call(bus, calls.CREATE_TOKEN, calls.CreateToken(uses=100, valid_s=7 * 86_400), calls.Secret)
    return FirstKeys(buyer.secret, buyer.account, operator.secret, token.secret)


def _gift(purpose: Literal["fee", "reserve"], usd: int) -> calls.Fund | None:
    """What the network starts with for a purpose; its id is fixed, so that it is given once."""
    fund_id = hashlib.sha256(purpose.encode()).hexdigest()[:32]
    return calls.Fund(id=fund_id, purpose=purpose, amount_microusd=usd * USD) if usd else None
