"""Moving the market's money: in as few ledger batches as it fits into, inside the round's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fallow.domain.budgets import ACCOUNT_BUDGET, NO_BUDGET, Budget
from fallow.domain.chart import (
    NETWORK,
    Credit,
    Kept,
    Kind,
    Parts,
    Purpose,
    account_id,
    accounts_of,
    chain,
    collect,
    hold,
    make_good,
    purse_id,
    split,
)
from fallow.domain.errors import Unavailable
from fallow.domain.leases import Lease
from fallow.domain.ledger import BATCH_MAX, Balance, Result, Transfer
from fallow.ports.budgets import BudgetStore
from fallow.ports.database import Transaction
from fallow.ports.ledger import Ledger
from fallow.services.market.brain import Brain
from fallow.services.market.changes import Collect, Hold, MakeGood, Money
from fallow.services.market.purse import Available, Purse


class Misposted(Exception):
    """The money of `lease` cannot be moved as its rules want it, and nobody else's doing explains why: a bug."""

    def __init__(self, lease: Lease, why: str) -> None:
        super().__init__(f"{why} It is about lease {lease.id.hex()}.")
        self.lease = lease


class Cashier:
    """Turns the market's intents into transfers, and tells its mind what is held and what could not be."""

    def __init__(self, ledger: Ledger, budgets: BudgetStore) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._known: set[bytes] = set()
        self._raced: tuple[bytes, int] | None = None

    def forget(self) -> None:
        """Forget what was opened: the transaction may not have been written."""
        self._known.clear()

    async def move(self, tx: Transaction, brain: Brain, money: Sequence[Money], now: int) -> None:
        """Post all of `money`, in order.

        Raises:
            Unavailable: another spender was faster; the round starts over from what is stored.
            Misposted: a lease's money cannot be moved.
        """
        done = 0
        while batch := money[done:]:  # it grows: what could not be reserved ends leases, whose money moves then
            await self._move(tx, brain, batch, now)
            done += len(batch)

    async def _move(self, tx: Transaction, brain: Brain, money: Sequence[Money], now: int) -> None:
        payers = {entry.lease.payer for entry in money}
        budgets = await self._budgets.lock(tx, payers - {NETWORK})  # first, so that what is read then is what there is
        await self._open_accounts(tx, money)
        purses = await self._purses(tx, payers, budgets, now)
        reserve = await self._reserve(tx) if any(isinstance(entry, MakeGood) for entry in money) else {}
        seen = _seen(purses, reserve)
        leases = {entry.lease.id: entry.lease for entry in money}
        transfers: list[Transfer] = []
        for entry in money:
            if entry.lease.id in brain.frozen:
                brain.stays(entry, now)
                continue
            linked = _planned(entry, purses[entry.lease.payer], reserve, brain, now)
            if len(transfers) + len(linked) > BATCH_MAX:
                await self._post(tx, transfers, leases, seen, now)
                transfers = []
            transfers += linked
        await self._post(tx, transfers, leases, seen, now)
        planned = {payer: purses[payer].budget for payer in budgets}
        await self._budgets.save(tx, {payer: one for payer, one in planned.items() if one != budgets[payer]})

    async def look(self, tx: Transaction, payers: set[bytes], now: int) -> dict[bytes, Purse]:
        """What each account can spend now, for an early answer."""
        return await self._purses(tx, payers, await self._budgets.read(tx, payers), now)

    async def _post(
        self,
        tx: Transaction,
        transfers: Sequence[Transfer],
        leases: Mapping[bytes, Lease],
        seen: Mapping[bytes, int],
        now: int,
    ) -> None:
        """Post what moves for the `leases`; `seen` is what could be spent, by ledger account, as it was read."""
        results = await self._ledger.post(tx, transfers, now)
        refused = [(result, entry) for result, entry in zip(results, transfers, strict=True) if not result.ok]
        if not refused:
            if self._raced is not None and self._raced[0] in {entry.debit for entry in transfers}:
                self._raced = None
            return
        # A chain fails as a whole: what only shared it with the cause comes before the cause itself.
        own = [refusal for refusal in refused if refusal[0] is not Result.LINKED_EVENT_FAILED]
        result, entry = (own or refused)[0]
        kind = Kind(entry.code).name.lower() if entry.code else "end of a reservation"  # it has no kind of its own
        why = f"The ledger refused a transfer of this round: {result} ({kind} {entry.id.hex()})."
        if result is Result.EXCEEDS_CREDITS and self._may_be_raced(entry.debit, seen):
            raise Unavailable("market.money_raced", why)
        raise Misposted(leases[entry.ref], why)

    def _may_be_raced(self, spent: bytes, seen: Mapping[bytes, int]) -> bool:
        """Whether somebody else may have spent what was read to be there.

        Not from accounts that the market alone takes from, which it does not read; and not where the same was refused
        before and the same is read again, so that nobody has spent anything.
        """
        if spent not in seen or self._raced == (spent, seen[spent]):
            return False
        self._raced = spent, seen[spent]
        return True

    async def _open_accounts(self, tx: Transaction, money: Sequence[Money]) -> None:
        owners = {owner for entry in money for owner in (entry.lease.payer, entry.lease.payee)} - self._known
        owners.discard(NETWORK)
        if owners:
            await self._ledger.open_accounts(tx, [entry for owner in sorted(owners) for entry in accounts_of(owner)])
            self._known |= owners

    async def _reserve(self, tx: Transaction) -> Available:
        ids = {account_id(Purpose.RESERVE, credit): int(credit) for credit in Credit}
        balances = await self._ledger.balances(tx, list(ids))
        return {ids[key]: _spendable(balance) for key, balance in balances.items()}

    async def _purses(
        self, tx: Transaction, payers: set[bytes], budgets: Mapping[bytes, Budget], now: int
    ) -> dict[bytes, Purse]:
        ids = {purse_id(credit, payer): (payer, credit) for payer in payers for credit in Credit}
        purses = {payer: Purse({}, 0, budgets.get(payer, NO_BUDGET).at(now)) for payer in payers}
        for wallet, balance in (await self._ledger.balances(tx, list(ids))).items():
            payer, credit = ids[wallet]
            purses[payer].available[credit] = _spendable(balance)
            purses[payer].reserved += balance.debits_pending
        return purses


