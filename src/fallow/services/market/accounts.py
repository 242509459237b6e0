"""The market's money, in mind: what use costs, what is to be reserved, and what the reserve gives back.

What must move is added to `changes`; the cashier turns it into transfers and tells what is held and what was paid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from fallow.domain import leases as lease_rules
from fallow.domain.billing import Charge, charge
from fallow.domain.chart import NETWORK, Credit, Parts
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.reserve import Cover, Tally, cover, lost_microusd, refund_microusd
from fallow.services.market.changes import Hold, MakeGood
from fallow.services.market.state import State


class Accounts(State):
    """What the market owes, holds and gives back. The cashier reports through its public methods."""

    def held(self, lease: Lease, parts: tuple[tuple[int, int], ...]) -> None:
        """The open window of `lease` is reserved, from these credit classes."""
        current = msgspec.structs.replace(self.leases[lease.id], held=parts)
        self._keep(current)
        if current.state is LeaseState.PROPOSED:
            self.changes.proposals.append(current)

    def collected(self, lease: Lease, paid: Mapping[int, int], fees: Mapping[int, int]) -> None:
        """A window of `lease` was collected, and so much of it was fee, both by credit class."""
        current = self.changes.leases[lease.id]
        total = Counter(dict(current.paid))
        total.update(paid)
        self._change(msgspec.structs.replace(current, paid=tuple(sorted(total.items()))))
        if lease.payer == NETWORK:
            return  # what the network pays to itself earns nobody anything
        for credit, fee in fees.items():
            key = (lease.payee, credit)
            tally = self.tallies.get(key, Tally())
            self.tallies[key] = tally._replace(fees=tally.fees + fee)
            self.changes.tallies.add(key)

    def cover(self, lease: Lease, amount: int, parts: Parts, reserve: Mapping[int, int]) -> Cover:
        """What the reserve may give on account of the lease's payee; it counts from now on."""
        tallies = {int(credit): self.tallies.get((lease.payee, credit), Tally()) for credit in Credit}
        given = cover(amount, parts, reserve, tallies)
        for credit, part in given.parts:
            tally = tallies[credit]
            self.tallies[lease.payee, credit] = tally._replace(covered=tally.covered + part)
            self.changes.tallies.add((lease.payee, credit))
        return given

    def made_good(self, lease: Lease, refund: Cover, lost: Cover) -> None:
        """The reserve paid for what `lease` lost; what the buyer got back his item does not owe any more."""
        self._change(
            msgspec.structs.replace(
                self.changes.leases[lease.id],
                refunded_microusd=refund.total,
                made_good_microusd=lost.total,
                reserve_short=refund.short or lost.short,
            )
        )
        key, entry = (lease.job, lease.item), self.jobs.get(lease.job)
        item = entry.items[lease.item] if entry is not None else self.changes.items[key]
        item = msgspec.structs.replace(item, owed_microusd=item.owed_microusd - refund.total)
        self.changes.items[key] = item
        if entry is not None:
            entry.items[lease.item] = item
            entry.spent_microusd -= refund.total

    def _hold(self, lease: Lease, window: int, amount_microusd: int) -> Hold:
        if lease.payer != NETWORK:
            self.jobs[lease.job].reserved[lease.id] = amount_microusd
        return Hold(lease, window, amount_microusd)

    def _next_hold(self, lease: Lease, following: lease_rules.Reserve) -> Hold | None:
        """Reserve the window after one that was charged; None when the order's budget does not cover it."""
        if lease.payer != NETWORK:
            entry = self.jobs[lease.job]
            del entry.reserved[lease.id]
            if not entry.affords(following.amount_microusd):
                return None
        return self._hold(lease, *following)

    def _charge(self, lease: Lease, used_ms: int) -> Charge:
        """Advance the meter of the lease's payer and payee; what this use costs is owed from now on."""
        key = (lease.payer, lease.payee, lease.price_version)
        self.meters[key], owed = charge(self.meters.get(key, 0), lease.price_microusd_per_hour, used_ms, self.fee)
        self.changes.meters.add(key)
        current = self.leases[lease.id]
        self._keep(msgspec.structs.replace(current, owed_microusd=current.owed_microusd + owed.total))
        if lease.payer != NETWORK:
            self.jobs[lease.job].spent_microusd += owed.total
        self.unfunded.discard(NETWORK)  # the fee is where the network's own checks are paid from
        return owed

    def _make_good(self, before: Lease, lease: Lease, settled_ms: int, given_ms: int) -> None:
        """Have the reserve asked for what was lost; the network's own checks get nothing back from it."""
        price = lease.price_microusd_per_hour
        refund = refund_microusd(lease.owed_microusd, price, lease.used_ms - settled_ms) if lease.payer else 0
        lost = lost_microusd(price, given_ms, self.fee)
        if refund or lost:
            self.changes.move(MakeGood(before, refund if settled_ms else 0, lost))
