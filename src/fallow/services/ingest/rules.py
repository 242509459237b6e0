"""Which batches are taken and into which epoch, pure: order per node, duplicates, contradictions, ends of epochs.

And what is kept beside them: private values, each by whom it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fallow.domain.batches import Batch
from fallow.domain.encoding import encode
from fallow.domain.errors import Conflict
from fallow.domain.identity import ADDRESS_BYTES
from fallow.domain.records import Opening, Record, record_name
from fallow.ports.ingest_store import EpochEnd, StoredOpening

Expected = tuple[int, int]
"""Boot and next sequence number."""


PAYER: Final = "payer"
"""The private field that names an account: who paid. All others are about the node that signed the record."""


def stored_openings(record: Record, openings: Mapping[str, Opening]) -> list[StoredOpening]:
    """What is kept of a record's private values."""
    name = record_name(record.encode())
    return [
        StoredOpening(name, field, one.salt, encode(one.value), _subject(record, field, one.value))
        for field, one in openings.items()
    ]


def _subject(record: Record, field: str, value: object) -> bytes:
    named = field == PAYER and isinstance(value, bytes) and len(value) == ADDRESS_BYTES
    return value if named and isinstance(value, bytes) else record.node


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
