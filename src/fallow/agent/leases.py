"""What the agent thinks about leases, without any I/O: which it takes, what its receipts say.

A lease is *held* from the moment it is taken from the book until its last receipt is in the outbox. Its resources are
free a little earlier: the network proposes the next lease as soon as it has that receipt.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from fallow.agent.book import Book
from fallow.domain.calls.leases import Proposal
from fallow.domain.facts import UsageReceipt
from fallow.domain.resources import Resources
from fallow.domain.windows import length_ms
from fallow.ports.vertical.work import Finished, Inside

REMEMBERED_MAX = 10_000
"""Leases that ended: so many are remembered, so that a proposal that comes twice starts nothing twice."""

ROLL = "roll"
"""What a roll call is called in the book: no lease's id."""

ROLL_MEMORY_MIB = 64
LEASE_BYTES = 16
MEASURES_MAX = 32
COUNT_MAX = 2**62
SEED_BYTES = 32


class Take(NamedTuple):
    """The lease is taken: the resources are set aside."""

    held: Held


class Decline(NamedTuple):
    """It is not taken, for `reason`."""

    reason: str


class Ignore(NamedTuple):
    """It is known already, or cannot be answered: nothing happens."""


class Held:
    """A lease that this node works on.

    `cancel` asks its worker to end; `stop_reason` and `stopped_by` say why. `windows` counts those already receipted,
    `receipted_ms` is how long they were. `over` is set when its worker has ended.
    """

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.id = lease_id(proposal.lease)
        self.cancel = asyncio.Event()
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self.inside: Inside | None = None
        self.stop_reason = ""
        self.stopped_by = "nobody"
        self.windows = 0
        self.receipted_ms = 0

    def open(self, inside: Inside | None) -> None:
        """Note the way into its sandbox, or that there is none any more."""
        self.inside = inside

    def stop(self, reason: str, by: str) -> None:
        """Ask it to end; the first one to ask is remembered."""
        if not self.cancel.is_set():
            self.stop_reason, self.stopped_by = reason, by
            self.cancel.set()

    def next_window_ms(self, until_cut_ms: int) -> int | None:
        """How long the window is that begins now; None if it is the last one, which ends with the last receipt."""
        proposal = self.proposal
        next_ms = length_ms(proposal.window_ms, until_cut_ms, proposal.cuts_apart_ms)
        return next_ms if self.receipted_ms + next_ms < proposal.time_limit_s * 1000 else None

    def window_receipt(self, used_ms: int) -> UsageReceipt:
        """Say that a window is over, and go on to the next."""
        self.windows += 1
        self.receipted_ms += used_ms
        return UsageReceipt(lease=self.id, window=self.windows - 1, used_ms=used_ms, final=False)

    def final_receipts(self, finished: Finished) -> list[UsageReceipt]:
        """Receipts for all that was not yet receipted: whole windows that are over, then the last one.

        Work that ended because it was asked to is ended by who asked, whatever the worker calls it; also a process
        that was to run until it is stopped, when its machine's owner stops it: it goes on elsewhere.
        """
        finished = _checked(finished)
        window_ms, limit_ms = self.proposal.window_ms, self.proposal.time_limit_s * 1000
        receipts: list[UsageReceipt] = []
        while self.receipted_ms + window_ms < min(finished.used_ms, limit_ms):
            receipts.append(self.window_receipt(window_ms))
        taken_back = self.proposal.until_stopped and self.stopped_by == "owner"
        asked = self.cancel.is_set() and (not finished.ok or taken_back)
        last = UsageReceipt(
            lease=self.id,
            window=self.windows,
            used_ms=max(0, finished.used_ms - self.receipted_ms),
            final=True,
            ok=finished.ok and not asked,
            reason=self.stop_reason if asked else finished.reason,
            caused_by=self.stopped_by if asked else finished.caused_by,
            result=bytes.fromhex(finished.result) if finished.result else None,
            measures=dict(finished.measures),
        )
        return [*receipts, last]


class Roll:
    """A roll call that this node works for with what is free. Whoever needs the machine comes first: it just ends.

    `cancel` is set with the `reason` when it has to.
    """

    def __init__(self) -> None:
        self.cancel = asyncio.Event()
        self.reason = ""


