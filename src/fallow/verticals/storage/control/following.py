"""Follows ingest's log: where nodes say they are, and what they have served."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.batches import stored_records
from fallow.domain.billing import PPM
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import OfferMade, PlacedOfferMade, SpotOfferMade
from fallow.domain.fees import Fees
from fallow.domain.records import Record
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.ingest_store import IngestStore, LoggedBatch
from fallow.ports.registry_store import RegistryStore
from fallow.verticals.storage.control.hosted import HostedGateways
from fallow.verticals.storage.control.limits import REPAIRS
from fallow.verticals.storage.control.rates import rates
from fallow.verticals.storage.control.rolling import add_orders
from fallow.verticals.storage.control.served import Moved, Reader
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.handed_in import Added, HandedIn, Overstated, additions
from fallow.verticals.storage.core.tariff import DAY_MS

BATCHES_AT_ONCE: Final = 16
LOOK_S: Final = 2.0
SERIALS_AT_ONCE: Final = 10_000
_POSITION: Final = "SELECT pos FROM storage.cursor WHERE name = 'log'"
_LOCKED_POSITION: Final = "SELECT pos FROM storage.cursor WHERE name = 'log' FOR UPDATE"
_Day = tuple[int, int]
"""Bucket, and days since 1970."""
_NodeDay = tuple[bytes, int, bool]
"""Node, days since 1970, and whether it was read for repairs."""


class _Read(NamedTuple):
    """Bytes, and what they cost in the parts that sums are kept in."""

    bytes: int = 0
    cost: int = 0

    def plus(self, size: int, rate: int) -> _Read:
        return _Read(self.bytes + size, self.cost + size * rate)


_OFFERS: Final = {offer.version: offer for offer in (OfferMade, SpotOfferMade, PlacedOfferMade)}


class _News(NamedTuple):
    """What batches say, up to a position."""

    pos: int
    countries: dict[bytes, str]
    moved: list[Moved]
    overstated: list[Overstated]


class Follower:
    """Takes each record once: what it means and how far the log was read are written in one transaction."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        log: IngestStore,
        registry: RegistryStore,
        reader: Reader,
        fees: Fees,
        hosted: HostedGateways,
    ) -> None:
        self._clock = clock
        self._fees = fees
        self._database = database
        self._log = log
        self._registry = registry
        self._reader = reader
        self._hosted = hosted

    async def follow(self) -> None:
        """Read whatever comes, until cancelled."""
        while True:
            while await self.read_on():
                pass
            await self.forget()
            await self._clock.sleep(LOOK_S)

    async def read_on(self) -> bool:
        """Read the next batches; whether there were any."""
        async with self._database.transaction() as tx:
            pos = await _position(tx)
            batches = await self._log.after(tx, pos, BATCHES_AT_ONCE)
        if not batches:
            return False
        news = await asyncio.to_thread(self._understand, batches)
        async with self._database.transaction() as tx:
            if await _position(tx, lock=True) == pos:  # nobody else was faster
                await tx.execute("UPDATE storage.cursor SET pos = $1 WHERE name = 'log'", news.pos)
                await _place(tx, news.countries)
                await self._count(tx, news.moved)
                await self._hosted.convict(tx, news.overstated)
        return True

    async def forget(self) -> None:
        """Forget serials that nothing counts under any more. Once all is read: what came in time may be read late."""
        async with self._database.transaction() as tx:
            await tx.execute(
                "DELETE FROM storage.serial WHERE serial IN"
                " (SELECT serial FROM storage.serial WHERE until_ms < $1 LIMIT $2)",
                self._clock.now_ms() - DAY_MS,
                SERIALS_AT_ONCE,
            )

    async def _count(self, tx: Transaction, moved: Sequence[Moved]) -> None:
        """Count what is more than was counted under the same limit before."""
        rows = await self._registry.nodes(tx, list({one.limit.node for one, _, _ in moved}))
        payees = {row.node: row.account for row in rows}
        known = [each for each in moved if each.one.limit.node in payees]
        said = {each.one.limit.serial: each for each in known}
        paid = await rates(tx, {payer.account for _, payer, _ in known if payer != REPAIRS})
        by_payee: defaultdict[tuple[bytes, bytes], int] = defaultdict(int)
        by_day: defaultdict[_Day, _Read] = defaultdict(_Read)
        by_node: defaultdict[_NodeDay, _Read] = defaultdict(_Read)
        added: defaultdict[bytes, list[Added]] = defaultdict(list)
        for each in additions([each.one for each in known], await _counted(tx, known)):
            node, (_, payer, at_ms) = each.one.limit.node, said[each.one.limit.serial]
            by_payee[payer.account, payees[node]] += each.more
            rate = 0 if payer == REPAIRS else paid[payer.account].egress
            day, of_node = (payer.bucket, at_ms // DAY_MS), (node, at_ms // DAY_MS, payer == REPAIRS)
            by_day[day] = by_day[day].plus(each.more, rate)
            by_node[of_node] = by_node[of_node].plus(each.more, rate)
            added[node].append(each)
        await _add(tx, by_payee, by_day)
        await _add_by_node(tx, by_node, PPM - self._fees.at(self._clock.now_ms()).fee_ppm)
        await add_orders(tx, added)

    def _understand(self, batches: Sequence[LoggedBatch]) -> _News:
        news = _News(batches[-1].pos, {}, [], [])
        for batch in batches:
            records = stored_records(batch.data)
            for record in records:
                country = _country(record)
                if country is not None:
                    news.countries[record.node] = country
            served = [record for record in records if record.kind == StorageServed.kind]
            said = self._reader.read(served, batch.received_at)
            news.moved.extend(said.moved)
            news.overstated.extend(said.overstated)
        return news


def _country(record: Record) -> str | None:
    offer = _OFFERS.get(record.v) if record.kind == OfferMade.kind else None
    if offer is None:
        return None
    try:
        return record.read(offer).country
    except InvalidInput:
        return None


async def _position(tx: Transaction, *, lock: bool = False) -> int:
    rows = await tx.fetch(_LOCKED_POSITION if lock else _POSITION)
    return int(rows[0]["pos"])


async def _place(tx: Transaction, countries: Mapping[bytes, str]) -> None:
    await tx.execute(
        "INSERT INTO storage.country (node, country) SELECT * FROM unnest($1::bytea[], $2::text[])"
        " ON CONFLICT (node) DO UPDATE SET country = EXCLUDED.country",
        list(countries),
        list(countries.values()),
    )


async def _counted(tx: Transaction, moved: Sequence[Moved]) -> dict[bytes, int]:
    """Note what was ordered by serial, and return what had been noted before."""
    most: dict[bytes, HandedIn] = {}
    for one, _, _ in moved:
        before = most.setdefault(one.limit.serial, one)
        if before.bytes_all < one.bytes_all:
            most[one.limit.serial] = one
    known = await tx.fetch("SELECT serial, bytes FROM storage.serial WHERE serial = ANY($1::bytea[])", list(most))
    await tx.execute(
        "INSERT INTO storage.serial AS s (serial, bytes, until_ms)"
        " SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[])"
        " ON CONFLICT (serial) DO UPDATE SET bytes = greatest(s.bytes, EXCLUDED.bytes)",
        list(most),
        [one.bytes_all for one in most.values()],
        [one.until_ms for one in most.values()],
    )
    return {row["serial"]: int(row["bytes"]) for row in known}


async def _add(tx: Transaction, by_payee: Mapping[tuple[bytes, bytes], int], by_day: Mapping[_Day, _Read]) -> None:
    payees, days = sorted(by_payee), sorted(by_day)
    await tx.execute(
        "INSERT INTO storage.egress AS e (account, payee, bytes)"
        " SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::numeric[])"
        " ON CONFLICT (account, payee) DO UPDATE SET bytes = e.bytes + EXCLUDED.bytes",
        [account for account, _ in payees],
        [payee for _, payee in payees],
        [by_payee[key] for key in payees],
    )
    await tx.execute(
        "INSERT INTO storage.day AS d (bucket, day, egress, cost)"
        " SELECT * FROM unnest($1::bigint[], $2::integer[], $3::numeric[], $4::numeric[])"
        " ON CONFLICT (bucket, day) DO UPDATE SET egress = d.egress + EXCLUDED.egress, cost = d.cost + EXCLUDED.cost",
        [bucket for bucket, _ in days],
        [day for _, day in days],
        [by_day[key].bytes for key in days],
        [by_day[key].cost for key in days],
    )


async def _add_by_node(tx: Transaction, by_node: Mapping[_NodeDay, _Read], left_ppm: int) -> None:
    """`left_ppm` is what owners have of what is paid."""
    rows = sorted(by_node)
    await tx.execute(
        "INSERT INTO storage.lender_day AS d (alias, day, egress, repaired, earned)"
        " SELECT n.alias, s.day, coalesce(sum(s.bytes) FILTER (WHERE NOT s.repairs), 0),"
        "  coalesce(sum(s.bytes) FILTER (WHERE s.repairs), 0), sum(s.earned)"
        " FROM unnest($1::bytea[], $2::integer[], $3::boolean[], $4::numeric[], $5::numeric[])"
        "  AS s (node, day, repairs, bytes, earned)"
        " JOIN storage.node n USING (node) GROUP BY n.alias, s.day ORDER BY n.alias, s.day"
        " ON CONFLICT (alias, day) DO UPDATE SET egress = d.egress + EXCLUDED.egress,"
        "  repaired = d.repaired + EXCLUDED.repaired, earned = d.earned + EXCLUDED.earned",
        [node for node, _, _ in rows],
        [day for _, day, _ in rows],
        [repairs for _, _, repairs in rows],
        [by_node[row].bytes for row in rows],
        [by_node[row].cost * left_ppm // PPM for row in rows],
    )
