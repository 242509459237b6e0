"""The life of a job and of its items, pure.

A job has one item, or as many as a map has inputs. An item waits, is placed on a node by a lease, runs, and is done,
failed or cancelled. What the network or a provider lost goes back to waiting, on another node; what the buyer's own
program did wrong is tried again only as often as the buyer asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from fallow.domain.leases import Lease
from fallow.domain.orders import Order

LOSSES_MAX = 8
"""After so many losses on different nodes an item fails, so that a poisonous one does not go round for ever."""


class ItemState(StrEnum):
    """Where an item stands."""

    WAITING = "waiting"
    PLACED = "placed"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED})


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One unit of a job's work. `shunned` are nodes that lost it; `failures` counts the program's own."""

    index: int
    state: ItemState = ItemState.WAITING
    attempts: int = 0
    failures: int = 0
    shunned: tuple[bytes, ...] = ()
    lease: bytes | None = None
    node: bytes | None = None
    reason: str = ""
    result: str | None = None
    used_ms: int = 0
    owed_microusd: int = 0


class JobState(StrEnum):
    """Where a job stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What the order's work asks for, as its vertical said when it was checked (see `WorkNeeds`)."""

    blobs: tuple[str, ...] = ()
    attributes: dict[str, str] = {}
    write_bytes_max: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An order that ends by itself, in the name of an account (20 bytes)."""

    order: Order
    account: bytes
    needs: Needs
    created_at: int
    state: JobState = JobState.RUNNING
    ended_at: int | None = None
    reason: str = ""


def placed(item: Item, lease: Lease) -> Item:
    """A lease was proposed for the item."""
    return msgspec.structs.replace(
        item, state=ItemState.PLACED, attempts=item.attempts + 1, lease=lease.id, node=lease.node, reason=""
    )


def running(item: Item) -> Item:
    """Its node accepted."""
    return msgspec.structs.replace(item, state=ItemState.RUNNING)


def after_lease(item: Item, lease: Lease, *, ok: bool, result: str | None, order: Order) -> Item:
    """Move on from an ended lease: to a final state, or back to waiting."""
    item = msgspec.structs.replace(
        item,
        lease=None,
        reason=lease.reason,
        used_ms=item.used_ms + lease.used_ms,
        owed_microusd=item.owed_microusd + lease.owed_microusd,
    )
    if ok:
        return msgspec.structs.replace(item, state=ItemState.DONE, result=result)
    if lease.stop_reason:
        return msgspec.structs.replace(item, state=ItemState.CANCELLED, reason=lease.stop_reason)
    match lease.caused_by:
        case "buyer" if lease.reason != "buyer.insufficient_funds":
            return _failed(item, result, order)
        case "provider":
            return _lost(item, lease)
        case _:
            return msgspec.structs.replace(item, state=ItemState.WAITING, node=None)


def cancelled(item: Item, reason: str) -> Item:
    """The buyer wants it no more, and no lease runs."""
    return msgspec.structs.replace(item, state=ItemState.CANCELLED, reason=reason)


def after_items(job: Job, items: Iterable[Item], at: int) -> Job:
    """End the job once all of its items have ended; the worst of their ends is the job's."""
    states = {item.state for item in items}
    if not states <= FINAL:
        return job
    for state, outcome in (
        (ItemState.CANCELLED, JobState.CANCELLED),
        (ItemState.FAILED, JobState.FAILED),
        (ItemState.DONE, JobState.DONE),
    ):
        if state in states:
            return msgspec.structs.replace(job, state=outcome, ended_at=at)
    return job


def _failed(item: Item, result: str | None, order: Order) -> Item:
    failures = item.failures + 1
    state = ItemState.FAILED if failures > order.retries else ItemState.WAITING
    return msgspec.structs.replace(item, state=state, failures=failures, result=result)


def _lost(item: Item, lease: Lease) -> Item:
    shunned = (*item.shunned, lease.node)
    if len(shunned) >= LOSSES_MAX:
        return msgspec.structs.replace(item, state=ItemState.FAILED, shunned=shunned)
    return msgspec.structs.replace(item, state=ItemState.WAITING, shunned=shunned, node=None)
