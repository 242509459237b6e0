"""The network's side of storage on PostgreSQL, with nodes, clients and buckets that exist for tests only."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from nacl.signing import SigningKey

import fallow.verticals.storage.control
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, load, migrate
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.postgres.subscriptions import PostgresSubscriptionStore
from fallow.domain.batches import open_batch
from fallow.domain.billing import FeePolicy
from fallow.domain.calls.base import AccountRef
from fallow.domain.calls.subscriptions import METER, SUBSCRIPTIONS, MeterUse, Subscribe
from fallow.domain.chart import accounts_of, grant, network_accounts
from fallow.domain.errors import FallowError, NotFound, Unavailable
from fallow.domain.facts import OfferMade
from fallow.domain.fees import Fees
from fallow.domain.identity import address_text
from fallow.domain.records import Body
from fallow.domain.resources import Resources, Terms
from fallow.domain.signing import Sign
from fallow.domain.streams import DirectAddress
from fallow.domain.subscriptions import Tariff
from fallow.domain.views.money import SubscriptionView
from fallow.ports.database import Transaction
from fallow.ports.ingest_store import BatchKey, StoredBatch
from fallow.ports.registry_store import NodeRow
from fallow.ports.rpc import serve
from fallow.ports.streams import Link
from fallow.ports.vertical.control import ControlGround, Hosted
from fallow.services.settle.subscriptions import Subscriptions
from fallow.verticals.storage.control.buckets_port import BucketRow
from fallow.verticals.storage.control.choosing import Uniform
from fallow.verticals.storage.control.paying import Paying
from fallow.verticals.storage.control.places import UNIFORM, Places
from fallow.verticals.storage.control.usage import Used
from fallow.verticals.storage.core.calls.accounts import USAGE_DAYS_MAX, Usage, UsedDay
from fallow.verticals.storage.core.calls.segments import (
    BeginSegment,
    EndSegment,
    Place,
    Plan,
    ReadSegments,
    SegmentRead,
)
from fallow.verticals.storage.core.exiting import ExitWish
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.orders import Order, OrderLimit, PieceReceipt
from fallow.verticals.storage.core.questions import (
    PIECES_AT_ONCE,
    ExitSays,
    Held,
    Page,
    Purge,
    Stock,
    TakeBack,
    Tell,
    Trash,
    read_question,
)
from fallow.verticals.storage.core.tariff import TARIFF, VERTICAL
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, Node
from tests.unit.fake_network import HandClock

BUYER = b"b" * 20
BUCKET = BucketRow(7, BUYER, "", ())
NAME = "pictures"
OBJECT, VERSION = b"sealed name", b"v" * 16
STREAM = b"s" * 16
OTHER = b"o" * 16
HOUR_MS = 3_600_000
_SCHEMA = Path(fallow.verticals.storage.control.__file__).parent / "schema"


def signing(key: SigningKey) -> Sign:
    return lambda message: key.sign(message).signature


def no_relay() -> AbstractAsyncContextManager[Link]:
    """There is no relay."""
    raise AssertionError


def no_line(address: DirectAddress, node: bytes) -> AbstractAsyncContextManager[Link]:
    """Nobody can be dialled."""
    raise AssertionError(address, node)


class Killed(Exception):
    """Ends a process between two steps."""


class Machine(Node):
    """A node that lends, and does what it is asked."""

    def __init__(self, number: int, *, account: bytes = b"", network: str = "", room: int = 10**12) -> None:
        super().__init__(number)
        self.account = account or number.to_bytes(20)
        self.network = network or f"192.0.{number}.0/24"
        self.room = room
        self.trouble = ""
        self.away = False
        self.silent = False
        """Is there, and does not say what it has."""
        self.wish = b""
        self.left = b""
        """Its sealed receipt: it has been started anew since, and serves nothing."""
        self.says: list[ExitSays] = []
        """What it heard of how far it is, once it leaves."""
        self.told: list[bytes] = []
        """Sealed statements."""
        self.dies = False
        """Does what it is asked, and whoever asked dies before he hears of it."""
        self.has: set[bytes] = set()
        self.stored_ms: dict[bytes, int] = {}
        """By its own clock, which is wrong by so much."""
        self.skew_ms = 0
        self.used: set[bytes] = set()
        self.now_ms: Callable[[], int] = lambda: 0
        self.trashed: list[bytes] = []
        self.purged: list[bytes] = []

    def stock(self) -> bytes:
        return msgspec.msgpack.encode(
            Stock(
                limit_bytes=10**12,
                used_bytes=0,
                room_bytes=self.room,
                trash_bytes=0,
                pieces=0,
                trouble=self.trouble,
                wish=self.wish,
                receipt=self.left,
            )
        )

    def wish_to_leave(self, now_ms: int, net: str = NET) -> None:
        self.wish = ExitWish(net=net, node=self.id, at_ms=now_ms).seal(signing(self.key))
        self.trouble = "storage.leaving"

    async def asked(self, question: bytes) -> bytes:
        asked = read_question(question)
        if self.silent:
            raise Unavailable("stream.unreachable", "It does not answer.")
        if isinstance(asked, TakeBack):
            self.has |= {piece for piece in asked.pieces if piece in self.trashed}
        if isinstance(asked, Held | TakeBack):
            return msgspec.msgpack.encode([piece for piece in asked.pieces if piece in self.has])
        if isinstance(asked, Page):
            return msgspec.msgpack.encode(self.page(asked))
        if isinstance(asked, ExitSays):
            self.says.append(asked)
            return b""
        if isinstance(asked, Tell):
            self.told.append(asked.statement)
            return b""
        assert isinstance(asked, Trash | Purge)
        (self.trashed if isinstance(asked, Trash) else self.purged).extend(asked.pieces)
        self.has.difference_update(asked.pieces)
        if self.dies:
            raise Killed
        return b""

    def page(self, asked: Page) -> list[bytes]:
        old = [piece for piece in self.has if self.stored_ms.get(piece, 0) < asked.before_ms]
        return sorted(piece for piece in old if piece > asked.after)[:PIECES_AT_ONCE]

    def receipt(self, limit: bytes, length: int | None = None) -> bytes:
        allowed = OrderLimit.open(limit, NETWORK_KEY)
        size = allowed.bytes_max if length is None else length
        if allowed.serial not in self.used and self.now_ms() < allowed.expires_ms:
            self.used.add(allowed.serial)
            self.has.add(allowed.piece)
            self.stored_ms[allowed.piece] = self.now_ms() + self.skew_ms
        return PieceReceipt(net=NET, node=self.id, piece=allowed.piece, length=size, hash=bytes(32), durable=True).seal(
            signing(self.key)
        )


class Versions:
    """A bucket with one version; see `Buckets`."""

    def __init__(self) -> None:
        self.bucket = BUCKET
        self.version: tuple[bytes, int, Sequence[tuple[int, int]]] = (STREAM, 0, [])

    async def bucket_of(self, tx: Transaction, account: str, name: str) -> BucketRow:  # noqa: ARG002 - the port's
        if name != NAME or account != address_text(BUYER):
            raise NotFound("storage.no_bucket", "There is no such bucket.")
        return self.bucket

    async def version_stream(
        self,
        tx: Transaction,  # noqa: ARG002 - the port's
        bucket_id: int,
        sealed_name: bytes,
        version: bytes,
    ) -> tuple[bytes, int, Sequence[tuple[int, int]]]:
        assert (bucket_id, sealed_name, version) == (self.bucket.id, OBJECT, VERSION)
        return self.version


class World:
    """One process of the network's core, and everybody around it."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.clock = HandClock()
        self.database = database
        self.registry, self.log, self.ledger = PostgresRegistryStore(), PostgresIngestStore(), PostgresLedger()
        self.machines: dict[bytes, Machine] = {}
        self.client = SigningKey(b"c" * 32)
        self.versions = Versions()
        self.hosted = Hosted(bytes(self.client.verify_key), nothing_staked)
        self.grants = 0
        self.fees = Fees(FeePolicy(100_000, 0))
        hub = MemoryHub()
        self.settle = Subscriptions(
            bus=hub.connect(),
            clock=self.clock,
            database=database,
            ledger=self.ledger,
            store=PostgresSubscriptionStore(),
            budgets=PostgresBudgetStore(),
            decisions=PostgresDecisionStore(),
            fees=self.fees,
            epoch_ms=86_400_000,
        )
        self.bus: MemoryBus = hub.connect()
        self.places = self.process()

    def ground(self) -> ControlGround:
        """What a process of the core stands on."""
        return ControlGround(
            net=NET,
            network_key=NETWORK_KEY,
            secret=b"secret of thirty-two bytes here.",
            sign=signing(NETWORK),
            clock=self.clock,
            bus=self.bus,
            database=self.database,
            registry=self.registry,
            log=self.log,
            decisions=PostgresDecisionStore(),
            ask=self._ask,
            told=self._told,
            relay=no_relay,
            direct=no_line,
            fees=self.fees,
            hosted=self.hosted,
        )

    def process(self, uniform: Uniform = UNIFORM, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> Places:
        """A process that has just started, on the same database."""
        paying = Paying(self.bus, self.clock)
        return Places(self.ground(), self.versions, paying, uniform=uniform, random_bytes=random_bytes)

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[AsyncIterator[tuple[bytes, bytes]]]:
        async def words() -> AsyncIterator[tuple[bytes, bytes]]:
            for machine in self.machines.values():
                yield machine.id, machine.stock()

        yield words()

    async def _ask(self, node: bytes, question: bytes, *, timeout_s: float = 10.0) -> bytes:
        machine = self.machines[node]
        if machine.away:
            raise Unavailable("bus.no_responders", f"Nobody answered within {timeout_s} s.")
        return await machine.asked(question)

    async def enrol(self, *machines: Machine, country: str = "") -> None:
        async with self.database.transaction() as tx:
            for machine in machines:
                self.machines[machine.id] = machine
                machine.now_ms = self.clock.now_ms
                if not await self.registry.has_account(tx, machine.account):
                    await self.registry.add_account(tx, machine.account, None, 1)
                await self.registry.add_node(tx, NodeRow(machine.id, machine.account, "", 1, ""))
                if machine.network != "unknown":
                    await self.registry.observe(tx, machine.id, machine.network, 1)
        if country:
            for machine in machines:
                await self.say(machine, offer(country))
            await self.read_log()
        await self.tell()

    async def tell(self, places: Places | None = None) -> None:
        """All who are there say what they have."""
        for machine in self.machines.values():
            if not machine.away:
                (places or self.places).nodes.hear(machine.id, machine.stock())
        await (places or self.places).nodes.write()

    async def say(self, machine: Machine, *bodies: Body) -> None:
        """A node's records reach the log."""
        data = machine.batch(*bodies)
        batch = open_batch(data, net=NET)
        key = BatchKey(batch.node, batch.boot, batch.seq)
        row = StoredBatch(key, 1, len(batch.records), batch.root, data, b"promise", self.clock.now_ms())
        async with self.database.transaction() as tx:
            await self.log.append(tx, [row], [])

    async def read_log(self) -> None:
        while await self.places.follower.read_on():
            pass

    async def subscribe(
        self,
        limit_microusd: int = 1_000_000,
        number: int = 1,
        paid: int = 10**9,
        account: bytes = BUYER,
        tariff: Tariff = TARIFF,
    ) -> str:
        self.grants += 1
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, [*network_accounts(), *accounts_of(account)])
            await self.ledger.post(tx, [grant(f"{self.grants:032x}", account, paid)], 1)
        name = f"{number:032x}"
        await self.settle.open(
            Subscribe(
                id=name,
                account=address_text(account),
                vertical=VERTICAL,
                tariff=tariff,
                limit_microusd=limit_microusd,
            )
        )
        return name

    async def usage(self) -> list[UsedDay]:
        """What the bucket used on each day."""
        span = Usage(account=address_text(BUYER), from_day=0, to_day=USAGE_DAYS_MAX - 1)
        return [day for bucket in await Used(self.database).usage(span) for day in bucket.days]

    async def owed(self) -> list[SubscriptionView]:
        return await self.settle.list_of(AccountRef(account=address_text(BUYER)))

    async def begin(
        self,
        payload: int = 1_000_000,
        stream: bytes = STREAM,
        part: int = 0,
        index: int = 0,
        by_grant: bytes = b"",
    ) -> Plan:
        return await self.places.begin(
            BeginSegment(
                account=address_text(BUYER),
                bucket=NAME,
                stream=stream,
                part=part,
                index=index,
                payload=payload,
                client=bytes(self.client.verify_key),
                key=b"k" * 60,
                by_grant=by_grant,
            )
        )

    def receipts(self, plan: Plan, places: Sequence[Place] = ()) -> dict[int, bytes]:
        return {
            place.number: self.machines[place.node].receipt(place.limit)
            for place in places or plan.places[: plan.pieces]
        }

    async def end(self, plan: Plan, receipts: dict[int, bytes] | None = None) -> None:
        await self.places.end(
            EndSegment(
                account=address_text(BUYER),
                segment=plan.segment,
                receipts=self.receipts(plan) if receipts is None else receipts,
            )
        )

    async def store(self, payload: int = 1_000_000, stream: bytes = STREAM, part: int = 0, index: int = 0) -> Plan:
        plan = await self.begin(payload, stream, part, index)
        await self.end(plan)
        return plan

    async def keep(self, stream: bytes = STREAM, size: int | None = None) -> int:
        """Make a version of a stream."""
        async with self.database.transaction() as tx:
            stored = await self.places.segments.stored_bytes(tx, BUCKET.id, stream, None)
        self.versions.version = stream, stored if size is None else size, []
        return stored

    async def drop(self, *streams: bytes, purge: bool = False) -> None:
        async with self.database.transaction() as tx:
            await self.places.segments.drop(tx, BUCKET.id, streams, purge=purge)

    async def read(self, start: int, stop: int, *, every: bool = False) -> list[SegmentRead]:
        return await self.places.read(
            ReadSegments(
                account=address_text(BUYER),
                bucket=NAME,
                object=OBJECT,
                version=VERSION,
                start=start,
                stop=stop,
                client=bytes(self.client.verify_key),
                every=every,
            )
        )

    async def collect(self, places: Places | None = None) -> None:
        """Do all that can be done about garbage now."""
        garbage = (places or self.places).garbage
        await garbage.forget()
        while await garbage.spread():
            pass
        while await garbage.let_go():
            pass
        while await garbage.ask_all():
            pass

    def order(self, limit: bytes, size: int, key: SigningKey | None = None) -> bytes:
        allowed = OrderLimit.open(limit, NETWORK_KEY)
        return Order(serial=allowed.serial, bytes_all=size).seal(signing(key or self.client))

    def served(self, *pairs: tuple[bytes, int]) -> StorageServed:
        return StorageServed(served=[[limit, self.order(limit, size)] for limit, size in pairs])

    async def count(self, table: str) -> int:
        async with self.database.transaction() as tx:
            return int((await tx.fetch(f"SELECT count(*) AS n FROM storage.{table}"))[0]["n"])  # noqa: S608 - a test's


