"""From ingest's log into the market's mind: what each record kind means to the market."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fallow.domain.batches import stored_records
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import (
    LeaseAccepted,
    LeaseCheckpoint,
    LeaseDeclined,
    OfferMade,
    PlacedOfferMade,
    SpotOfferMade,
    UsageReceipt,
)
from fallow.domain.leases import NETWORK_FAILED
from fallow.domain.offers import Offer
from fallow.domain.records import Record
from fallow.ports.ingest_store import LoggedBatch
from fallow.ports.market_store import Cursor
from fallow.services.market.brain import Brain
from fallow.services.market.state import Source


def apply_log(
    brain: Brain,
    cursor: Cursor,
    batches: Sequence[LoggedBatch],
    accounts: Mapping[bytes, bytes],
    records_max: int | None = None,
) -> Cursor:
    """Apply batches in order and return how far it came.

    It stops early before a record of a lease whose money has not moved yet, and after `records_max` records; the next
    round goes on there. `accounts` are those of the nodes that the batches come from; the network's own batches are
    nobody's input.
    """
    for batch in batches:
        if batch.node not in accounts:
            cursor = Cursor(batch.pos, 0)
            continue
        records = stored_records(batch.data)
        for index in range(cursor.records, len(records)):
            if records_max == 0 or not _apply(brain, records[index], batch.received_at, accounts):
                return Cursor(cursor.pos, index)
            records_max = records_max - 1 if records_max is not None else None
        cursor = Cursor(batch.pos, 0)
    return cursor


def set_aside(brain: Brain, record: Record, now: int, *, ends_lease: bool) -> None:
    """Leave out a record of which the market fails: that is no fault of whoever sent it.

    A lease that it is about ends by the network's, if `ends_lease`.
    """
    brain.refuse(Source(record.node, record.boot, record.seq), NETWORK_FAILED, now)
    body = _lease_fact(record) if ends_lease else None
    if body is not None:
        brain.failed(record.node, body.lease, now)


def next_of(cursor: Cursor, batches: Sequence[LoggedBatch], nodes: Collection[bytes]) -> tuple[Record | None, Cursor]:
    """Return the next record of one of the `nodes` after `cursor`, if any, and where the log goes on after it."""
    for batch in batches:
        if batch.node in nodes:
            records = stored_records(batch.data)
            last = cursor.records + 1 == len(records)
            return records[cursor.records], Cursor(batch.pos, 0) if last else Cursor(cursor.pos, cursor.records + 1)
        cursor = Cursor(batch.pos, 0)
    return None, cursor


def _apply(brain: Brain, record: Record, at: int, accounts: Mapping[bytes, bytes]) -> bool:
    """Apply one record; False when it has to wait. One that does not fit its kind is refused, and that is kept."""
    source = Source(record.node, record.boot, record.seq)
    try:
        return _understand(brain, record, source, at, accounts)
    except InvalidInput as error:
        brain.refuse(source, error.code, at)
        return True


def _understand(brain: Brain, record: Record, source: Source, at: int, accounts: Mapping[bytes, bytes]) -> bool:
    if record.kind == OfferMade.kind:
        brain.offer(_offer(record, accounts[record.node]), at)
        return True
    body = _lease_fact(record)
    if body is None:
        return True  # not the market's business
    if brain.moves_money(body.lease):
        return False
    match body:
        case LeaseAccepted():
            brain.accepted(source, body.lease, at)
        case LeaseDeclined():
            brain.declined(source, body.lease, body.reason, at)
        case UsageReceipt():
            brain.reported(source, body, at)
        case LeaseCheckpoint():
            brain.saved(source, body, at)
    return True


def _offer(record: Record, account: bytes) -> Offer:
    """Read an offer of any version; the older ones know no spot terms, and no place."""
    cell, spot = "", None
    match record.v:
        case PlacedOfferMade.version:
            placed = record.read(PlacedOfferMade)
            made, spot, cell = placed.on_demand, placed.spot, placed.cell
        case SpotOfferMade.version:
            with_spot = record.read(SpotOfferMade)
            made, spot = with_spot.on_demand, with_spot.spot
        case _:
            made = record.read(OfferMade)
    return Offer(node=record.node, account=account, boot=record.boot, made=made, spot=spot, cell=cell)


LeaseFact = LeaseAccepted | LeaseDeclined | UsageReceipt | LeaseCheckpoint

_LEASE_FACTS: dict[str, type[LeaseFact]] = {
    fact.kind: fact for fact in (LeaseAccepted, LeaseDeclined, UsageReceipt, LeaseCheckpoint)
}


def _lease_fact(record: Record) -> LeaseFact | None:
    fact = _LEASE_FACTS.get(record.kind)
    return record.read(fact) if fact else None
