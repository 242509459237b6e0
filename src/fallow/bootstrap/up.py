"""`fallow up`: a whole network on this machine. Engines and roles are child processes that cannot outlive it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.folders import data_lock, make_data_folder, write_private
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.engines.process import ENVIRONMENT, Child, Program, spawn
from fallow.adapters.engines.supervisor import Supervisor
from fallow.adapters.engines.users import EngineUser, choose_user
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import builtin, migrate_at
from fallow.adapters.postgres.owner import claim_database
from fallow.bootstrap.backing_up import backing_up, backups_of
from fallow.bootstrap.bus_config import bus_config
from fallow.bootstrap.chains import chain_place
from fallow.bootstrap.contracts import check_contracts
from fallow.bootstrap.install import make_installer, write_installer
from fallow.bootstrap.keys import NetworkKeys, load_keys, signer
from fallow.bootstrap.listening import url_of
from fallow.bootstrap.place import ChainPlace, Place, bus_context, network_id, write_place
from fallow.bootstrap.ports import keep_ports, ports_of, wait_free
from fallow.bootstrap.reach import Reach, reach_of
from fallow.bootstrap.settings import CORE, EFFECTIVE, PUBLIC, Settings
from fallow.bootstrap.tls import Tls, own_names, prepare_tls, public_host
from fallow.bootstrap.verticals import gateway_roles, migrations
from fallow.domain import calls
from fallow.domain.errors import Conflict, FallowError, InvalidInput
from fallow.domain.networks import is_loopback
from fallow.domain.pins import split_token
from fallow.domain.views.money import BalanceView
from fallow.ports.bus import Bus
from fallow.ports.rpc import call

USD = 1_000_000
READY_S = 60.0
REPLAY_S = 3600.0
"""The embedded chain executes all its blocks again before it answers, some hundred transactions a second."""
SCHEMAS = ("ledger", "registry", "ingest", "market", "settle", "checks", "epochs", "outbox")
STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
NATS_PORT = 4222
ARCHIVE_PREFIX = "AWS_"
"""Variables of whoever starts the network that its roles have, too."""


class FirstKeys(NamedTuple):
    """What a new network's operator begins with."""

    buyer_key: str
    buyer_account: str
    operator_key: str
    join_token: str


class Welcome(NamedTuple):
    """What the operator of a network needs to know.

    `ca` is the file of its own authority's certificate; `install_sha256` is of the script that installs an agent;
    `chain` is where its chain is, if it has one; `gateways` are the URLs of verticals' own gateways, by role.
    """

    net: str
    url: str
    keys: FirstKeys
    ca: str = ""
    pin: str = ""
    install_sha256: str = ""
    chain: ChainPlace | None = None
    gateways: Mapping[str, str] = MappingProxyType({})


@asynccontextmanager
async def run_network(data: Path, settings: Settings) -> AsyncIterator[Welcome]:
    """Run a network while the context is open.

    Raises:
        InvalidInput: it would be reachable from outside without TLS.
        Conflict: it runs already, or the database is another network's.
        Unavailable: a port is in use.
        FallowError: what the engines raise (`engine.*`).

    Where it refuses, nothing is left of a folder that was not there before; see `_Fresh`.
    """
    reach = await asyncio.to_thread(reach_of, settings)
    settings = msgspec.structs.replace(settings, host=reach.bind, http_port=reach.port)
    user = settings.engine_user or None
    fresh = _Fresh(data)
    make_data_folder(data, choose_user(user, data / "nats"))
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, data_lock(data, "fallow up"))
        stack.enter_context(fresh)
        ports = ports_of(data, settings)
        await wait_free(settings, ports)
        keep_ports(data, ports)
        settings = msgspec.structs.replace(
            settings, http_port=ports["http"], bus_port=ports["bus"], chain_port=ports["chain"]
        )
        now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
        tls = await asyncio.to_thread(prepare_tls, data, settings, reach.names, now) if reach.tls else None
        backups = backups_of(settings)
        postgres = None if settings.postgres_url else EmbeddedPostgres(data, user=user, backups=backups)
        place = await _engines(stack, data, settings, ports, Door(reach, tls), postgres)
        fresh.stays()
        await asyncio.to_thread(check_contracts, data, place)
        write_place(data, place)
        write_private(data / EFFECTIVE, msgspec.json.encode(settings).decode() + "\n")
        installer = await asyncio.to_thread(make_installer)
        await asyncio.to_thread(write_installer, data, installer)
        for role in roles_of(settings):
            await stack.enter_async_context(_role(data, role))
        keys = await asyncio.to_thread(load_keys, data)
        first = await _first_keys(data, place, keys, settings)
        if postgres is not None and backups is not None:
            await stack.enter_async_context(backing_up(data, postgres, backups, settings.backup_days))
        yield Welcome(
            place.net, place.url, first, tls.ca if tls else "", tls.pin if tls else "", installer.sha256,
            place.chain, place.gateways,
        )  # fmt: skip


