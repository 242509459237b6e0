"""The life of a lease and of its windows, as a pure function: (lease, event) -> (lease, effects).

A lease is proposed, runs from the node's signed accept, and ends exactly once, with a reason and who caused it. One
window is open at a time, numbered from 0; it is reserved before the lease is proposed, or in one step with the
settlement of the window before it. Every window ends settled or released, never both.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec

from fallow.domain.billing import deposit
from fallow.domain.resources import Resources

WINDOW_MS_MAX = 3_600_000
"""DESIGN: a window is at most one hour, so a vanished buyer or provider costs the other at most one hour."""


class LeaseState(StrEnum):
    """Where a lease stands."""

    PROPOSED = "proposed"
    RUNNING = "running"
    ENDED = "ended"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Exclusive use of `resources` on one node for one item of a job.

    `window` is the number of the open window and `held` what is reserved for it: (credit class, micro-US-dollars) in
    the order of spending. `used_ms` and `owed_microusd` cover the settled windows. Times are the network's own.
    """

    id: bytes
    job: str
    item: int
    payer: bytes
    payee: bytes
    node: bytes
    boot: int
    resources: Resources
    price_microusd_per_hour: int
    price_version: int
    window_ms: int
    time_limit_ms: int
    proposed_at: int
    answer_by: int
    state: LeaseState = LeaseState.PROPOSED
    window: int = 0
    held: tuple[tuple[int, int], ...] = ()
    started_at: int | None = None
    ended_at: int | None = None
    stop_reason: str = ""
    reason: str = ""
    caused_by: str = ""
    used_ms: int = 0
    owed_microusd: int = 0

    def window_limit_ms(self, window: int) -> int:
        """How long window `window` may last: the window length, or what the time limit leaves of it."""
        return max(0, min(self.window_ms, self.time_limit_ms - window * self.window_ms))

    def deposit_microusd(self, window: int) -> int:
        """What is reserved for a window."""
        return deposit(self.price_microusd_per_hour, self.window_limit_ms(window))


class Accepted(NamedTuple):
    """The node's signed accept came in."""

    at: int


class Declined(NamedTuple):
    """The node will not take it."""

    at: int
    reason: str


class Unanswered(NamedTuple):
    """The time to answer is over."""

    at: int


class Unfunded(NamedTuple):
    """The payer cannot cover the window that should be reserved."""

    at: int


class Reported(NamedTuple):
    """A signed receipt came in."""

    at: int
    window: int
    used_ms: int
    final: bool
    ok: bool
    reason: str
    caused_by: str


class StopAsked(NamedTuple):
    """Buyer or network wants it to end; a running lease ends with its final receipt."""

    at: int
    reason: str


class Lost(NamedTuple):
    """The node vanished, restarted, or let the time limit pass; `reason` says which."""

    at: int
    reason: str


Event = Accepted | Declined | Unanswered | Unfunded | Reported | StopAsked | Lost


class Reserve(NamedTuple):
    """Hold money for a window."""

    window: int
    amount_microusd: int


class Settle(NamedTuple):
    """Charge a window for `used_ms`, give back the rest of what it held, and reserve `following` in the same step."""

    window: int
    used_ms: int
    following: Reserve | None


class Release(NamedTuple):
    """Give back all that a window held."""

    window: int


class Stop(NamedTuple):
    """Tell the node to end the lease."""


class Ended(NamedTuple):
    """The lease is over and its capacity free. `paid`: its last window was settled; `ok`: it has a result."""

    ok: bool
    paid: bool


class Refused(NamedTuple):
    """The event does not fit the lease; nothing changed."""

    code: str


Effect = Reserve | Settle | Release | Stop | Ended | Refused
Step = tuple[Lease, tuple[Effect, ...]]


def propose(lease: Lease) -> Step:
    """Begin: the first window is reserved before the node hears of the lease."""
    return lease, (Reserve(0, lease.deposit_microusd(0)),)


