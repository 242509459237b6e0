"""The market's money, in mind: what use costs, what is to be reserved, and what the reserve gives back.

What must move is added to `changes`; the cashier turns it into transfers and tells what is held and what was paid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from fallow.domain import lease_events
from fallow.domain.billing import Charge, charge, deposit
from fallow.domain.chart import NETWORK, Credit, Kind, Parts, split
from fallow.domain.checks import DAY_MS, StartKey, payable_ms
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.reserve import Cover, Tally, cover, halves, lost_microusd
from fallow.services.market.changes import Collect, Hold, MakeGood
from fallow.services.market.state import State


class Accounts(State):
    """What the market owes, holds and gives back. The cashier reports through its public methods."""

    def held(self, lease: Lease, parts: tuple[tuple[int, int], ...]) -> None:
        """The open window of `lease` is reserved, from these credit classes."""
        current = msgspec.structs.replace(self.leases[lease.id], held=parts)
        self._keep(current)
        if current.state is LeaseState.PROPOSED:
            self.changes.proposals.append(current)

    def collected(self, lease: Lease, paid: Mapping[Kind, Mapping[int, int]]) -> None:
        """Money of `lease` moved: who got how much of it, by credit class."""
        current = self.changes.leases[lease.id]
        charged, unbacked = Counter(dict(current.paid)), Counter(dict(current.unbacked))
        for kind in (Kind.INCOME, Kind.FEE, Kind.RESERVE):
            charged.update(paid[kind])
            if paid[kind]:
                self.changes.count(lease.id, kind, paid[kind])
        unbacked.update(paid[Kind.KEPT])
        unbacked.subtract(paid[Kind.BACKED])
        self._change(msgspec.structs.replace(current, paid=_parts(charged), unbacked=_parts(unbacked)))
        if lease.payer == NETWORK:
            self._spent_on_check(lease, paid)  # what the network pays to itself earns nobody anything
            return
        for credit in Credit:
            fee = paid[Kind.FEE].get(credit, 0)
            counting = halves(
                fee if credit is Credit.GRANTED else self.fees.first.returnable(fee), paid[Kind.RESERVE].get(credit, 0)
            )
            for account, fee in zip((lease.payer, lease.payee), counting, strict=True):
                if fee:
                    tally = self._tally(account, credit)
                    self._set_tally(account, credit, tally._replace(fees=tally.fees + fee))

    def payable(
        self, account: bytes, node: bytes, price_microusd_per_hour: int, limit_ms: int, first_ms: int, now: int
    ) -> tuple[bytes, int]:
        """Find who pays a node's check of work of an account, as in `Lease.charged_to`, and for how long; 0: nobody.

        `first_ms` is what the result took that it checks.
        """
        sources = (account, sum(self._counting(account).values())), (node, self.starting.left((node, now // DAY_MS)))
        for charged_to, left in sources:
            ms = payable_ms(left, price_microusd_per_hour, limit_ms, first_ms)
            if ms:
                return charged_to, ms
        return b"", 0

    def _counting(self, account: bytes) -> dict[int, int]:
        """What may still be paid on an account, by credit class."""
        return {int(credit): self._tally(account, credit).left for credit in Credit}

    def _take_for_check(self, lease: Lease, amount_microusd: int) -> Parts | None:
        """Count what a check's window holds; None when what it is charged to does not cover that."""
        if lease.charged_to == lease.node:
            left = {int(Credit.GRANTED): self.starting.left(_start_key(lease))}
        else:
            left = self._counting(lease.charged_to)
        parts = split(amount_microusd, left)
        for credit, part in parts or ():
            self._count_for_check(lease, credit, part)
        return parts

    def _give_back_for_check(self, hold: Hold) -> None:
        """The purse did not hold what was counted on."""
        if hold.lease.charged_to:
            for credit, part in hold.parts or ():
                self._count_for_check(hold.lease, credit, -part)

    def _spent_on_check(self, lease: Lease, paid: Mapping[Kind, Mapping[int, int]]) -> None:
        """Count what left the fee's purse for good, in place of what the window held."""
        if not lease.charged_to:
            return
        held = dict(lease.held)
        for credit in Credit:
            gone = sum(paid[kind].get(credit, 0) for kind in (Kind.INCOME, Kind.RESERVE, Kind.KEPT))
            change = gone - paid[Kind.BACKED].get(credit, 0) - held.get(credit, 0)
            if change:
                self._count_for_check(lease, credit, change)

    def _count_for_check(self, lease: Lease, credit: int, amount: int) -> None:
        if lease.charged_to == lease.node:
            key = _start_key(lease)
            self.starting.add(key, amount)
            self.changes.starting.add(key)
        else:
            tally = self._tally(lease.charged_to, credit)
            self._set_tally(lease.charged_to, credit, tally._replace(covered=tally.covered + amount))

    def cover(self, wish: MakeGood, parts: Parts, reserve: Mapping[int, int]) -> Cover:
        """What the reserve may give on the accounts of a wish; it counts from now on, for the first of them first."""
        earned = {int(credit): sum(self._tally(one, credit).left for one in wish.accounts) for credit in Credit}
        given = cover(wish.amount_microusd, parts, reserve, earned)
        for credit, part in given.parts:
            left = part
            for account in wish.accounts:
                tally = self._tally(account, credit)
                taken = min(left, tally.left)
                left -= taken
                if taken:
                    self._set_tally(account, credit, tally._replace(covered=tally.covered + taken))
        return given

    def made_good(self, wish: MakeGood, given: Cover) -> None:
        """The reserve paid for what a lease lost; what the buyer got back his item does not owe any more."""
        lease = self.changes.leases[wish.lease.id]
        if given.parts:
            self.changes.count(lease.id, wish.kind, dict(given.parts))
        if wish.kind is Kind.LOST:
            self._change(msgspec.structs.replace(lease, made_good_microusd=given.total, reserve_short=given.short))
            return
        self._change(msgspec.structs.replace(lease, refunded_microusd=given.total, reserve_short=given.short))
        key, entry = (lease.job, lease.item), self.jobs.get(lease.job)
        item = entry.items[lease.item] if entry is not None else self.changes.items[key]
        item = msgspec.structs.replace(item, owed_microusd=item.owed_microusd - given.total)
        self.changes.items[key] = item
        if entry is not None:
            entry.items[lease.item] = item
            entry.spent_microusd -= given.total

    def _hold(self, lease: Lease, window: int, amount_microusd: int, kept_microusd: int = 0) -> Hold:
        if lease.payer != NETWORK:
            self.jobs[lease.job].reserved[lease.id] = amount_microusd + kept_microusd
        parts = self._take_for_check(lease, amount_microusd) if lease.charged_to else None
        return Hold(lease, window, amount_microusd, parts)

    def _close(self, before: Lease, after: Lease, effect: lease_events.Settle) -> bool:
        """Charge and keep what a window cost; False when the budget does not cover the window that follows."""
        charged = self._charge(before, effect.used_ms)
        keep = deposit(before.price_microusd_per_hour, effect.kept_ms)
        opens = bool(effect.used_ms) or after.state is LeaseState.ENDED
        kept = keep + (0 if opens else before.unbacked_microusd)
        following = effect.following and self._next_hold(after, effect.following, kept)
        self.changes.move(Collect(before, effect.window, charged, keep, following, opens))
        self.unfunded.discard(before.payer)
        return following is not None or effect.following is None

    def _next_hold(self, lease: Lease, following: lease_events.Reserve, kept_microusd: int) -> Hold | None:
        """Reserve the window after one that was closed; None when no budget covers it."""
        if lease.charged_to:
            hold = self._hold(lease, *following)
            return hold if hold.parts is not None else None
        if lease.payer != NETWORK:
            entry = self.jobs[lease.job]
            entry.reserved[lease.id] = kept_microusd
            if not entry.affords(following.amount_microusd):
                return None
        return self._hold(lease, *following, kept_microusd)

    def _charge(self, lease: Lease, used_ms: int) -> Charge:
        """Advance the meter of the lease's payer and payee; what this use costs is owed from now on."""
        key, fee = (lease.payer, lease.payee, lease.price_version), self.fees.at(lease.window_at)
        self.meters[key], owed = charge(self.meters.get(key, 0), lease.price_microusd_per_hour, used_ms, fee)
        self.changes.meters.add(key)
        current = self.leases[lease.id]
        self._keep(msgspec.structs.replace(current, owed_microusd=current.owed_microusd + owed.total))
        if lease.payer != NETWORK:
            self.jobs[lease.job].spent_microusd += owed.total
        self.unfunded.discard(NETWORK)  # the fee is where the network's own checks are paid from
        return owed

    def _forget_meters(self) -> None:
        """Drop meters whose price is nobody's any more: no open lease has it, and the payee's nodes offer others.

        What a meter is for, to round what one price has cost once, is over then: a node never offers a number again.
        """
        priced = {(slot.offer.account, slot.offer.made.offer) for slot in self.floor.slots.values()}
        leased = {(lease.payer, lease.payee, lease.price_version) for lease in self.leases.values()}
        kept = leased | self.changes.meters
        for key in [key for key in self.meters if key[1:] not in priced and key not in kept]:
            del self.meters[key]
            self.changes.meters_over.append(key)

    def _make_good(self, before: Lease, lost_ms: int) -> None:
        """Have the reserve asked for what a provider lost without a fault of his."""
        lost = lost_microusd(before.price_microusd_per_hour, lost_ms, self.fees.at(before.window_at))
        if lost:
            self.changes.move(MakeGood(before, Kind.LOST, lost, (before.payee,)))

    def _undecided(self, before: Lease, lease: Lease) -> None:
        """Have the reserve asked for what a result cost that decided nothing; checks by the network stay paid by it."""
        if lease.payer != NETWORK and lease.owed_microusd:
            accounts = tuple(dict.fromkeys((lease.payer, lease.payee)))
            self.changes.move(MakeGood(before, Kind.REFUND, lease.owed_microusd, accounts))

    def _tally(self, account: bytes, credit: int) -> Tally:
        return self.tallies.get((account, credit), Tally())

    def _set_tally(self, account: bytes, credit: int, tally: Tally) -> None:
        self.tallies[account, credit] = tally
        self.changes.tallies.add((account, credit))


def _start_key(lease: Lease) -> StartKey:
    return lease.node, lease.proposed_at // DAY_MS


def _parts(sums: Mapping[int, int]) -> Parts:
    return tuple(sorted((credit, amount) for credit, amount in sums.items() if amount))