class _Fresh:
    """A data folder at its first start: it is deleted where the start is refused before it has become a network's.

    Where an engine fails its log stays, for whoever looks why. The lock of the folder must be held.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._new = not data.exists()

    def stays(self) -> None:
        """It is a network's now: a database is bound to its key."""
        self._new = False

    def __enter__(self) -> None:
        """Nothing is done before the end."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Clean up after a refusal; the engines have ended by now."""
        said_no = isinstance(error, InvalidInput | Conflict)
        if self._new and (said_no or (isinstance(error, FallowError) and not (self._data / "logs").exists())):
            shutil.rmtree(self._data)


class Door(NamedTuple):
    """Where the network listens, and with which certificate; None is plain text, on this very machine."""

    reach: Reach
    tls: Tls | None

    def url(self, scheme: str, settings: Settings, port: int) -> str:
        """Return what others reach a port by."""
        host = public_host(settings, self.reach, self.tls) if self.tls else self.reach.host
        return url_of(scheme, host, port)


async def _engines(
    stack: AsyncExitStack,
    data: Path,
    settings: Settings,
    ports: Mapping[str, int],
    door: Door,
    postgres: EmbeddedPostgres | None,
) -> Place:
    dsn = (await stack.enter_async_context(postgres)).dsn() if postgres is not None else settings.postgres_url
    keys = await asyncio.to_thread(load_keys, data, create=True)
    bus_url, bus_public_url = await _bus(stack, data, settings, ports["bus"], door, keys)
    await migrate_at(dsn, *(builtin(schema) for schema in SCHEMAS), *migrations())
    async with open_database(dsn, pool_size=1) as database:
        net = network_id(data, settings.preset)
        await claim_database(database, net, bytes(keys.network.verify_key))
    return Place(
        net=net,
        postgres_dsn=dsn,
        bus_url=bus_url,
        bus_public_url=bus_public_url,
        url=door.url("https" if door.tls else "http", settings, ports["http"]),
        http_host=settings.host,
        http_port=ports["http"],
        any_host=door.reach.everywhere,
        names=await asyncio.to_thread(own_names, door.reach, door.tls),
        tls=door.tls,
        own_bus=not settings.nats_url,
        bus_ca=settings.nats_ca,
        chain=chain_place(net, settings, door.url("https" if door.tls else "http", settings, ports["chain"])),
        gateways={role: door.url("https" if door.tls else "http", settings, ports[role]) for role in gateway_roles()},
    )


def roles_of(settings: Settings) -> tuple[str, ...]:
    """Return the roles to start, in their order: others read what the chain's first start leaves."""
    chain = ("chain",) if settings.preset == PUBLIC else ()
    return (*chain, *(CORE if settings.split_core else ("core",)), "gateway", *gateway_roles())


async def _bus(
    stack: AsyncExitStack, data: Path, settings: Settings, port: int, door: Door, keys: NetworkKeys
) -> tuple[str, str]:
    """Start the embedded bus, or use the operator's; returns how it is reached from here and by others."""
    if settings.nats_url:
        url = given_bus(settings.nats_url)
        return url, url
    files = (Path(door.tls.cert), Path(door.tls.key)) if door.tls else None
    nats = EmbeddedNats(
        data, host=settings.host, port=port, config=bus_config(keys), tls=files, user=settings.engine_user or None,
        max_connections=settings.bus_connections_max,
    )  # fmt: skip
    await stack.enter_async_context(nats)
    return nats.url, door.url("tls" if door.tls else "nats", settings, port)


