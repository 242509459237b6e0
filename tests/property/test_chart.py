"""Every event of a lease, as transfers: nothing is left in between, and the same event again changes nothing."""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.billing import Charge, FeePolicy, cumulative_charge
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
    fund,
    give_back,
    grant,
    hold,
    network_accounts,
    purse_id,
    split,
)
from fallow.domain.ledger import Result, Transfer, transfer
from tests.market_twins import finish

BUYERS = [b"a" * 20, b"b" * 20]
PROVIDERS = [b"p" * 20, b"q" * 20]
AMOUNTS = st.one_of(st.integers(1, 50), st.sampled_from([10**6, 10**27]))
PICK = st.integers(0, 1000)


class Held(NamedTuple):
    lease: bytes
    window: int
    payer: bytes
    parts: Parts

    @property
    def total(self) -> int:
        return sum(amount for _, amount in self.parts)


class Unfinished(NamedTuple):
    """What is kept of a lease's money."""

    payer: bytes
    payee: bytes
    parts: Counter[int]


def charge_of(total: int) -> Charge:
    fee = total // 10
    return Charge(total - fee, fee - fee // 5, fee // 5)


class ChartMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.ledger = MemoryLedger()
        self.tx = MemoryTransaction()
        finish(self.ledger.open_accounts(self.tx, network_accounts()))
        for owner in BUYERS + PROVIDERS:
            finish(self.ledger.open_accounts(self.tx, accounts_of(owner)))
        self.leases = 0
        self.held: list[Held] = []
        self.unfinished: dict[bytes, Unfinished] = {}
        self.past: list[list[Transfer]] = []

    def balance(self, id_: bytes) -> int:
        balance = self.ledger.accounts[id_].balance
        return balance.credits_posted - balance.debits_posted - balance.debits_pending

    def available(self, payer: bytes) -> dict[int, int]:
        return {int(credit): self.balance(purse_id(credit, payer)) for credit in Credit}

    def post(self, transfers: list[Transfer]) -> None:
        """Post what must be taken; remember it for the twins."""
        results = finish(self.ledger.post(self.tx, transfers, 1))
        assert all(result is Result.OK for result in results), results
        if transfers:
            self.past.append(transfers)

    @rule(who=PICK, amount=AMOUNTS, credit=st.sampled_from(list(Credit)))
    def pay_in(self, who: int, amount: int, credit: Credit) -> None:
        number = len(self.past)
        buyer = BUYERS[who % 2]
        if credit is Credit.GRANTED:
            self.post([grant(f"{number:032x}", buyer, amount)])
            return
        issuer, wallet = account_id(Purpose.ISSUER, credit), account_id(Purpose.WALLET, credit, buyer)
        entry = transfer((number + 1).to_bytes(16, "big"), issuer, wallet, amount, credit.value, Kind.GRANT.value)
        self.post([entry])

    @rule(amount=AMOUNTS, purpose=st.sampled_from([Purpose.FEE, Purpose.RESERVE]))
    def fund(self, amount: int, purpose: Purpose) -> None:
        self.post([fund(f"{len(self.past):032x}", purpose, amount)])

    @rule(who=PICK, amount=st.one_of(st.just(0), AMOUNTS))
    def hold(self, who: int, amount: int) -> None:
        payer = [*BUYERS, NETWORK][who % 3]
        planned = self.plan(payer, amount)
        if planned is None:
            return
        self.leases += 1
        window = Held(self.leases.to_bytes(16, "big"), 0, payer, planned)
        self.post(chain(hold(window.lease, 0, payer, planned)))
        self.held.append(window)

    def plan(self, payer: bytes, amount: int) -> Parts | None:
        available = self.available(payer)
        parts = split(amount, available)
        if parts is None:
            assert sum(available.values()) < amount
            return None
        assert sum(part for _, part in parts) == amount
        assert [credit for credit, _ in parts] == sorted(credit for credit, _ in parts)
        for credit, part in parts[:-1]:
            assert part == available[credit]  # a class is used up before the next is touched
        return parts

    @precondition(lambda self: self.held)
    @rule(which=PICK, share=st.integers(0, 100), to=PICK, goes_on=st.booleans())
    def collect(self, which: int, share: int, to: int, goes_on: bool) -> None:
        window = self.held.pop(which % len(self.held))
        charge = charge_of(window.total * share // 100)
        payee = PROVIDERS[to % 2]
        before = self.takings(payee)
        transfers = collect(window.lease, window.window, window.parts, [(payee, charge)])
        parts: Parts | None = None
        if goes_on:
            freed = self.available(window.payer)
            left = charge.total
            for credit, amount in window.parts:
                taken = min(amount, left)
                freed[credit] += amount - taken
                left -= taken
            parts = split(window.total // 2, freed)
            assert parts is not None or window.total // 2 > sum(freed.values())
        if parts is not None:
            transfers += hold(window.lease, window.window + 1, window.payer, parts)
            self.held.append(Held(window.lease, window.window + 1, window.payer, parts))
        spent_of_fee = charge.total if window.payer == NETWORK else 0
        payer_before = self.posted(window.payer)
        self.post(chain(transfers))
        after = self.takings(payee)
        assert Charge(*(b - a for a, b in zip(before, after, strict=True))) == charge._replace(
            fee=charge.fee - spent_of_fee
        )
        if window.payer != NETWORK:
            assert payer_before - self.posted(window.payer) == charge.total

    def takings(self, payee: bytes) -> Charge:
        """What provider, fee and reserve have, posted."""
        ids = [(Purpose.EARNED, payee), (Purpose.FEE, NETWORK), (Purpose.RESERVE, NETWORK)]
        return Charge(*(sum(self.posted_of(account_id(p, credit, o)) for credit in Credit) for p, o in ids))

    def posted_of(self, id_: bytes) -> int:
        balance = self.ledger.accounts[id_].balance
        return balance.credits_posted - balance.debits_posted

    def posted(self, payer: bytes) -> int:
        return sum(self.posted_of(purse_id(credit, payer)) for credit in Credit)

    @precondition(lambda self: self.held)
    @rule(which=PICK)
    def give_back(self, which: int) -> None:
        window = self.held.pop(which % len(self.held))
        self.post(chain(give_back(window.lease, window.window, window.parts)))

    @precondition(lambda self: self.held)
    @rule(which=PICK, share=st.integers(0, 100), to=PICK)
    def keep(self, which: int, share: int, to: int) -> None:
        """A window closes whose work is not backed: it is paid into keeping, and the next one reserved."""
        window = self.held.pop(which % len(self.held))
        payee, amount = PROVIDERS[to % 2], window.total * share // 100
        unfinished = self.unfinished.setdefault(window.lease, Unfinished(window.payer, payee, Counter()))
        payer_before = self.posted(window.payer)
        into = Kept(window.payer, unfinished.payee, keep=amount)
        transfers = collect(window.lease, window.window, window.parts, [(unfinished.payee, charge_of(0))], into)
        self.post(chain(transfers))
        assert payer_before - self.posted(window.payer) == amount
        for entry in transfers:
            if entry.code == Kind.KEPT:
                unfinished.parts[entry.ledger] += entry.amount or 0
        parts = self.plan(window.payer, window.total // 2)
        if parts is not None:
            self.post(chain(hold(window.lease, window.window + 1, window.payer, parts)))
            self.held.append(Held(window.lease, window.window + 1, window.payer, parts))

    @precondition(lambda self: self.unfinished)
    @rule(which=PICK, share=st.integers(0, 100))
    def settle_kept(self, which: int, share: int) -> None:
        """Of what was kept, and of the open window where there is one, a part is charged; the rest goes back."""
        lease = sorted(self.unfinished)[which % len(self.unfinished)]
        payer, payee, kept = self.unfinished.pop(lease)
        window = next((one for one in self.held if one.lease == lease), Held(lease, 1000, payer, ()))
        self.held = [one for one in self.held if one.lease != lease]
        charge = charge_of((kept.total() + window.total) * share // 100)
        before = self.takings(payee), self.posted(payer)
        opened = Kept(payer, payee, tuple(sorted(kept.items())))
        self.post(chain(collect(lease, window.window, window.parts, [(payee, charge)], opened)))
        gained = sum(self.takings(payee)) - sum(before[0])
        assert gained == charge.total + (kept.total() - charge.total if payer == NETWORK else 0)
        assert self.posted(payer) - before[1] == kept.total() - charge.total or payer == NETWORK

    # Twins

    @precondition(lambda self: self.past)
    @rule(which=PICK)
    def again(self, which: int) -> None:
        """The same chain again changes nothing and is answered as done."""
        before = dict(self.ledger.accounts)
        results = finish(self.ledger.post(self.tx, self.past[which % len(self.past)], 2))
        assert all(result.ok for result in results)
        assert self.ledger.accounts == before

    @precondition(lambda self: self.past)
    @rule(which=PICK, more=st.integers(1, 5))
    def other_amounts(self, which: int, more: int) -> None:
        """The same ids with other amounts are refused as a whole."""
        twin = [entry._replace(amount=(entry.amount or 0) + more) for entry in self.past[which % len(self.past)]]
        before = dict(self.ledger.accounts)
        results = finish(self.ledger.post(self.tx, twin, 2))
        assert not any(result.ok for result in results)
        assert self.ledger.accounts == before

    @precondition(lambda self: self.past)
    @rule(which=PICK)
    def settle_what_is_settled(self, which: int) -> None:
        """A window that was closed one way cannot be closed the other way."""
        open_ = {window.lease for window in self.held}
        leases = {t.ref for t in self.past[which % len(self.past)] if t.ref} - open_
        before = dict(self.ledger.accounts)
        for lease in leases:
            voids = give_back(lease, 0, ((1, 1), (2, 1), (3, 1)))
            posts = collect(lease, 0, ((1, 10),), [(PROVIDERS[0], charge_of(10))])
            for chained in (voids, posts):
                finish(self.ledger.post(self.tx, chain(chained), 2))
        assert self.ledger.accounts == before

    # What must hold

    @invariant()
    def nothing_is_left_in_between(self) -> None:
        if not hasattr(self, "ledger"):
            return
        check = finish(self.ledger.check(self.tx))
        assert check.ok, check.faults
        for totals in check.totals.values():
            assert totals.debits_posted == totals.credits_posted
        for credit in Credit:
            clearing = self.ledger.accounts[account_id(Purpose.CLEARING, credit)].balance
            assert clearing.credits_posted == clearing.debits_posted
            pending = sum(part for window in self.held for held, part in window.parts if held == credit)
            assert clearing.credits_pending == pending
            for payee in PROVIDERS:
                kept = sum(one.parts[credit] for one in self.unfinished.values() if one.payee == payee)
                assert self.posted_of(account_id(Purpose.UNBACKED, credit, payee)) == kept
            for buyer in BUYERS:
                assert self.balance(account_id(Purpose.WALLET, credit, buyer)) >= 0


ChartMachine.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=40)
TestChart = ChartMachine.TestCase


@given(
    parts=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    share=st.integers(0, 100),
    fee_ppm=st.integers(0, 10**6),
)
def test_a_charge_takes_granted_before_paid_before_burned(parts: list[int], share: int, fee_ppm: int) -> None:
    held = tuple((credit, part) for credit, part in enumerate(parts, start=1))
    charge = cumulative_charge(sum(parts) * share // 100 * 3_600_000, FeePolicy(fee_ppm))
    transfers = collect(bytes(16), 0, held, [(PROVIDERS[0], charge)])
    taken = dict.fromkeys(Credit, 0)
    for entry in transfers:
        if entry.pending_id is None:
            taken[Credit(entry.ledger)] += entry.amount or 0
    left = charge.total
    for credit, part in held:
        assert taken[Credit(credit)] == min(part, left)
        left -= taken[Credit(credit)]
    assert left == 0
    assert all((entry.amount or 0) > 0 for entry in transfers if entry.pending_id is None)
