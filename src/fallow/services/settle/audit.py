"""One audit: the ledger against the archive and the chain, item by item, while all of them go on.

What must be on one side is what was on the other before the ledger is read; what may be there, what is read after it.
So the order here matters: first how far the chain and the epochs were taken, then the ledger, then the other sides.
Every movement of paid credits is one of their issuer's, whose history only ever grows at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.reconciling import Difference
from fallow.domain.views.audits import AuditView, DifferenceView
from fallow.ports.archive import Archive
from fallow.ports.chain_store import ChainStore
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.epochs import Closed, EpochStore
from fallow.ports.ledger import Ledger
from fallow.ports.payout_store import PayoutStore
from fallow.services.settle.audit_archive import ArchiveSide, Due
from fallow.services.settle.audit_books import ISSUER, Books, books
from fallow.services.settle.audit_chain import ChainMoney, ChainSide
from fallow.services.settle.recorded import Recorded
from fallow.services.settle.sorting import RUN_ITEMS

ROWS_A_PAGE = 4096
SHOWN_MAX = 1000
ON_THEIR_WAY = frozenset({"withdrawal.unfounded", "event.missing"})
"""No closed epoch has a record of it, perhaps not yet."""


class Sources(NamedTuple):
    """What an audit reads. Without a `chain` the network has none."""

    database: Database
    ledger: Ledger
    epochs: EpochStore
    payouts: PayoutStore
    blocks: ChainStore
    recorded: Recorded
    archive: Archive
    network_key: bytes
    chain: ChainMoney | None


class Findings:
    """Counts differences, and keeps the first."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[Difference] = []

    def add(self, differences: Iterable[Difference]) -> None:
        """Take some."""
        for one in differences:
            self.count += 1
            if len(self.shown) < SHOWN_MAX:
                self.shown.append(one)


class Audit:
    """Audits, one at a time. `folder` is for what does not fit into memory."""

    def __init__(self, sources: Sources, clock: Clock, folder: Path, *, run_items: int = RUN_ITEMS) -> None:
        self._sources = sources
        self._clock = clock
        self._folder = folder
        self._run_items = run_items

    async def run(self) -> AuditView:
        """Audit all there is. Where a part is away, `trouble` says so, and nothing is concluded."""
        began = self._clock.now_ms()
        try:
            with books(self._folder, self._run_items) as kept:
                view = await self._audit(kept)
        except Unavailable as error:
            view = AuditView(began_at=began, ended_at=began, ok=False, trouble=str(error))
        return msgspec.structs.replace(view, began_at=began, ended_at=self._clock.now_ms())

    async def _audit(self, kept: Books) -> AuditView:
        sources, found = self._sources, Findings()
        async with sources.database.transaction() as tx:
            checked = await sources.ledger.check(tx)
        found.add(
            Difference(code=f"ledger.{fault.code}", subject=fault.subject.hex(), detail=fault.detail)
            for fault in checked.faults
        )
        block, due = await self._due()
        await self._read_ledger(kept)
        chain = ChainSide(sources.chain, kept) if sources.chain else None
        if chain is not None:
            until, _ = await self._due()
            await chain.read(block, until)
        archive = ArchiveSide(sources.archive, sources.network_key, kept, has_chain=sources.chain is not None)
        epochs, last = await self._read_archive(archive, due, found)
        found.add(await asyncio.to_thread(lambda: list(kept.compared())))
        await self._find_records(kept, due, found)
        if last is not None and last.epoch not in kept.damaged:
            found.add(await asyncio.to_thread(_overdrawn, kept, archive, last))
        view = AuditView(
            began_at=0,
            ended_at=0,
            ok=False,
            transfers=checked.movements,
            epochs=epochs,
            deposited=kept.deposits.total,
            circulation=kept.deposits.total - kept.payouts.total - kept.withdrawals.total,
            owed=kept.payouts.total + kept.withdrawals.total,
        )
        if chain is not None and sources.chain is not None and block > sources.chain.first_block:
            claimed, held = await asyncio.to_thread(chain.claimed), await chain.held(block - 1)
            found.add(_short(kept, sources.chain, claimed, held))
            view = msgspec.structs.replace(view, claimed=claimed, held=held)
        shown = [DifferenceView(**msgspec.structs.asdict(one)) for one in found.shown]
        return msgspec.structs.replace(view, ok=not found.count, found=found.count, differences=shown)

    async def _due(self) -> tuple[int, Due]:
        """Up to which block, and up to which epochs, the ledger has everything now."""
        sources, block = self._sources, 0
        chain_id = await sources.chain.chain.chain_id() if sources.chain else 0
        async with sources.database.transaction() as tx:
            if sources.chain is not None:
                block = await sources.blocks.next_block(tx, chain_id, sources.chain.first_block)
            last, paid = await sources.epochs.last(tx), await sources.payouts.last(tx)
        return block, Due(last.epoch if last else -1, -1 if paid is None else paid)

    async def _read_ledger(self, kept: Books) -> None:
        after = 0
        while True:
            async with self._sources.database.transaction() as tx:
                rows = await self._sources.ledger.history(tx, ISSUER, after, ROWS_A_PAGE)
            for row in rows:
                kept.move(row.movement)
            if len(rows) < ROWS_A_PAGE:
                return
            after = rows[-1].seq

    async def _read_archive(self, side: ArchiveSide, due: Due, found: Findings) -> tuple[int, Closed | None]:
        """Read all closed epochs; returns how many there are, and the last."""
        count, last = 0, None
        while True:
            async with self._sources.database.transaction() as tx:
                closed = await self._sources.epochs.after(tx, last.epoch if last else None)
            if closed is None:
                return count, last
            found.add(await asyncio.to_thread(side.read, closed, due))
            count, last = count + 1, closed

    async def _find_records(self, kept: Books, due: Due, found: Findings) -> None:
        """What no closed epoch has may wait to be sealed, or stand in an epoch that is open or damaged."""
        recorded = self._sources.recorded
        differing = await asyncio.to_thread(lambda: [*kept.withdrawals_apart(), *kept.events_apart()])
        lacking = {one.subject: one for one in differing if one.code in ON_THEIR_WAY}
        found.add(one for one in differing if one.code not in ON_THEIR_WAY)
        if lacking:
            found.add(await recorded.differing(lacking, kept.damaged, due.recorded))


def _overdrawn(kept: Books, archive: ArchiveSide, last: Closed) -> list[Difference]:
    try:
        return list(kept.overdrawn(archive.leaves(last)))
    except Unavailable:
        raise
    except FallowError as error:
        return [Difference(code="archive.damaged", subject=f"epoch {last.epoch}", detail=error.message)]


def _short(kept: Books, chain: ChainMoney, claimed: int, held: int) -> list[Difference]:
    """Less than there must be. What strangers sent there without a deposit is nobody's credit, and no difference."""
    deposited = sum(item.amount for item in kept.deposited if item.due)
    if held >= deposited - claimed:
        return []
    subject = f"distributor {address_text(chain.contracts['distributor'])}"
    told = "It holds less of the settlement asset than was deposited and not claimed."
    here, there = str(deposited - claimed), str(held)
    return [Difference(code="money.short", subject=subject, here=here, there=there, detail=told)]
