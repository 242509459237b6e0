"""What a row of the outbox holds, and how records become one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from fallow.domain.batches import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, open_batch, seal_batch
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import LeaseAccepted, LeaseDeclined, UsageReceipt
from fallow.domain.records import RECORD_BYTES_MAX, Body, Opening, Record
from fallow.domain.signing import Sign

# The head and the signature of a batch, and the length before each record, with room to spare.
_BATCH_OVERHEAD = 512
_RECORD_OVERHEAD = 8

_OF_LEASES = frozenset({LeaseAccepted.kind, LeaseDeclined.kind, UsageReceipt.kind})

Openings = dict[str, dict[str, Opening]]


class Entry(NamedTuple):
    """A body to be recorded, and the time that its record will claim (milliseconds since 1970)."""

    body: Body
    at: int


class Made(NamedTuple):
    """A record with its openings, and the bytes that both take in a message."""

    record: Record
    openings: dict[str, Opening]
    size: int


class Waiting(NamedTuple):
    """A batch that has no promise yet. `finals` are the leases (hex) whose last receipt is in it."""

    boot: int
    seq: int
    records: int
    root: bytes
    data: bytes
    openings: Openings
    finals: frozenset[str]


class Refused(NamedTuple):
    """A batch that the network will not take, and its reason."""

    boot: int
    seq: int
    records: int
    reason: str


def made(record: Record, openings: dict[str, Opening]) -> Made:
    """Measure a record.

    Raises:
        InvalidInput: it is larger than the network takes.
    """
    size = len(record.encode())
    if size > RECORD_BYTES_MAX:
        raise InvalidInput(
            "record.too_large", f"A {record.kind} record has {size} bytes: more than {RECORD_BYTES_MAX}."
        )
    return Made(record, openings, size + _RECORD_OVERHEAD + len(msgspec.msgpack.encode(openings)))


def renumbered(batches: Iterable[Waiting], net: str, boot: int) -> list[Made]:
    """The records of batches that nobody has taken, numbered anew from zero under another boot."""
    found = [
        (record, batch.openings.get(str(index), {}))
        for batch in batches
        for index, record in enumerate(open_batch(batch.data, net=net).records)
    ]
    return [
        made(msgspec.structs.replace(record, boot=boot, seq=seq), openings)
        for seq, (record, openings) in enumerate(found)
    ]


def split(records: Sequence[Made]) -> Iterator[list[Made]]:
    """Cut into parts that fit into one batch each."""
    part: list[Made] = []
    size = _BATCH_OVERHEAD
    for one in records:
        if part and (len(part) == BATCH_RECORDS_MAX or size + one.size > BATCH_BYTES_MAX):
            yield part
            part, size = [], _BATCH_OVERHEAD
        part.append(one)
        size += one.size
    if part:
        yield part


def sealed_row(part: Sequence[Made], net: str, sign: Sign) -> tuple[object, ...]:
    """Sign a part as one batch: boot, seq, count, root, data, openings, leases, finals."""
    spoken = [lease for one in part if (lease := _lease_of(one.record)) is not None]
    data = seal_batch([one.record for one in part], sign)
    batch = open_batch(data, net=net)
    openings = {str(index): one.openings for index, one in enumerate(part) if one.openings}
    return (
        batch.boot,
        batch.seq,
        len(part),
        batch.root,
        data,
        msgspec.msgpack.encode(openings),
        " ".join(sorted({lease for lease, _ in spoken})),
        " ".join(sorted({lease for lease, final in spoken if final})),
    )


def finals_of(bodies: Iterable[Body]) -> set[str]:
    """The leases (hex) whose last receipt is among the bodies."""
    return {body.lease.hex() for body in bodies if isinstance(body, UsageReceipt) and body.final}


def _lease_of(record: Record) -> tuple[str, bool] | None:
    """The lease (hex) that a record speaks of, and whether it is its last receipt."""
    if record.kind not in _OF_LEASES:
        return None
    return record.body["lease"].hex(), record.kind == UsageReceipt.kind and record.body["final"]
