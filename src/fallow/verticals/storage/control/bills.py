"""Tells settlement what accounts have used, as quantities that only grow, subscription by subscription.

What a subscription is told of is written down before it is told, and never told to another one: where an answer was
lost, its buyer does not pay twice. What does not fit into what a window may still cost waits for the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.calls.subscriptions import METER, Delivery, MeterUse
from fallow.domain.errors import FallowError
from fallow.domain.identity import address_text
from fallow.domain.subscriptions import DELIVERIES_MAX, Price, SubscriptionState
from fallow.domain.views.money import SubscriptionView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.rpc import call
from fallow.verticals.storage.control.limits import REPAIRS
from fallow.verticals.storage.control.metering import lock_sums
from fallow.verticals.storage.control.paying import Paying
from fallow.verticals.storage.control.rates import learn
from fallow.verticals.storage.core.tariff import EGRESS, HOUR_MS, STORED

SOURCE: Final = "storage"
DELIVERIES_AT_ONCE: Final = 500
_log = logging.getLogger(__name__)

_ACCOUNTS: Final = """
SELECT account FROM storage.stored WHERE div(bytes * $1::numeric - less, $2::numeric) > billed
UNION SELECT account FROM storage.egress WHERE bytes > billed AND account <> $3
UNION SELECT account FROM storage.bill WHERE told > counted
"""
_OPEN: Final = """
WITH used AS (
    SELECT payee, $3::text AS meter, div(bytes * $5::numeric - less, $6::numeric) - billed AS fresh
        FROM storage.stored WHERE account = $1
    UNION ALL SELECT payee, $4::text, bytes - billed FROM storage.egress WHERE account = $1)
