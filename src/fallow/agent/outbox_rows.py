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

Openings = dict[str, dict[str, Opening]]


class Entry(NamedTuple):
    """A body to be recorded, and the time that its record will claim (milliseconds since 1970)."""

    body: Body
    at: int


class Made(NamedTuple):
    """A record with its openings, and the bytes that both take in a message."""

    body: Body
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


def made(body: Body, record: Record, openings: dict[str, Opening]) -> Made:
    """Measure a record.

    Raises:
        InvalidInput: it is larger than the network takes.
    """
    size = len(record.encode())
    if size > RECORD_BYTES_MAX:
        raise InvalidInput("record.too_large", f"A {body.kind} record has {size} bytes: more than {RECORD_BYTES_MAX}.")
    return Made(body, record, openings, size + _RECORD_OVERHEAD + len(msgspec.msgpack.encode(openings)))


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
    data = seal_batch([one.record for one in part], sign)
    batch = open_batch(data, net=net)
    openings = {str(index): one.openings for index, one in enumerate(part) if one.openings}
    bodies = [one.body for one in part]
    return (
        batch.boot,
        batch.seq,
        len(part),
        batch.root,
        data,
        msgspec.msgpack.encode(openings),
        " ".join(sorted(leases_of(bodies))),
        " ".join(sorted(finals_of(bodies))),
    )


def leases_of(bodies: Iterable[Body]) -> set[str]:
    """The leases (hex) that the bodies speak of."""
    return {body.lease.hex() for body in bodies if isinstance(body, LeaseAccepted | LeaseDeclined | UsageReceipt)}


def finals_of(bodies: Iterable[Body]) -> set[str]:
    """The leases (hex) whose last receipt is among the bodies."""
    return {body.lease.hex() for body in bodies if isinstance(body, UsageReceipt) and body.final}