def step(lease: Lease, event: Event) -> Step:  # noqa: PLR0911 - one return per kind of event
    """Apply one event. Events that come twice, late or out of order are refused with a code and change nothing."""
    if lease.state is LeaseState.ENDED:
        return lease, (Refused("lease.ended"),)
    match event:
        case Accepted(at):
            return _accepted(lease, at)
        case Declined(at, reason):
            return _before_start(lease, at, reason, "nobody")
        case Unanswered(at):
            return _before_start(lease, at, "node.unanswered", "provider")
        case Unfunded(at):
            return _unfunded(lease, at)
        case Reported():
            return _reported(lease, event)
        case StopAsked(at, reason):
            return _stop_asked(lease, at, reason)
        case Lost(at, reason):
            return _released(lease, at, reason, "provider")


def _accepted(lease: Lease, at: int) -> Step:
    if lease.state is LeaseState.RUNNING:
        return lease, (Refused("lease.accepted_twice"),)
    return msgspec.structs.replace(lease, state=LeaseState.RUNNING, started_at=at), ()


def _before_start(lease: Lease, at: int, reason: str, caused_by: str) -> Step:
    if lease.state is LeaseState.RUNNING:
        return lease, (Refused("lease.running"),)
    return _released(lease, at, reason, caused_by)


def _unfunded(lease: Lease, at: int) -> Step:
    """Nothing is reserved: a lease that has not begun ends here, a running one is told to stop unpaid from now on."""
    ended = _ended(lease, at, "buyer.insufficient_funds", "buyer")
    told = (Stop(),) if lease.state is LeaseState.RUNNING else ()
    return ended, (*told, Ended(ok=False, paid=lease.window > 0))


def _stop_asked(lease: Lease, at: int, reason: str) -> Step:
    if lease.stop_reason:
        return lease, (Refused("lease.stopping"),)
    stopping = msgspec.structs.replace(lease, stop_reason=reason)
    if lease.state is LeaseState.RUNNING:
        return stopping, (Stop(),)
    ended, effects = _released(stopping, at, reason, "buyer")
    return ended, (Stop(), *effects)


def _reported(lease: Lease, receipt: Reported) -> Step:
    if lease.state is not LeaseState.RUNNING:
        return lease, (Refused("lease.not_accepted"),)
    if receipt.window != lease.window:
        return lease, (Refused("window.other"),)
    if receipt.final:
        return _final(lease, receipt)
    following = lease.window + 1
    if lease.window_limit_ms(following) == 0:
        return lease, (Refused("window.beyond_limit"),)
    used_ms = billable_ms(lease, receipt)
    rolled = msgspec.structs.replace(lease, window=following, held=(), used_ms=lease.used_ms + used_ms)
    return rolled, (Settle(lease.window, used_ms, Reserve(following, lease.deposit_microusd(following))),)


def _final(lease: Lease, receipt: Reported) -> Step:
    """The buyer pays for what his program used; for a failure of the node's own nobody pays."""
    if receipt.caused_by in {"provider", "owner"} and not receipt.ok:
        return _released(lease, receipt.at, receipt.reason or "node.failed", receipt.caused_by)
    used_ms = billable_ms(lease, receipt)
    reason = receipt.reason or ("" if receipt.ok else "program.failed")
    ended = _ended(lease, receipt.at, reason, receipt.caused_by)
    ended = msgspec.structs.replace(ended, used_ms=lease.used_ms + used_ms)
    return ended, (Settle(lease.window, used_ms, None), Ended(ok=receipt.ok, paid=True))


def billable_ms(lease: Lease, receipt: Reported) -> int:
    """What of a receipt's claim can be true: not over the window, and not over the time since the proposal."""
    elapsed_ms = receipt.at - lease.proposed_at - lease.used_ms
    return max(0, min(receipt.used_ms, lease.window_limit_ms(lease.window), elapsed_ms))


def _released(lease: Lease, at: int, reason: str, caused_by: str) -> Step:
    return _ended(lease, at, reason, caused_by), (Release(lease.window), Ended(ok=False, paid=False))


def _ended(lease: Lease, at: int, reason: str, caused_by: str) -> Lease:
    return msgspec.structs.replace(
        lease, state=LeaseState.ENDED, held=(), ended_at=at, reason=reason, caused_by=caused_by
    )
