"""Bugs that are planted on purpose: if the simulation does not find them, it would not find others either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.market import MemoryMarketStore
from fallow.domain import chart, leases
from fallow.domain.batches import stored_records
from fallow.domain.facts import UsageReceipt
from fallow.domain.lease_events import Event, Lost, Release, Reported, Undecided
from fallow.domain.leases import Lease, Step
from fallow.domain.ledger import VOID_PENDING, Transfer, post_pending
from fallow.domain.records import Record
from fallow.domain.verification import Verdict
from fallow.ports.ingest_store import LoggedBatch
from fallow.ports.market_store import Cursor
from fallow.services.ingest import service as ingest
from fallow.services.market import intake, money, rounds
from fallow.services.market.floor import Slot
from fallow.services.market.money import Cashier
from fallow.services.market.rounds import Rounds

Patch = pytest.MonkeyPatch


def receipt_applied_twice(patch: Patch) -> None:
    """A market that starts anew reads old receipts again, and pays windows once more that were paid."""
    load, report, bill = Rounds._load, leases._reported, leases.billable_ms

    async def load_further_back(self: Rounds, tx: Any) -> None:
        await load(self, tx)
        patch.setattr(self.brain, "applied_to", self._cursor.pos, raising=False)
        if not self._cursor.records:
            self._cursor = Cursor(max(0, self._cursor.pos - 8), 0)

    def apply_again(brain: Any, cursor: Cursor, batches: Sequence[LoggedBatch], accounts: Any, _: int | None) -> Cursor:
        for batch in batches:
            records = stored_records(batch.data)
            for index in range(cursor.records, len(records)):
                old = batch.pos <= brain.applied_to
                if old and not _of_open_window(brain, records[index]):
                    continue
                if not intake._apply(brain, records[index], batch.received_at, accounts):
                    return Cursor(cursor.pos, index)
            cursor = Cursor(batch.pos, 0)
        return cursor

    def report_again(lease: Lease, receipt: Reported) -> Step:
        return report(lease, receipt._replace(window=lease.window))

    patch.setattr(Rounds, "_load", load_further_back)
    patch.setattr(rounds, "apply_log", apply_again)
    patch.setattr(leases, "_reported", report_again)
    patch.setattr(leases, "billable_ms", lambda lease, receipt: max(bill(lease, receipt), receipt.used_ms))


def _of_open_window(brain: Any, record: Record) -> bool:
    return record.kind == UsageReceipt.kind and not record.body["final"] and record.body["lease"] in brain.leases


def hold_not_released(patch: Patch) -> None:
    """The money of a lease whose node is lost stays reserved."""
    step = leases.step

    def keep_the_money(lease: Lease, event: Event) -> Step:
        after, effects = step(lease, event)
        if isinstance(event, Lost):
            effects = tuple(effect for effect in effects if not isinstance(effect, Release))
        return after, effects

    patch.setattr(leases, "step", keep_the_money)


def kept_and_paid(patch: Patch) -> None:
    """What was kept for work without a checkpoint is charged as its windows close, as if it were of use."""
    patch.setattr(leases, "_backed", lambda lease, used_ms: (lease.unbacked_ms + used_ms, 0))


def released_is_charged(patch: Patch) -> None:
    """A reservation that is to be given back is posted instead."""
    transfers = chart.collect

    def post_all(ref: bytes, window: int, parts: chart.Parts, *rest: Any) -> list[Transfer]:
        held = {chart._window_id("hold", ref, window, credit): amount for credit, amount in parts}
        return [
            post_pending(entry.id, entry.pending_id, held[entry.pending_id], ref=ref)
            if entry.flags & VOID_PENDING and entry.pending_id is not None
            else entry
            for entry in transfers(ref, window, parts, *rest)
        ]

    patch.setattr(money, "collect", post_all)


def checkpoint_counted_twice(patch: Patch) -> None:
    """What a checkpoint holds is charged when a lease is lost, also what was charged before."""

    def all_that_is_saved(lease: Lease, _: str, receipt: Reported | None) -> int:
        given_ms = leases.billable_ms(lease, receipt) if receipt else lease.window_limit_ms
        return min(lease.saved_ms, lease.used_ms + given_ms)

    patch.setattr(leases, "useful_ms", all_that_is_saved)


def reserve_pays_twice(patch: Patch) -> None:
    """The reserve's payment goes out again under another id, as when it is sent once more."""
    pay = chart.make_good

    def pay_again(lease: bytes, *rest: Any) -> list[Transfer]:
        once = pay(lease, *rest)
        return [*once, *(entry._replace(id=bytes(8) + entry.id[8:]) for entry in once)]

    patch.setattr(money, "make_good", pay_again)


