"""Which batches are taken and into which epoch, pure: order per node, duplicates, contradictions, ends of epochs."""

from __future__ import annotations

from fallow.domain.batches import Batch
from fallow.domain.errors import Conflict
from fallow.ports.ingest_store import EpochEnd

Expected = tuple[int, int]
"""Boot and next sequence number."""


def check_order(batch: Batch, expected: Expected | None) -> None:
    """Raise Conflict unless `batch` comes next: the next number of the same boot, or number 0 of a later boot."""
    if expected is None:
        expected = (batch.boot, 0)
    boot, seq = expected
    if batch.boot < boot:
        raise Conflict("ingest.old_boot", f"Boot {batch.boot} is over, the node sends under boot {boot} now.")
    next_seq = seq if batch.boot == boot else 0
    if batch.seq != next_seq:
        raise Conflict("ingest.out_of_order", f"Number {next_seq} of boot {batch.boot} comes next, not {batch.seq}.")


def check_same(batch: Batch, root: bytes) -> None:
    """Raise Conflict when a batch contradicts one that has the same number: two truths from one node."""
    if batch.root != root:
        raise Conflict(
            "ingest.contradiction",
            f"Another batch of this node has number {batch.seq} of boot {batch.boot} already.",
            "A node never signs two batches under one number; start the agent anew, it then takes a new boot number.",
        )


def epoch_at(now: int, epoch_ms: int, last: EpochEnd | None) -> int:
    """Into which epoch a batch goes: the calendar's, or the one after the last where that one ended early."""
    return max(now // epoch_ms, last.epoch + 1 if last else 0)


def end_of(epoch: int, now: int, epoch_ms: int, last: EpochEnd | None, *, early: bool) -> EpochEnd | None:
    """Decide how the open epoch ends: with the calendar, or now; None when neither is so. `last` is before it."""
    nominal = (epoch + 1) * epoch_ms
    if now < nominal and not early:
        return None
    from_ms = last.until_ms if last else min(epoch * epoch_ms, now)
    return EpochEnd(epoch, from_ms, max(from_ms, min(now, nominal)))