SELECT payee, meter, greatest(fresh, 0) AS fresh, coalesce(told, 0) AS told, coalesce(counted, 0) AS counted
FROM used LEFT JOIN (SELECT * FROM storage.bill WHERE account = $1 AND subscription = $2) b USING (payee, meter)
WHERE fresh > 0 OR told > counted ORDER BY payee, meter
"""


class Line(NamedTuple):
    """What a payee is owed on a meter: `fresh` of which nobody was told, and what one subscription was told of."""

    payee: bytes
    meter: str
    fresh: int
    told: int
    counted: int


def fitting(lines: Sequence[Line], tariff: Mapping[str, Price], left_microusd: int) -> list[tuple[Line, int]]:
    """Return the quantity that each is to be told of now, so that together they cost no more than what is left.

    Where not all fits, each gets its part of it, and what rounding leaves goes to the first: nothing is left then. What
    does not grow is left out.
    """
    wanted = [line.told - line.counted + line.fresh for line in lines]
    prices = [tariff[line.meter] for line in lines]
    given, left = wanted, left_microusd - sum(map(_cost, lines, prices, wanted))
    if left < 0:
        cost, left = left_microusd - left, left_microusd
        given = [0 for _ in lines]
        for most in ([more * left_microusd // cost for more in wanted], wanted):
            for at, line in enumerate(lines):
                room = left + _cost(line, prices[at], given[at])
                given[at] = max(given[at], _affordable(line, prices[at], room, most[at]))
                left = room - _cost(line, prices[at], given[at])
    return [(line, line.counted + more) for line, more in zip(lines, given, strict=True) if more]


def _cost(line: Line, price: Price, more: int) -> int:
    """What `more` than it has counted costs on a subscription, which rounds down once for each payee and meter."""
    return price.microusd * (line.counted + more) // price.per - price.microusd * line.counted // price.per


def _affordable(line: Line, price: Price, microusd: int, wanted: int) -> int:
    """The most of what is wanted that costs no more than that."""
    if not price.microusd:
        return wanted
    free = (price.microusd * line.counted // price.per + microusd + 1) * price.per - 1
    return min(wanted, free // price.microusd - line.counted)


class Bills:
    """Several processes may tell the same; it counts once."""

    def __init__(self, *, bus: Bus, clock: Clock, database: Database, paying: Paying) -> None:
        self._bus = bus
        self._clock = clock
        self._database = database
        self._paying = paying

    async def tell_all(self) -> None:
        """Tell of every account that used something more. What fails is told the next time.

        Who used more than his window may cost is served again once he has paid for it: else as many windows could be
        owed as he likes.
        """
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_ACCOUNTS, self._clock.now_ms(), HOUR_MS, REPAIRS.account)
        behind = set[str]()
        for row in rows:
            name = address_text(row["account"])
            try:
                if not await self._tell(row["account"]):
                    behind.add(name)
            except FallowError as error:
                _log.warning("storage of %s is not billed now: %s", name, error)
        self._paying.behind = behind

    async def _tell(self, account: bytes) -> bool:
        """Whether the window pays for all that was used."""
        subscription = await self._paying.subscription(address_text(account), fresh=True)
        if subscription is None or subscription.state != SubscriptionState.ACTIVE:
            return True
        async with self._database.transaction() as tx:
            await lock_sums(tx)
            told, all_fits = await self._note(tx, account, subscription)
        for start in range(0, len(told), DELIVERIES_AT_ONCE):
            some = told[start : start + DELIVERIES_AT_ONCE]
            await call(self._bus, METER, _use(account, subscription.id, some), SubscriptionView)
            async with self._database.transaction() as tx:
                await _counted(tx, account, subscription.id, some)
        return all_fits

    async def _note(
        self, tx: Transaction, account: bytes, subscription: SubscriptionView
    ) -> tuple[list[tuple[Line, int]], bool]:
        """Write down what the subscription is told of; and whether that is all."""
        now = self._clock.now_ms()
        await learn(tx, account, subscription.tariff)
        rows = await tx.fetch(_OPEN, account, subscription.id, STORED, EGRESS, now, HOUR_MS)
        lines = await self._settleable(tx, account, subscription.id, [Line(**dict(row)) for row in rows])
        told = fitting(lines, subscription.tariff, subscription.left_microusd)
        for table, meter in (("stored", STORED), ("egress", EGRESS)):
            more = [(line.payee, quantity - line.told) for line, quantity in told if line.meter == meter]
            await tx.execute(
                f"UPDATE storage.{table} t SET billed = t.billed + s.more"  # noqa: S608 - one of two
                " FROM unnest($2::bytea[], $3::numeric[]) AS s (payee, more)"
                " WHERE t.account = $1 AND t.payee = s.payee",
                account,
                [payee for payee, new in more if new > 0],
                [new for _, new in more if new > 0],
            )
        await tx.execute(
            "INSERT INTO storage.bill AS b (account, subscription, payee, meter, told, counted)"
            " SELECT $1, $2, s.payee, s.meter, s.told, 0 FROM unnest($3::bytea[], $4::text[], $5::numeric[])"
            "  AS s (payee, meter, told)"
            " ON CONFLICT (account, subscription, payee, meter) DO UPDATE SET told = greatest(b.told, EXCLUDED.told)",
            account,
            subscription.id,
            *_columns(told),
        )
        return told, told == [(line, line.told + line.fresh) for line in lines]

    async def _settleable(
        self, tx: Transaction, account: bytes, subscription: str, lines: Sequence[Line]
    ) -> list[Line]:
        """Leave out new payees where a subscription has as many as it can: they wait for another subscription."""
        (row,) = await tx.fetch(
            "SELECT count(*) AS n FROM storage.bill WHERE account = $1 AND subscription = $2", account, subscription
        )
        new = [line for line in lines if not line.told]
        over = frozenset(new[max(0, DELIVERIES_MAX - row["n"]) :])
        if over:
            _log.warning("%d payees of %s are too many for its subscription", len(over), address_text(account))
        return [line for line in lines if line not in over]


def _use(account: bytes, subscription: str, told: Sequence[tuple[Line, int]]) -> MeterUse:
    deliveries = [
        Delivery(source=SOURCE, payee=address_text(line.payee), meter=line.meter, quantity=str(quantity))
        for line, quantity in told
    ]
    return MeterUse(account=address_text(account), id=subscription, deliveries=deliveries)


async def _counted(tx: Transaction, account: bytes, subscription: str, told: Sequence[tuple[Line, int]]) -> None:
    await tx.execute(
        "UPDATE storage.bill b SET counted = greatest(b.counted, s.counted)"
        " FROM unnest($3::bytea[], $4::text[], $5::numeric[]) AS s (payee, meter, counted)"
        " WHERE b.account = $1 AND b.subscription = $2 AND b.payee = s.payee AND b.meter = s.meter",
        account,
        subscription,
        *_columns(told),
    )


def _columns(told: Sequence[tuple[Line, int]]) -> tuple[list[bytes], list[str], list[int]]:
    return [line.payee for line, _ in told], [line.meter for line, _ in told], [quantity for _, quantity in told]
