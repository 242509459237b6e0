"""An owner's machines as the market sees them, told to his account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fallow.domain import calls
from fallow.domain.day import SLOT_MS
from fallow.domain.identity import address
from fallow.domain.leases import Lease
from fallow.domain.offers import Refusal
from fallow.domain.verification import suspended_until
from fallow.domain.views.nodes import DayView, OwnLeaseView, OwnNodeView, RefusalView
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.market_store import MarketStore
from fallow.ports.registry_store import NodeRow, RegistryStore
from fallow.services.market.rounds import Rounds
from fallow.services.market.show import PAGE_BYTES_MAX, first_of, node_view

NODES_MAX: Final = 100
REFUSALS_SHOWN: Final = 5
LEASES_SHOWN: Final = 50


class Owned:
    """Answers what owners ask."""

    def __init__(
        self, rounds: Rounds, clock: Clock, database: Database, store: MarketStore, registry: RegistryStore
    ) -> None:
        self._rounds = rounds
        self._clock = clock
        self._database = database
        self._store = store
        self._registry = registry

    async def nodes(self, request: calls.base.AccountRef) -> list[OwnNodeView]:
        """Show an account's nodes by id, fewer than asked for where they say much; `after` is the last one seen."""
        after, limit = bytes.fromhex(request.after), min(request.limit, NODES_MAX)
        async with self._database.transaction() as tx:
            rows = await self._registry.nodes_of(tx, address(request.account), after, limit)
            refused = [await self._store.refusals_of(tx, row.node, REFUSALS_SHOWN) for row in rows]
        now = self._clock.now_ms()
        shown = (self._shown(row, refusals, now) for row, refusals in zip(rows, refused, strict=True))
        return list(first_of(shown, PAGE_BYTES_MAX))

    def _shown(self, row: NodeRow, refusals: Sequence[Refusal], now: int) -> OwnNodeView:
        brain = self._rounds.brain
        slot, standing = brain.floor.slots.get(row.node), brain.judging.standing(row.node)
        leases = [] if slot is None else sorted(slot.leases.values(), key=lambda lease: lease.proposed_at)
        offer = None
        if slot is not None:
            trust, banned = brain.trust_of(row.node, now), brain.shut_out(slot)
            offer = node_view(slot, standing, row.label, now, trust=trust, banned=banned)
        return OwnNodeView(
            node=row.node.hex(),
            label=row.label,
            enrolled_at=row.enrolled_at,
            offer=offer,
            leases=[self._lease(lease, now) for lease in leases[:LEASES_SHOWN]],
            suspended_until=suspended_until(standing),
            left_alone_until=0 if slot is None else slot.life.cool_until,
            refused=[RefusalView(boot=one.boot, seq=one.seq, code=one.code, at=one.at) for one in refusals],
            banned_reason=row.banned_reason,
            vouched_reason=row.vouched_reason,
            day=None if slot is None else DayView(at=now, slot_ms=SLOT_MS, slots=slot.day(now)),
        )

    def _lease(self, lease: Lease, now: int) -> OwnLeaseView:
        """What an owner may know of it: not whose it is."""
        entry = self._rounds.brain.jobs.get(lease.job)
        return OwnLeaseView(
            id=lease.id.hex(),
            vertical=entry.job.order.vertical if entry else "",
            price_microusd_per_hour=lease.price_microusd_per_hour,
            started_at=lease.started_at,
            running_ms=lease.running_ms(now),
            spot=lease.spot,
            owed_microusd=lease.owed_microusd,
        )