def given_bus(text: str) -> str:
    """Return the address of the operator's NATS server, with its port. It holds no password: everybody is told it.

    Raises:
        InvalidInput: it is none (`nats.url`), or it is elsewhere and in plain text (`nats.plain`).
    """
    wrong = InvalidInput("nats.url", "nats_url is no address of a NATS server.", "It looks like tls://HOST:4222")
    try:
        url = urlsplit(text)
        port = NATS_PORT if url.port is None else url.port
    except ValueError:
        raise wrong from None
    if url.scheme not in {"nats", "tls"} or not url.hostname or not port or "@" in url.netloc or url.path.strip("/"):
        raise wrong
    if url.scheme == "nats" and not is_loopback(url.hostname):
        raise InvalidInput("nats.plain", f"{url.hostname} is not spoken to in plain text.", "tls://HOST:4222")
    return url_of(url.scheme, url.hostname, port)


@asynccontextmanager
async def _role(data: Path, role: str) -> AsyncIterator[Supervisor]:
    """Keep `fallow serve --role ROLE` running, in a process of its own."""
    ready = data / f"{role}.ready"

    async def start() -> Child:
        ready.unlink(missing_ok=True)
        child = await spawn(_program(data, role, ready))
        try:
            await child.ready(ready.exists, REPLAY_S if role == "chain" else READY_S)
        except BaseException:
            await child.stop(STEPS[1:])
            raise
        return child

    async with Supervisor(f"role {role}", start, STEPS) as supervisor:
        yield supervisor


def _program(data: Path, role: str, ready: Path) -> Program:
    command = (sys.executable, "-m", "fallow.bootstrap.serve", role, str(data), str(data / EFFECTIVE), str(ready))
    ourselves = EngineUser(os.geteuid(), os.getegid(), drop=False)
    # How an archive elsewhere is reached. All else comes in the settings' file, or not at all.
    given = {name: value for name, value in os.environ.items() if name.startswith(ARCHIVE_PREFIX)}
    # Politely they would take seconds to end, beside those of the next `fallow up`; nothing is lost by a kill.
    return Program(command, ourselves, data / "logs" / f"{role}.log", signal.SIGKILL, environment=ENVIRONMENT | given)


async def _first_keys(data: Path, place: Place, keys: NetworkKeys, settings: Settings) -> FirstKeys:
    """Make the first keys and the first credits once; show the same ones at every later start."""
    file = data / "secrets" / "first-keys.json"
    if not file.exists():
        async with connect_nats(
            place.bus_url,
            signer=signer(keys.core),
            name="up",
            tls=bus_context(place),
            inbox_prefix=inbox_prefix(bytes(keys.core.verify_key)),
        ) as bus:
            first = await _make_keys(bus, settings)
        write_private(file, msgspec.json.encode(first._asdict()).decode() + "\n")
    first = FirstKeys(**msgspec.json.decode(file.read_bytes()))
    # It may have been made when the network had another authority, or none.
    token = split_token(first.join_token)._replace(pin=place.tls.pin if place.tls else "")
    return first._replace(join_token=token.text)


async def _make_keys(bus: Bus, settings: Settings) -> FirstKeys:
    operator = await call(
        bus, calls.keys.CREATE_KEY, calls.keys.CreateKey(scopes=["operate"], label="operator"), calls.keys.Secret
    )
    first = calls.keys.CreateKey(scopes=["buy", "withdraw"], label="first buyer")
    buyer = await call(bus, calls.keys.CREATE_KEY, first, calls.keys.Secret)
    if settings.test_credits_usd:
        amount = settings.test_credits_usd * USD
        grant = calls.money.Grant(id="0" * 31 + "1", account=buyer.account, amount_microusd=amount)
        await call(bus, calls.money.GRANT, grant, BalanceView)
    for gift in (_gift("fee", settings.checks_usd), _gift("reserve", settings.reserve_usd)):
        if gift is not None:
            await call(bus, calls.money.FUND, gift, dict[str, str])
    token = await call(
        bus, calls.keys.CREATE_TOKEN, calls.keys.CreateToken(uses=100, valid_s=7 * 86_400), calls.keys.Secret
    )
    return FirstKeys(buyer.secret, buyer.account, operator.secret, token.secret)


def _gift(purpose: Literal["fee", "reserve"], usd: int) -> calls.money.Fund | None:
    """What the network starts with for a purpose; its id is fixed, so that it is given once."""
    fund_id = hashlib.sha256(purpose.encode()).hexdigest()[:32]
    return calls.money.Fund(id=fund_id, purpose=purpose, amount_microusd=usd * USD) if usd else None
