"""Which nodes lend, as they say themselves and as the network sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.mishaps import steadily
from fallow.ports.registry_store import RegistryStore
from fallow.ports.tasks import background
from fallow.ports.vertical.control import ControlGround
from fallow.verticals.storage.core.questions import Stock

ONLINE_MS: Final = 30_000
WRITE_EVERY_MS: Final = 10_000
LOOK_S: Final = 1.0
LOST_MS: Final = 4 * 3_600_000
"""A node that was not heard for so long counts as lost, until it is back."""
ROOM_BYTES_MAX: Final = 32 * 10**12
"""More room than one large disk has counts as that: nodes are drawn by their own word on it, and who says that his has
no end would be drawn for each segment."""
SETTLE_MS: Final = 900_000
"""Nobody counts as lost before a process has listened for so long: it may be the network that was away."""


class Lender(msgspec.Struct, kw_only=True):
    """A node that lends. `room_bytes` is what it said last, less what it was named for since then.

    `exit`: "leaving" with its disk, or "left"; from then on nothing counts that is there.
    """

    alias: int
    node: bytes
    account: bytes
    network: str
    country: str
    limit_bytes: int
    used_bytes: int
    room_bytes: int
    seen_ms: int
    trouble: str
    standing: str = ""
    exit: str = ""
    banned: bool = False


class Nodes:
    """Those that lend: in memory, since each placement asks for all of them, and written every few seconds.

    Each process of the network's core hears all of them by itself; they write the same rows.
    """

    def __init__(self, clock: Clock, database: Database, registry: RegistryStore) -> None:
        self._clock = clock
        self._database = database
        self._registry = registry
        self._by_node: dict[bytes, Lender] = {}
        self._by_alias: dict[int, Lender] = {}
        self._heard: dict[bytes, tuple[Stock, int]] = {}
        self._wishes: dict[bytes, bytes] = {}
        self._left: dict[bytes, Stock] = {}
        self._written_ms = 0
        self._began_ms = clock.monotonic_ms()

    @asynccontextmanager
    async def running(self, ground: ControlGround) -> AsyncIterator[None]:
        """Listen and write while the context is open; what is known from before is there at once."""
        async with self._database.transaction() as tx:
            self._take(await tx.fetch("SELECT * FROM storage.node"))
        async with (
            ground.told() as told,
            background(
                steadily("storage.told", partial(self._listen, told), self._clock),
                steadily("storage.nodes", self._keep_writing, self._clock),
            ),
        ):
            yield

    def hear(self, node: bytes, said: bytes) -> None:
        """Take what a node's worker tells; what makes no sense counts as silence."""
        try:
            stock = msgspec.msgpack.decode(said, type=Stock)
        except UNREADABLE:
            return
        if stock.receipt:
            self._left[node] = stock
            return
        now = self._clock.now_ms()
        stock = msgspec.structs.replace(stock, room_bytes=min(stock.room_bytes, ROOM_BYTES_MAX))
        self._heard[node] = stock, now
        lender = self._by_node.get(node)
        if lender is not None:
            _update(lender, stock, now)
            if stock.wish and not lender.exit:
                self._wishes[node] = stock.wish

    def candidates(self, without: Collection[int] = ()) -> list[Lender]:
        """Those that may be given something now, but for nodes, owners and networks of these aliases."""
        out = [self._by_alias[alias] for alias in without if alias in self._by_alias]
        owners, networks = {one.account for one in out}, {one.network for one in out}
        since = self._clock.now_ms() - ONLINE_MS
        return [
            one
            for one in self._by_alias.values()
            if one.seen_ms > since
            and not (one.trouble or one.banned or one.standing or one.exit)
            and one.account not in owners
            and one.network not in networks
        ]

    def wishes(self) -> list[tuple[Lender, bytes]]:
        """Who wants to leave with what he lends, each with what he says so with: since this was asked last."""
        wishes, self._wishes = self._wishes, {}
        return [(self._by_node[node], wish) for node, wish in wishes.items()]

    def left(self) -> list[tuple[Lender, Stock]]:
        """Who says that he has left, and is not known to have: since this was asked last."""
        left, self._left = self._left, {}
        known = [(self._by_node[node], stock) for node, stock in left.items() if node in self._by_node]
        return [(lender, stock) for lender, stock in known if lender.exit != "left"]

    def all(self) -> list[Lender]:
        """All that ever lent, as far as this process knows."""
        return [*self._by_alias.values()]

    def online(self) -> list[Lender]:
        """Those that were heard within the last seconds."""
        now = self._clock.now_ms()
        return [one for one in self._by_alias.values() if self._seems_there(one, now)]

    def is_online(self, lender: Lender) -> bool:
        """Whether it was heard within the last seconds."""
        return self._seems_there(lender, self._clock.now_ms())

    def is_well(self, lender: Lender) -> bool:
        """Whether it was heard within the last seconds, and has no trouble."""
        return self.is_online(lender) and not lender.trouble

    def there(self) -> list[Lender]:
        """Those whose pieces count."""
        before = self._lost_before()
        return [one for one in self._by_alias.values() if self._counts(one, before)]

    def lost(self) -> list[int]:
        """The aliases of all others that are known, in their order."""
        before = self._lost_before()
        return sorted(alias for alias, one in self._by_alias.items() if not self._counts(one, before))

    async def of(self, tx: Transaction, aliases: Sequence[int]) -> dict[int, Lender]:
        """Nodes by their aliases."""
        unknown = [alias for alias in aliases if alias and alias not in self._by_alias]
        if unknown:  # another process met them first
            query = "SELECT * FROM storage.node WHERE alias = ANY($1::integer[])"
            self._take(await tx.fetch(query, unknown))
        return {alias: self._by_alias[alias] for alias in aliases if alias in self._by_alias}

    async def write(self) -> None:
        """Write what was heard since the last time, and read what others know of these nodes."""
        heard, self._heard = self._heard, {}
        try:
            async with self._database.transaction() as tx:
                await self._write(tx, heard)
        except BaseException:
            self._heard = {**heard, **self._heard}
            raise
        self._written_ms = self._clock.monotonic_ms()

    async def _write(self, tx: Transaction, heard: dict[bytes, tuple[Stock, int]]) -> None:
        asked = sorted({*heard, *self._by_node})
        known = {row.node: row for row in await self._registry.nodes(tx, asked)}
        networks = await self._registry.networks(tx, asked)
        for lender in self._by_node.values():
            lender.banned = lender.node not in known or bool(known[lender.node].banned_reason)
            lender.network = networks.get(lender.node, "")
        nodes = sorted(node for node in heard if node in known)
        if not nodes:
            return
        stocks = [heard[node][0] for node in nodes]
        rows = await tx.fetch(  # a row that is there uses up no alias, of which there are 2**31
            "INSERT INTO storage.node AS n"
            " (alias, node, account, network, country, limit_bytes, used_bytes, room_bytes, seen_ms, trouble)"
            " OVERRIDING SYSTEM VALUE"
            " SELECT coalesce(k.alias, nextval(pg_get_serial_sequence('storage.node', 'alias'))::integer), h.node,"
            "  h.account, h.network, coalesce(c.country, ''), h.limit_bytes, h.used_bytes, h.room_bytes, h.seen_ms,"
            "  h.trouble"
            " FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],"
            "  $7::bigint[], $8::text[])"
            "  AS h (node, account, network, limit_bytes, used_bytes, room_bytes, seen_ms, trouble)"
            " LEFT JOIN storage.country c USING (node) LEFT JOIN storage.node k USING (node) ORDER BY h.node"
            " ON CONFLICT (node) DO UPDATE SET account = EXCLUDED.account, network = EXCLUDED.network,"
            "  country = EXCLUDED.country, limit_bytes = EXCLUDED.limit_bytes, used_bytes = EXCLUDED.used_bytes,"
            "  room_bytes = EXCLUDED.room_bytes, seen_ms = greatest(n.seen_ms, EXCLUDED.seen_ms),"
            "  trouble = EXCLUDED.trouble"
            " RETURNING n.*",
            nodes,
            [known[node].account for node in nodes],
            [networks.get(node, "") for node in nodes],
            [stock.limit_bytes for stock in stocks],
            [stock.used_bytes for stock in stocks],
            [stock.room_bytes for stock in stocks],
            [heard[node][1] for node in nodes],
            [stock.trouble for stock in stocks],
        )
        self._take(rows)
        for node in nodes:
            self._by_node[node].banned = bool(known[node].banned_reason)

    def _take(self, rows: Sequence[Row]) -> None:
        """Rows of nodes that are known already say where they are; what they have, they said later themselves."""
        for row in rows:
            lender = self._by_node.get(row["node"])
            if lender is None:
                lender = Lender(**dict(row))
                self._by_node[lender.node] = self._by_alias[lender.alias] = lender
            lender.account, lender.network, lender.country = row["account"], row["network"], row["country"]
            lender.standing, lender.exit = row["standing"], row["exit"]

    async def _listen(self, told: AsyncIterator[tuple[bytes, bytes]]) -> None:
        async for node, said in told:
            self.hear(node, said)

    async def _keep_writing(self) -> None:
        while True:
            strangers = any(node not in self._by_node for node in self._heard)
            if strangers or self._clock.monotonic_ms() - self._written_ms >= WRITE_EVERY_MS:
                await self.write()
            await self._clock.sleep(LOOK_S)

    def _lost_before(self) -> int:
        settled = self._clock.monotonic_ms() - self._began_ms >= SETTLE_MS
        return self._clock.now_ms() - LOST_MS if settled else -1

    def _counts(self, lender: Lender, lost_before_ms: int) -> bool:
        sound = not lender.banned and lender.standing != "disqualified" and lender.exit != "left"
        return sound and lender.seen_ms > lost_before_ms

    def _seems_there(self, lender: Lender, now_ms: int) -> bool:
        return lender.seen_ms > now_ms - ONLINE_MS


def _update(lender: Lender, stock: Stock, now_ms: int) -> None:
    lender.limit_bytes, lender.used_bytes, lender.room_bytes = stock.limit_bytes, stock.used_bytes, stock.room_bytes
    lender.trouble, lender.seen_ms = stock.trouble, now_ms
