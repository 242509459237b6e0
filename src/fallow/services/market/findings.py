"""What anybody may look up of the network's checks and of its reserve."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain import calls
from fallow.domain.identity import address
from fallow.domain.views.checks import DrawView, EvidenceView, RerunView, SeedPartsView, SeedView
from fallow.domain.views.money import ReserveUseView
from fallow.ports.database import Database
from fallow.ports.market_store import MarketStore
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.market.show import (
    PAGE_BYTES_MAX,
    evidence_view,
    first_of,
    rerun_view,
    reserve_use_view,
)

RESERVE_USES_SHOWN = 1000


class Findings:
    """Shows what checks have found, what they were drawn from, and what the reserve was used for."""

    def __init__(self, rounds: Rounds, database: Database, store: MarketStore, seeds: Seeds) -> None:
        self._rounds = rounds
        self._database = database
        self._store = store
        self._seeds = seeds

    async def evidence(self, request: calls.base.Page) -> list[EvidenceView]:
        """Show why nodes were found wrong, the latest first; fewer than asked for where they would be too long.

        `after` is the lease of the last one seen.
        """
        async with self._database.transaction() as tx:
            found = await self._store.evidence(tx, request.limit, bytes.fromhex(request.after))
        return list(first_of(map(evidence_view, found), PAGE_BYTES_MAX))

    async def reruns(self, request: calls.base.Page) -> list[RerunView]:
        """Show what running items again has shown, the latest first."""
        async with self._database.transaction() as tx:
            found = await self._seeds.reruns(tx, request.limit)
        known = self._rounds.brain.judging.reruns
        return [rerun_view(one, known.suspects(one.key)) for one in reversed(found)]

    async def reserve_uses(self, _: Mapping[str, str]) -> list[ReserveUseView]:
        """Show what the reserve was used for, by provider and reason."""
        async with self._database.transaction() as tx:
            found = await self._store.reserve_uses(tx, RESERVE_USES_SHOWN)
        return [reserve_use_view(use) for use in found]

    async def seeds(self, _: Mapping[str, str]) -> list[SeedView]:
        """Show what the network committed to draw its checks from, the latest first."""
        async with self._database.transaction() as tx:
            return await self._seeds.shown(tx)

    async def seed_parts(self, request: calls.checks.SeedRef) -> SeedPartsView:
        """Show what validators add to a seed."""
        async with self._database.transaction() as tx:
            return await self._seeds.parts.shown(tx, request.number)

    async def pledge_part(self, request: calls.checks.PledgePart) -> SeedPartsView:
        """Take a pledge; see `SeedParts.pledge`."""
        async with self._database.transaction() as tx:
            return await self._seeds.parts.pledge(tx, bytes.fromhex(request.pledge))

    async def show_part(self, request: calls.checks.ShowPart) -> SeedPartsView:
        """Take a part that was pledged; see `SeedParts.show`."""
        validator, part = address(request.validator), bytes.fromhex(request.part)
        async with self._database.transaction() as tx:
            return await self._seeds.parts.show(tx, request.number, validator, part)

    async def draws(self, request: calls.checks.DrawsRef) -> list[DrawView]:
        """Show the draws of an epoch that is over.

        Raises:
            NotFound: it is not over.
        """
        after = bytes.fromhex(request.after_lease), request.after_purpose
        async with self._database.transaction() as tx:
            return await self._seeds.draws(tx, request.number, after, request.limit)