async def nothing_staked(_: bytes) -> int:
    return 0


def offer(country: str) -> OfferMade:
    """An offer that is closed: where its node is counts all the same."""
    total = Resources(cpu_milli=1000, memory_mib=1024)
    return OfferMade(offer=1, open=False, total=total, terms=Terms(price_microusd_per_core_hour=1), country=country)


def machines(count: int) -> Iterator[Machine]:
    """Of distinct owners on distinct networks."""
    return (Machine(number) for number in range(1, count + 1))


WorldT = TypeVar("WorldT", bound=World)


@asynccontextmanager
async def places_world(dsn: str) -> AsyncIterator[World]:
    """An empty network."""
    async with world_of(dsn, World) as world:
        yield world


@asynccontextmanager
async def stocked_world(dsn: str) -> AsyncIterator[World]:
    """A network with twelve machines, and a buyer who has a subscription."""
    async with places_world(dsn) as world:
        await world.subscribe()
        await world.enrol(*machines(12))
        yield world


@asynccontextmanager
async def world_of(dsn: str, kind: Callable[[PostgresDatabase], WorldT]) -> AsyncIterator[WorldT]:
    """An empty network of some kind."""
    async with open_database(dsn, pool_size=10) as database:
        await migrate(database, *(builtin(one) for one in ("registry", "ingest", "ledger", "settle", "outbox")))
        await migrate(database, load("storage", _SCHEMA))
        world = kind(database)
        async with (
            serve(world.bus, METER, MeterUse, world.settle.meter, queue="settle"),
            serve(world.bus, SUBSCRIPTIONS, AccountRef, world.settle.list_of, queue="settle"),
        ):
            yield world


async def caught(work: Coroutine[Any, Any, None]) -> FallowError | None:
    try:
        await work
    except FallowError as error:
        return error
    return None