def _spendable(balance: Balance) -> int:
    return balance.credits_posted - balance.debits_posted - balance.debits_pending


def _seen(purses: Mapping[bytes, Purse], reserve: Available) -> dict[bytes, int]:
    """What could be spent as it was read, by account of the ledger."""
    wallets = {
        purse_id(Credit(credit), payer): amount
        for payer, purse in purses.items()
        for credit, amount in purse.available.items()
    }
    return wallets | {account_id(Purpose.RESERVE, Credit(credit)): amount for credit, amount in reserve.items()}


def _planned(entry: Money, purse: Purse, reserve: Available, brain: Brain, now: int) -> list[Transfer]:
    """Plan one intent as one chain; where its own rules do not let it, that is a bug of its lease's."""
    try:
        if isinstance(entry, MakeGood):
            return _make_good(entry, purse, reserve, brain, now)
        return _transfers(entry, purse, brain, now)
    except (ValueError, LookupError) as error:
        raise Misposted(entry.lease, f"Its money does not add up: {error}.") from error


def _transfers(money: Hold | Collect, purse: Purse, brain: Brain, now: int) -> list[Transfer]:
    """Plan one intent as one chain, and keep count of what remains available."""
    if isinstance(money, Hold):
        return chain(_reserve(money, purse, brain, now))
    lease, window, charge, keep, following, opens = money
    kept = Kept(lease.payer, lease.payee, _current(brain, lease).unbacked if opens else (), keep)
    settled = collect(lease.id, window, lease.held, [(lease.payee, charge)], kept)
    paid = _by_kind(settled)
    purse.settle(lease.held, paid)
    brain.funded(now, account=lease.payer)
    brain.collected(lease, paid)
    return chain(settled + (_reserve(following, purse, brain, now) if following else []))


def _current(brain: Brain, lease: Lease) -> Lease:
    """The lease as the money that moved before in this round has left it."""
    return brain.changes.leases[lease.id]


def _by_kind(transfers: Sequence[Transfer]) -> dict[Kind, Counter[int]]:
    """What a lease's money went to, by credit class."""
    sums: dict[Kind, Counter[int]] = {kind: Counter() for kind in Kind}
    for entry in transfers:
        if entry.code:  # the end of a reservation has none of its own
            sums[Kind(entry.code)][entry.ledger] += entry.amount or 0
    return sums


def _make_good(wish: MakeGood, purse: Purse, reserve: Available, brain: Brain, now: int) -> list[Transfer]:
    """Pay from the reserve what it has and may give, in the credit classes that the lease was paid in."""
    lease = _current(brain, wish.lease)
    parts = lease.paid if wish.kind is Kind.REFUND else _both(wish.lease.unbacked, wish.lease.held)
    given = brain.cover(wish, parts, reserve)
    for credit, amount in given.parts:
        reserve[credit] -= amount
    brain.made_good(wish, given)
    if wish.kind is Kind.REFUND and given.parts:
        purse.refund(given.parts)
        brain.funded(now, account=lease.payer)
    to = lease.payer if wish.kind is Kind.REFUND else lease.payee
    return chain(make_good(lease.id, wish.kind, to, given.parts))


def _reserve(wish: Hold, purse: Purse, brain: Brain, now: int) -> list[Transfer]:
    parts = _parts_of(wish, purse.available)
    if parts is None:
        brain.not_held(wish, now)
        return []
    if not purse.covers(wish.amount_microusd):
        purse.fell_short()
        brain.not_held(wish, now, ACCOUNT_BUDGET)
        return []
    purse.hold(parts)
    brain.held(wish.lease, parts)
    return hold(wish.lease.id, wish.window, wish.lease.payer, parts)


def _parts_of(wish: Hold, available: Available) -> Parts | None:
    if wish.parts is None:  # a check of which nothing could be counted on an account is not held: no bound is passed by
        return None if wish.lease.charged_to else split(wish.amount_microusd, available)
    return wish.parts if all(available[credit] >= amount for credit, amount in wish.parts) else None


def _both(one: Parts, other: Parts) -> Parts:
    return tuple(sorted((Counter(dict(one)) + Counter(dict(other))).items()))
