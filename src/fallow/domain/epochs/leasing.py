"""Leases in an epoch's records: what the network settled, held against what the node itself has signed. Pure.

Nobody is paid for a settlement that says more than the node claimed, costs more than its price, or is not signed by the
network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.billing import HOUR_MS
from fallow.domain.epochs.metering import ACCEPTED, Found, Known
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, LeaseSettled, UsageReceipt
from fallow.domain.records import COUNT_MAX, convert
from fallow.domain.verification import Verdict

KINDS: Final = frozenset(fact.kind for fact in (LeaseAccepted, UsageReceipt, LeaseCheckpoint, LeaseSettled))
OPEN_EPOCHS_MAX: Final = 400
"""A claim that is as old belongs to a lease that the network ended before its node's word came in."""
OPEN_A_NODE_MAX: Final = 4096
"""Of more, a node's oldest is forgotten: it says by itself what it accepted, and all of it is carried on."""


class Claim(NamedTuple):
    """What a node signed about one of its leases, and what was settled of it, until now.

    `claimed_ms` is over all windows, `window_ms` of it in the latest; `paid` is what its payer was charged.
    """

    lease: bytes
    node: bytes
    epoch: int
    window: int = 0
    window_ms: int = 0
    claimed_ms: int = 0
    saved_ms: int = 0
    charged_ms: int = 0
    paid: int = 0


class LeaseBook:
    """The verifier of whatever is sold by the lease: accepts and receipts do not say of which vertical they are."""

    def __init__(self, carried: Sequence[Row], known: Known) -> None:
        claims = convert(list(carried), list[Claim], "epoch.state")
        self._claims: dict[bytes, dict[bytes, Claim]] = defaultdict(dict)
        """By node and lease, the oldest first."""
        for claim in sorted(claims, key=lambda claim: (claim.epoch, claim.lease)):
            self._put(claim)
        self._known = known
        self._take: Mapping[str, Callable[[Filed], Found]] = {
            LeaseAccepted.kind: self._accepted,
            UsageReceipt.kind: self._reported,
            LeaseCheckpoint.kind: self._saved,
            LeaseSettled.kind: self._settled,
        }

    def verify(self, filed: Filed) -> Found:
        """See `Verifier`."""
        return self._take[filed.record.kind](filed)

    def carried(self) -> list[Row]:
        """See `Verifier`."""
        oldest = self._known.epoch - OPEN_EPOCHS_MAX
        claims = (claim for of_node in self._claims.values() for claim in of_node.values())
        return [list(claim) for claim in sorted(claims) if claim.epoch >= oldest]

    def _accepted(self, filed: Filed) -> Found:
        body = filed.record.read(LeaseAccepted)
        mine = self._claims[filed.node]
        if body.lease not in mine:
            if len(mine) >= OPEN_A_NODE_MAX:
                del mine[next(iter(mine))]
            self._put(Claim(body.lease, filed.node, self._known.epoch))
        return ACCEPTED

    def _reported(self, filed: Filed) -> Found:
        body = filed.record.read(UsageReceipt)
        claim = self._claims[filed.node].get(body.lease)
        if claim is None or body.window < claim.window:
            return Found(Verdict.REJECTED, "lease.not_open" if claim is None else "window.other")
        before = claim.window_ms if body.window == claim.window else 0
        more = max(0, body.used_ms - before)
        claimed_ms = min(claim.claimed_ms + more, COUNT_MAX)  # what is carried on has to fit into the encoding
        self._put(claim._replace(window=body.window, window_ms=before + more, claimed_ms=claimed_ms))
        return ACCEPTED

    def _saved(self, filed: Filed) -> Found:
        body = filed.record.read(LeaseCheckpoint)
        claim = self._claims[filed.node].get(body.lease)
        if claim is None:
            return Found(Verdict.REJECTED, "lease.not_open")
        self._put(claim._replace(saved_ms=max(claim.saved_ms, body.used_ms)))
        return ACCEPTED

    def _settled(self, filed: Filed) -> Found:
        if filed.node != self._known.network:
            return Found(Verdict.REJECTED, "settle.not_the_network")
        body = filed.record.read(LeaseSettled)
        claim = self._claims[body.node].get(body.lease)
        code = self._fault(body, claim)
        if claim is not None and body.final:
            del self._claims[body.node][body.lease]
        elif claim is not None and not code:
            self._put(claim._replace(charged_ms=body.charged_ms, paid=claim.paid + charged(body)))
        return Found(Verdict.REJECTED, code) if code else ACCEPTED

    def _fault(self, body: LeaseSettled, claim: Claim | None) -> str:
        """Why a settlement cannot be right; "" where it can."""
        if claim is None:
            return "settle.not_accepted" if body.moved else ""
        if self._known.owners.get(body.node) != body.payee:
            return "settle.payee"
        if not claim.charged_ms <= body.charged_ms <= max(claim.claimed_ms, claim.saved_ms):
            return "settle.time"
        paid = claim.paid + charged(body)
        if paid > most(body):
            return "settle.price"
        return "settle.refund" if sum(moved.refunded for moved in body.moved) > paid else ""

    def _put(self, claim: Claim) -> None:
        self._claims[claim.node][claim.lease] = claim


def charged(body: LeaseSettled) -> int:
    """What a settlement took from the payer."""
    return sum(moved.income + moved.fee + moved.reserve for moved in body.moved)


def most(body: LeaseSettled) -> int:
    """What a lease can have cost until a settlement: its meter may round each window up by a micro-dollar."""
    return body.price_microusd_per_hour * body.charged_ms // HOUR_MS + body.window + 2
