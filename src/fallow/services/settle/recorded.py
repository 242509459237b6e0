"""Withdrawals and events on their way into the archive: in the network's outbox, or in ingest's log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import NamedTuple

import msgspec

from fallow.domain.batches import split_batch, stored_records
from fallow.domain.chain_facts import CHAIN_FACTS, ChainFact
from fallow.domain.facts import CreditWithdrawn
from fallow.domain.reconciling import Difference, Item, shown
from fallow.domain.records import Body
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.ingest_store import IngestStore
from fallow.services.settle.audit_archive import withdrawn_item
from fallow.services.settle.audit_books import event_item, name_of_event

DECISIONS_A_PAGE = 1000
BATCHES_A_PAGE = 64
FACTS: tuple[type[Body], ...] = (CreditWithdrawn, *CHAIN_FACTS)
KINDS = {fact.kind: fact for fact in FACTS}


class Recorded(NamedTuple):
    """Where it looks. `network` is the key that signs the network's own records."""

    database: Database
    decisions: DecisionStore
    log: IngestStore
    network: bytes

    async def differing(
        self, lacking: Mapping[str, Difference], damaged: Collection[int], closed: int
    ) -> list[Difference]:
        """Of what no readable closed epoch has, by its name: what is nowhere, or is recorded otherwise.

        Looked at in the order in which a record moves, so that none is missed between two places. The log keeps what
        the archive's `damaged` epochs should have; `closed` is the last one that was closed for sure.
        """
        left, differing = dict(lacking), list[Difference]()
        for where in (self._waiting(), self._logged(damaged, closed)):
            async for body in where:
                name, item = _told(body)
                one, told = left.pop(name, None), shown(item)
                if one is not None and told != (one.here or one.there):
                    code = f"{one.code.partition('.')[0]}.differs"
                    here, there = (one.here, told) if one.here else (told, one.there)
                    differing.append(msgspec.structs.replace(one, code=code, here=here, there=there))
        return [*differing, *left.values()]

    async def _waiting(self) -> AsyncIterator[Body]:
        for kind in KINDS:
            after = 0
            while True:
                async with self.database.transaction() as tx:
                    page = await self.decisions.pending(tx, kind, after, DECISIONS_A_PAGE)
                for _, decision in page:
                    yield decision.body
                if len(page) < DECISIONS_A_PAGE:
                    break
                after = page[-1][0]

    async def _logged(self, damaged: Collection[int], closed: int) -> AsyncIterator[Body]:
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
                            if (fact := KINDS.get(record.kind)) is not None:
                                yield record.read(fact)
                if len(page) < BATCHES_A_PAGE:
                    break
                pos = page[-1].pos


def _told(body: Body) -> tuple[str, Item]:
    """How a difference names it, and what it says."""
    if isinstance(body, ChainFact):
        item = event_item(body, due=True)
        return name_of_event(item.key), item
    if isinstance(body, CreditWithdrawn):
        return body.withdrawal.hex(), withdrawn_item(body, due=True)
    raise TypeError(f"{body.kind} is no kind that is looked for")
