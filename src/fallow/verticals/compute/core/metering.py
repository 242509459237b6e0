"""What compute's records are worth: the first version of its policy. Pure.

Compute is sold by the lease, so that what holds is what `fallow.domain.epochs.leasing` says, and what is metered is the
time that was charged. A node that was found wrong and is suspended at the end of an epoch earns no incentive; one that
has not proven itself half of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fallow.domain.epochs.leasing import KINDS, LeaseBook
from fallow.domain.epochs.metering import Known, Use, Verifier
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.facts import LeaseSettled
from fallow.domain.verification import PROVEN, Standing, level, suspended_until

WHOLE: Final = 1_000_000
UNPROVEN: Final = 500_000


class ComputeMetering:
    """See `fallow.domain.epochs.metering.Metering`."""

    name = "compute"
    version = 1
    digest = bytes.fromhex("6b382582d458954ca38a9e7c0cacc480bf8c37f3eeefa19cf0c8b5565e056bad")
    kinds = KINDS
    by_node = False

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        """See `Metering`."""
        return LeaseBook(carried, known)

    def meter(self, filed: Filed) -> Use | None:
        """Units are milliseconds that a final settlement says were charged."""
        if filed.record.kind != LeaseSettled.kind:
            return None
        body = filed.record.read(LeaseSettled)
        if body.vertical != self.name:
            return None
        return Use(
            node=body.node,
            account=body.payee,
            units=body.charged_ms if body.final else 0,
            moved=body.moved,
            bought=not body.checks,
            ended=(body.reason, body.caused_by) if body.final else None,
        )

    def score(self, standing: Standing, at: int) -> int:
        """See `Metering`."""
        if suspended_until(standing) > at:
            return 0
        return WHOLE if level(standing) == PROVEN else UNPROVEN