class Leases:
    """The book and what is held. `known` are leases that need no answer, from an earlier run of this node."""

    def __init__(self, book: Book, verticals: Iterable[str], known: Iterable[str] = ()) -> None:
        self.book = book
        self.held: dict[str, Held] = {}
        self.roll: Roll | None = None
        self._verticals = frozenset(verticals)
        self._known: OrderedDict[str, None] = OrderedDict.fromkeys(known)

    def decide(self, proposal: Proposal, closed: str) -> Take | Decline | Ignore:
        """Decide on a proposal. `closed` is the reason why nothing is taken now; empty when there is none."""
        if proposal.lease in self._known or not _well_formed(proposal):
            return Ignore()
        self._remember(proposal.lease)
        reason = closed or self._obstacle(proposal)
        if reason:
            return Decline(reason)
        held = Held(proposal)
        self.held[proposal.lease] = held
        return Take(held)

    def stop(self, lease: str, reason: str, by: str) -> None:
        """Ask a held lease to end; nothing happens when it is not held."""
        if lease in self.held:
            self.held[lease].stop(reason, by)

    def stop_all(self, reason: str, by: str) -> None:
        """Ask all held leases to end."""
        self.end_roll(reason)
        for held in self.held.values():
            held.stop(reason, by)

    def begin_roll(self, cpu_milli: int, closed: str) -> Roll | Decline:
        """Set aside what a roll call takes, or say why it cannot be answered now; `closed` as in `decide`."""
        if closed:
            return Decline(closed)
        resources = Resources(cpu_milli=cpu_milli, memory_mib=ROLL_MEMORY_MIB)
        if self.roll is not None or not self.book.take(ROLL, resources):
            return Decline("agent.no_room")
        self.roll = Roll()
        return self.roll

    def end_roll(self, reason: str = "") -> None:
        """Give back what a roll call took, if there is one; with a reason it has to end before it is done."""
        roll, self.roll = self.roll, None
        self.book.free(ROLL)
        if roll is not None and reason:
            roll.reason = reason
            roll.cancel.set()

    def resize(self, offered: Resources) -> None:
        """Offer another amount; when it is less than what is held, the leases that came last are asked to end."""
        if offered != self.book.offered:
            self.end_roll("owner.share")
        self.book.resize(offered)
        left = self.book.left
        for lease in reversed(self.held):
            if left.is_amount:
                return
            if lease in self.book.held:
                left = left.plus(self.book.held[lease])
                self.held[lease].stop("owner.share", "owner")

    def free(self, lease: str) -> None:
        """The lease's work is over and its resources are free again; its last receipt may still be on its way."""
        self.book.free(lease)

    def forget(self, lease: str) -> None:
        """The lease's last receipt is in the outbox, or it never began."""
        self.book.free(lease)
        self.held.pop(lease, None)

    def _obstacle(self, proposal: Proposal) -> str:
        """Why this proposal cannot be taken; takes its resources when nothing is in the way.

        Whether it comes too late only the market's clock can tell: this machine's may be wrong by any amount. A late
        accept is refused, and the answer to the next beat ends the lease.
        """
        if proposal.vertical not in self._verticals:
            return "agent.no_vertical"
        self.end_roll("agent.sold")
        if not self.book.take(proposal.lease, resources_of(proposal)):
            return "agent.no_room"
        return ""

    def _remember(self, lease: str) -> None:
        self._known[lease] = None
        if len(self._known) > REMEMBERED_MAX:
            oldest, _ = self._known.popitem(last=False)
            if oldest in self.held:
                self._known[oldest] = None


def resources_of(proposal: Proposal) -> Resources:
    """What the proposed lease takes."""
    return Resources(
        cpu_milli=proposal.cpu_milli,
        memory_mib=proposal.memory_mib,
        disk_mib=proposal.disk_mib,
        gpus=proposal.gpus,
    )


def lease_id(text: str) -> bytes:
    """Read a lease's id (32 hex digits); ValueError when it is none."""
    value = bytes.fromhex(text)
    if len(value) != LEASE_BYTES or value.hex() != text:
        raise ValueError(f"{text[:40]!r} is no lease id")
    return value


def _checked(finished: Finished) -> Finished:
    """What a worker says, or, when no record could say it, that the worker is at fault."""
    fine = (
        re.fullmatch("[a-z_.]{0,60}", finished.reason) is not None
        and finished.caused_by in {"buyer", "provider", "owner", "nobody"}
        and (finished.result is None or re.fullmatch("[0-9a-f]{64}", finished.result) is not None)
        and len(finished.measures) <= MEASURES_MAX
        and all(0 <= value <= COUNT_MAX for value in (finished.used_ms, *finished.measures.values()))
    )
    return finished if fine else Finished(False, "node.worker_failed", "provider", 0, None, {})


def _well_formed(proposal: Proposal) -> bool:
    """Whether it can be answered at all: a network that sends something else is broken, and gets no signature."""
    try:
        lease_id(proposal.lease)
        return len(bytes.fromhex(proposal.seed)) == SEED_BYTES and proposal.window_ms > 0 and proposal.time_limit_s > 0
    except ValueError:
        return False