def refund_after_settle(patch: Patch) -> None:
    """A buyer gets back what he paid for a result that is believed."""
    judged = leases._judged

    def give_back_too(lease: Lease, at: int, verdict: Verdict) -> Step:
        after, effects = judged(lease, at, verdict)
        if verdict is Verdict.ACCEPTED:
            effects = (*effects[:-1], Undecided(), *effects[-1:])
        return after, effects

    patch.setattr(leases, "_judged", give_back_too)


def replaced_market_writes(patch: Patch) -> None:
    """A market that was stopped for a while goes on, although another one has taken over."""

    async def confirm(*_: Any) -> None:
        return

    async def renew(*_: Any) -> None:
        return

    patch.setattr(MemoryMarketStore, "confirm", confirm)
    patch.setattr(Rounds, "_renew", renew)


def duplicate_batch_taken(patch: Patch) -> None:
    """Ingest takes a batch that it has already as a new one."""
    admit = ingest.Ingest._admit

    def take_anything(self: Any, waiting: Any, enrolled: Any, expected: Any, known: Any, epoch: int, now: int) -> Any:
        known.pop(ingest._key(waiting.batch), None)
        return admit(self, waiting, enrolled, expected, known, epoch, now)

    patch.setattr(ingest.Ingest, "_admit", take_anything)
    patch.setattr(ingest, "check_order", lambda *_: None)
    patch.setattr(MemoryTransaction, "add", MemoryTransaction.put)


def capacity_not_freed(patch: Patch) -> None:
    """A lease that ended keeps its node's resources."""
    patch.setattr(Slot, "give_back", lambda self, lease, _now: self.leases.pop(lease.id, None))


def capacity_sold_twice(patch: Patch) -> None:
    """A lease takes nothing of its node's resources."""
    patch.setattr(Slot, "take", lambda self, lease: self.leases.setdefault(lease.id, lease))


def reason_lost(patch: Patch) -> None:
    """A lease of a node that is lost ends without a reason."""
    ended = leases._ended

    def say_nothing(lease: Lease, at: int, reason: str, caused_by: str) -> Lease:
        after = ended(lease, at, reason, caused_by)
        return msgspec.structs.replace(after, caused_by="") if reason.startswith("node.") else after

    patch.setattr(leases, "_ended", say_nothing)


def accounts_thought_open(patch: Patch) -> None:
    """What this simulation found first: accounts that a lost transaction opened were never opened again."""
    patch.setattr(Cashier, "forget", lambda _: None)


MISPOSTED = "Misposted"
LIVENESS = "all ends within ten minutes of calm"
PLANTED: dict[Callable[[Patch], None], set[str]] = {
    receipt_applied_twice: {
        "no settlement says more than its node signed for",
        "windows applied once",
        "no more charged than claimed",
    },
    hold_not_released: {
        "nothing pending",
        "network pays what its checks owe",
        "buyer pays what his leases owe",
        LIVENESS,
    },
    kept_and_paid: {"nobody pays for lost work"},
    duplicate_batch_taken: {"each record once"},
    capacity_not_freed: {"capacity"},
    capacity_sold_twice: {"node oversold", "capacity"},
    reason_lost: {"caused by somebody"},
    accounts_thought_open: {MISPOSTED},
    released_is_charged: {"clearing is empty"},
    checkpoint_counted_twice: {
        "no more charged than claimed",
        "nobody pays for lost work",
        "no settlement says more than its node signed for",
        MISPOSTED,
    },
    reserve_pays_twice: {"the reserve pays once", "decisions say what moved", MISPOSTED},
    refund_after_settle: {"no refund of what is of use"},
    replaced_market_writes: {
        "accept applied once",
        "windows applied once",
        "decisions say what moved",
        "node oversold",
        "KeyError",
        MISPOSTED,
    },
}
"""The bugs, and the checkers of which one must find each."""
