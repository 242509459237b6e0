"""The life of a lease and of its windows, as a pure function: (lease, event) -> (lease, effects).

A lease is proposed, runs from the node's signed accept, is reported done, is judged, and ends exactly once, with a
reason and who caused it. Its capacity is free from the report on; its money moves with the judgement. One window is
open at a time, numbered from 0; it is reserved before the lease is proposed, or in one step with the settlement of
the window before it. Every window ends settled or released, never both. A window may be over before it is as long as it
may be: nodes cut those that reach beyond an epoch (`fallow.domain.windows`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fallow.domain.billing import deposit
from fallow.domain.lease_events import (
    Accepted,
    Declined,
    Effect,
    Ended,
    Event,
    Free,
    Judged,
    Lost,
    Refused,
    Release,
    Reported,
    Reserve,
    Saved,
    Settle,
    Stop,
    StopAsked,
    Undecided,
    Unfunded,
    Vote,
    Wasted,
)
from fallow.domain.resources import Resources
from fallow.domain.verification import INCONCLUSIVE, WRONG_RESULT, Verdict
from fallow.domain.windows import windows_max

WINDOW_MS_MAX = 3_600_000
"""DESIGN: a window is at most one hour, so a vanished buyer or provider costs the other at most one hour."""


WORK_DONE = "work.done"
"""Why a lease ended that has a good result. Nobody caused that."""

PREEMPTED = "spot.preempted"
"""Why a spot lease ended: its node's capacity was wanted on demand. It counts as if the owner had taken it back."""

NETWORK_FAILED = "network.failed"
"""Why a record changed nothing, and a lease that it was about ended: a bug of the network's own."""

CHECKPOINT_UNUSABLE = "checkpoint.unusable"
"""A node's word that the checkpoint that it was to go on from is not there, or broken."""


class LeaseState(StrEnum):
    """Where a lease stands."""

    PROPOSED = "proposed"
    RUNNING = "running"
    REPORTED = "reported"
    ENDED = "ended"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Exclusive use of `resources` on one node for one item of a job.

    `window` is the number of the open window and `held` what is reserved for it: (credit class, micro-US-dollars)
    in the order of spending; `claim_ms` is what its last report may cost. `used_ms` covers the closed windows. The
    last `unbacked_ms` of it are in no checkpoint yet: what they cost is `unbacked`, taken from the payer and kept
    for the payee until they are of use. `owed_microusd` is what was charged for the rest. It goes on from the
    checkpoint `resume` (SHA-256 in hex), and what it did in its first `saved_ms` is in a checkpoint of its own.
    What runs `until_stopped` is of use while it runs. `paid` is what was collected, by credit class. From the
    reserve came `refunded_microusd` to the payer, for a result that decides nothing, and `made_good_microusd` to
    the payee, for lost work; `reserve_short` says why not all. A check that the network orders is `charged_to` the
    buyer whose fees pay it, or to the node where the starting credit does; with `covered_ms` it is paid no longer
    than that. For `late_ms` the network itself was deaf, or its clock jumped. Times are the network's own.
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
    stopped_by: str = ""
    claim_ms: int = 0
    ok: bool = False
    reason: str = ""
    caused_by: str = ""
    used_ms: int = 0
    owed_microusd: int = 0
    resume: str | None = None
    saved_ms: int = 0
    until_stopped: bool = False
    spot: bool = False
    paid: tuple[tuple[int, int], ...] = ()
    unbacked_ms: int = 0
    unbacked: tuple[tuple[int, int], ...] = ()
    refunded_microusd: int = 0
    made_good_microusd: int = 0
    reserve_short: str = ""
    late_ms: int = 0
    charged_to: bytes = b""
    covered_ms: int | None = None

    @property
    def holds_capacity(self) -> bool:
        """Whether the node's resources are set aside for it."""
        return self.state in {LeaseState.PROPOSED, LeaseState.RUNNING}

    @property
    def window_at(self) -> int:
        """When its open window began, for all that it has used."""
        return (self.proposed_at if self.started_at is None else self.started_at) + self.used_ms

    @property
    def window_limit_ms(self) -> int:
        """How long the open window may last: the window length, or what the time limit leaves of it."""
        return max(0, min(self.window_ms, self.limit_ms - self.used_ms))

    @property
    def limit_ms(self) -> int:
        """For how long it is paid at most."""
        return self.time_limit_ms if self.covered_ms is None else min(self.time_limit_ms, self.covered_ms)

    def running_ms(self, now: int) -> int:
        """How long it has run, if it does."""
        if self.state is not LeaseState.RUNNING or self.started_at is None:
            return 0
        return max(0, now - self.started_at)

    @property
    def deposit_microusd(self) -> int:
        """What is reserved for the open window."""
        return deposit(self.price_microusd_per_hour, self.window_limit_ms)

    @property
    def charged_ms(self) -> int:
        """What the payer owes for: all closed windows but what no checkpoint backs."""
        return self.used_ms - self.unbacked_ms

    @property
    def unbacked_microusd(self) -> int:
        """What is kept for work that no checkpoint backs, over all credit classes."""
        return sum(amount for _, amount in self.unbacked)


