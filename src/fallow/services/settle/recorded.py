"""Withdrawals on their way into the archive: in the network's outbox, or in ingest's log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import NamedTuple

import msgspec

from fallow.domain.batches import split_batch, stored_records
from fallow.domain.facts import CreditWithdrawn
from fallow.domain.reconciling import Difference
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.ingest_store import IngestStore

DECISIONS_A_PAGE = 1000
BATCHES_A_PAGE = 64


class Recorded(NamedTuple):
    """Where it looks. `network` is the key that signs the network's own records."""

    database: Database
    decisions: DecisionStore
    log: IngestStore
    network: bytes

    async def differing(
        self, lacking: Mapping[str, Difference], damaged: Collection[int], closed: int
    ) -> list[Difference]:
        """Of withdrawals that no readable closed epoch has, those that are nowhere, or that are recorded otherwise.

        Looked at in the order in which a record moves, so that none is missed between two places. The log keeps what
        the archive's `damaged` epochs should have; `closed` is the last one that was closed for sure.
        """
        left, differing = dict(lacking), list[Difference]()
        for where in (self._waiting(), self._logged(damaged, closed)):
            async for body in where:
                one = left.pop(body.withdrawal.hex(), None)
                there = f"{body.amount_microusd} 0x{body.account.hex()}"
                if one is not None and there != one.here:
                    differing.append(msgspec.structs.replace(one, code="withdrawal.differs", there=there))
        return [*differing, *left.values()]

    async def _waiting(self) -> AsyncIterator[CreditWithdrawn]:
        after = 0
        while True:
            async with self.database.transaction() as tx:
                page = await self.decisions.pending(tx, CreditWithdrawn.kind, after, DECISIONS_A_PAGE)
            for _, decision in page:
                if isinstance(decision.body, CreditWithdrawn):
                    yield decision.body
            if len(page) < DECISIONS_A_PAGE:
                return
            after = page[-1][0]

    async def _logged(self, damaged: Collection[int], closed: int) -> AsyncIterator[CreditWithdrawn]:
        async with self.database.transaction() as tx:
            first, last = await self.log.first_epoch(tx), await self.log.last_epoch(tx)
        if first is None or last is None:
            return
        for epoch in (*sorted(damaged), *range(max(first, closed + 1), last + 1)):
            pos = 0
            while True:
                async with self.database.transaction() as tx:
                    page = await self.log.of_epoch(tx, epoch, pos, BATCHES_A_PAGE)
                for batch in page:
                    if split_batch(batch.data).node == self.network:
                        for record in stored_records(batch.data):
                            if record.kind == CreditWithdrawn.kind:
                                yield record.read(CreditWithdrawn)
                if len(page) < BATCHES_A_PAGE:
                    break
                pos = page[-1].pos