Step = tuple[Lease, tuple[Effect, ...]]


def propose(lease: Lease) -> Step:
    """Begin: the first window is reserved before the node hears of the lease."""
    return lease, (Reserve(0, lease.deposit_microusd),)


def step(lease: Lease, event: Event) -> Step:  # noqa: PLR0911 - one return per kind of event
    """Apply one event. Events that come twice, late or out of order are refused with a code and change nothing."""
    if lease.state is LeaseState.ENDED:
        return lease, (Refused("lease.ended"),)
    match event:
        case Accepted(at):
            return _accepted(lease, at)
        case Declined(at, reason):
            return _declined(lease, at, reason)
        case Unfunded(at, reason):
            return _unfunded(lease, at, reason)
        case Reported():
            return _reported(lease, event)
        case Saved(at, used_ms):
            return _saved(lease, at, used_ms)
        case Judged(at, verdict):
            return _judged(lease, at, verdict)
        case StopAsked():
            return _stop_asked(lease, event)
        case Lost(at, reason, caused_by):
            return _released(lease, at, reason, caused_by)


def _accepted(lease: Lease, at: int) -> Step:
    if lease.state is not LeaseState.PROPOSED:
        return lease, (Refused("lease.accepted_twice"),)
    return msgspec.structs.replace(lease, state=LeaseState.RUNNING, started_at=at), ()


def _declined(lease: Lease, at: int, reason: str) -> Step:
    if lease.state is not LeaseState.PROPOSED:
        return lease, (Refused("lease.running"),)
    return _released(lease, at, reason, "nobody")


def _unfunded(lease: Lease, at: int, reason: str) -> Step:
    """Nothing is reserved: a lease that has not begun ends here, a running one is told to stop unpaid from now on.

    That its work breaks off is the payer's doing: he pays also for what no checkpoint backs.
    """
    payer = "buyer" if lease.payer else "network"
    ended = _ended(lease, at, reason or f"{payer}.insufficient_funds", payer)
    told = (Stop(),) if lease.state is LeaseState.RUNNING else ()
    paid = (Settle(lease.window, lease.unbacked_ms),) if lease.unbacked_ms else ()
    return ended, (*told, *paid, Free(), Ended(ok=False, paid=lease.window > 0))


def _stop_asked(lease: Lease, asked: StopAsked) -> Step:
    if lease.stop_reason or lease.state is LeaseState.REPORTED:
        return lease, (Refused("lease.stopping"),)
    stopping = msgspec.structs.replace(lease, stop_reason=asked.reason, stopped_by=asked.by)
    if lease.state is LeaseState.RUNNING:
        return stopping, (Stop(),)
    ended, effects = _released(stopping, asked.at, asked.reason, asked.by)
    return ended, (Stop(), *effects)


def _reported(lease: Lease, receipt: Reported) -> Step:
    if lease.state is not LeaseState.RUNNING:
        return lease, (Refused("lease.not_accepted"),)
    if receipt.window != lease.window:
        return lease, (Refused("window.other"),)
    if receipt.final:
        return _final(lease, receipt)
    following = lease.window + 1
    used_ms = billable_ms(lease, receipt)
    charged_ms, kept_ms = _backed(lease, used_ms)
    rolled = msgspec.structs.replace(
        lease,
        window=following,
        held=(),
        used_ms=lease.used_ms + used_ms,
        unbacked_ms=lease.unbacked_ms + used_ms - charged_ms,
    )
    if rolled.window_limit_ms == 0 or following >= windows_max(lease.limit_ms, lease.window_ms):
        return lease, (Refused("window.beyond_limit"),)
    reserve = Reserve(following, rolled.deposit_microusd)
    return rolled, (Settle(lease.window, charged_ms, kept_ms, reserve),)


def _backed(lease: Lease, used_ms: int) -> tuple[int, int]:
    """What to charge as a window of `used_ms` closes, and what of the window to keep until a checkpoint backs it.

    What was kept before is charged once the last checkpoint holds all of it. What has no end delivers as it runs.
    """
    if lease.until_stopped or lease.saved_ms >= lease.used_ms + used_ms:
        return lease.unbacked_ms + used_ms, 0
    return lease.unbacked_ms if lease.saved_ms >= lease.used_ms else 0, used_ms


def _saved(lease: Lease, at: int, used_ms: int) -> Step:
    """Only more than before counts, and no more than there was time for."""
    if lease.state is not LeaseState.RUNNING:
        return lease, (Refused("lease.not_running"),)
    saved_ms = min(used_ms, at - lease.proposed_at)
    if saved_ms <= lease.saved_ms:
        return lease, (Refused("checkpoint.not_later"),)
    return msgspec.structs.replace(lease, saved_ms=saved_ms), ()


def _final(lease: Lease, receipt: Reported) -> Step:
    """A result is judged; what a node did until the buyer stopped it is paid; for its own failure nobody pays.

    A lease that was to end for its owner's sake counts as reclaimed by him, unless it was just done.
    """
    reclaimed = lease.stopped_by == "owner"
    if reclaimed and not receipt.ok:
        receipt = receipt._replace(reason=lease.stop_reason, caused_by="owner")
    if receipt.caused_by in {"provider", "owner"} and not receipt.ok:
        return _released(lease, receipt.at, receipt.reason or "node.failed", receipt.caused_by, receipt)
    if receipt.caused_by == "nobody" and not receipt.ok and not lease.stop_reason:
        # The network was away, say, or the checkpoint is of no use: the item goes on elsewhere, and nobody pays.
        return _released(lease, receipt.at, receipt.reason or "node.failed", "nobody", receipt)
    stopped = lease.stop_reason and not receipt.ok  # the node does not know who asked it to stop
    reported = msgspec.structs.replace(
        lease,
        state=LeaseState.REPORTED,
        claim_ms=billable_ms(lease, receipt),
        ok=receipt.ok,
        reason=lease.stop_reason if stopped else receipt.reason or ("" if receipt.ok else "program.failed"),
        caused_by=lease.stopped_by if stopped else receipt.caused_by,
    )
    if lease.stop_reason and not reclaimed:
        ended, effects = _judged(reported, receipt.at, Verdict.ACCEPTED)
        return ended, (Free(), *effects)
    return reported, (Free(), Vote())


def _judged(lease: Lease, at: int, verdict: Verdict) -> Step:
    """A result is paid unless it was found wrong: that is its provider's doing, an inconclusive one is nobody's."""
    if lease.state is not LeaseState.REPORTED:
        return lease, (Refused("lease.not_reported"),)
    if verdict is Verdict.REJECTED:
        wrong = _ended(lease, at, WRONG_RESULT, "provider")
        wrong = msgspec.structs.replace(wrong, used_ms=lease.charged_ms)
        return wrong, (Release(lease.window), Ended(ok=False, paid=False))
    paid = _ended(lease, at, lease.reason or WORK_DONE, lease.caused_by)
    paid = msgspec.structs.replace(paid, used_ms=lease.used_ms + lease.claim_ms)
    settle, over = Settle(lease.window, lease.unbacked_ms + lease.claim_ms), Ended(ok=lease.ok, paid=True)
    if verdict is Verdict.INCONCLUSIVE:
        return msgspec.structs.replace(paid, reason=INCONCLUSIVE, caused_by="nobody"), (settle, Undecided(), over)
    return paid, (settle, over)


def billable_ms(lease: Lease, receipt: Reported) -> int:
    """What of a receipt's claim can be true: not over the window, and not over the time since the proposal."""
    elapsed_ms = receipt.at - lease.proposed_at - lease.used_ms
    return max(0, min(receipt.used_ms, lease.window_limit_ms, elapsed_ms))


def useful_ms(lease: Lease, caused_by: str, receipt: Reported | None) -> int:
    """What the buyer can use of a lease that ends without a result, beyond what he was charged for: DESIGN rule 8.

    That is what a checkpoint holds, and of a process that its owner stopped politely all that it ran; of the open
    window never more than the last receipt claims, where there is one.
    """
    given_ms = billable_ms(lease, receipt) if receipt is not None else lease.window_limit_ms
    if lease.until_stopped and receipt is not None and caused_by != "provider":
        return given_ms
    return max(0, min(lease.saved_ms, lease.used_ms + given_ms) - lease.charged_ms)


def _released(lease: Lease, at: int, reason: str, caused_by: str, receipt: Reported | None = None) -> Step:
    """It ends without a result: what is of use all the same is paid, and nothing else."""
    if lease.state is LeaseState.REPORTED:
        return lease, (Refused("lease.reported"),)
    useful = useful_ms(lease, caused_by, receipt)
    ended = msgspec.structs.replace(_ended(lease, at, reason, caused_by), used_ms=lease.charged_ms + useful)
    money = Settle(lease.window, useful) if useful else Release(lease.window)
    lost_ms = worked_ms(lease, caused_by, receipt) - ended.used_ms
    wasted = (Wasted(lost_ms),) if lost_ms > 0 else ()
    return ended, (money, Free(), *wasted, Ended(ok=False, paid=bool(useful)))


def worked_ms(lease: Lease, caused_by: str, receipt: Reported | None) -> int:
    """What a provider gave who is made good for what of it is lost: none after a fault of his own.

    Of what was nobody's fault that is the closed windows, of what his owner ended politely also the open one.
    """
    if caused_by == "owner" and receipt is not None:
        return lease.used_ms + billable_ms(lease, receipt)
    return lease.used_ms if caused_by in {"owner", "nobody"} else 0


def _ended(lease: Lease, at: int, reason: str, caused_by: str) -> Lease:
    return msgspec.structs.replace(
        lease,
        state=LeaseState.ENDED,
        held=(),
        claim_ms=0,
        unbacked_ms=0,
        ended_at=at,
        reason=reason,
        caused_by=caused_by,
    )
