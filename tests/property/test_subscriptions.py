"""Subscriptions under any order of reports, windows, money and hostile twins: each delivery is paid exactly once."""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.subscriptions import MemorySubscriptionStore
from fallow.domain import calls
from fallow.domain.batches import split_batch
from fallow.domain.billing import Charge, FeePolicy, cumulative_charge
from fallow.domain.budgets import month_of
from fallow.domain.chart import NETWORK, Credit, Purpose, account_id, accounts_of, grant, network_accounts
from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.subscribing import Subscribed
from fallow.domain.errors import Conflict, FallowError, InsufficientFunds, NotFound
from fallow.domain.fees import Fees
from fallow.domain.identity import address, address_text
from fallow.domain.ledger import POST_PENDING
from fallow.domain.records import Record
from fallow.domain.subscriptions import RETRY_MS, Price, subscription_key
from fallow.domain.views.money import BudgetView, SubscriptionView
from fallow.services.settle.budgets import Budgets
from fallow.services.settle.subscriptions import Subscriptions
from tests.epoch_files import Node
from tests.unit.fake_network import HandClock

BUYERS = [b"a" * 20, b"b" * 20]
PAYEES = [b"p" * 20, b"q" * 20, b"a" * 20]  # the last one serves himself, too
SOURCES = ["gateway-1", "gateway-2"]
TARIFF = {"egress_bytes": Price(microusd=7, per=1000), "requests": Price(microusd=3)}
FEE = FeePolicy()
WINDOW_MS = 10_000
PICK = st.integers(0, 1000)
Key = tuple[str, bytes, str]
"""Source, payee, meter."""

T = TypeVar("T")


class SubscriptionMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.database, self.ledger, self.store = MemoryDatabase(), MemoryLedger(), MemorySubscriptionStore()
        self.decisions, self.budgets = MemoryDecisionStore(), MemoryBudgetStore()
        self.service = Subscriptions(
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.store,
            budgets=self.budgets,
            decisions=self.decisions,
            fees=Fees(FEE),
            epoch_ms=3_600_000,
        )
        self.budgets_of = Budgets(
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.budgets,
        )
        self.bound: dict[bytes, int] = {}
        self.do(self._open_accounts())
        self.grants = 0
        self.asked: dict[str, calls.subscriptions.Subscribe] = {}
        self.shown: dict[str, SubscriptionView] = {}
        self.said: dict[str, dict[Key, int]] = {}
        for who in range(2):
            self.pay_in(who, 20_000)
            self.open(who, 5000)

    def teardown(self) -> None:
        """Close all: what payees, fee and reserve have is what the accepted reports cost, floored once."""
        if not hasattr(self, "runner"):
            return
        for name in self.asked:
            self.close_one(name)
        self.everything_is_paid()
        self.everything_is_told()
        self.runner.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(work)  # `run` hears Ctrl-C anew: a quarter of all the time

    async def _open_accounts(self) -> None:
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, network_accounts())
            for owner in BUYERS:
                await self.ledger.open_accounts(tx, accounts_of(owner))

    # What honest ones do

    @rule(who=PICK, amount=st.sampled_from([50, 1000, 100_000]))
    def pay_in(self, who: int, amount: int) -> None:
        async def give() -> None:
            async with self.database.transaction() as tx:
                self.grants += 1
                transfer = grant(f"{self.grants:032x}", BUYERS[who % 2], amount)
                assert all(result.ok for result in await self.ledger.post(tx, [transfer], self.clock.now_ms()))

        self.do(give())
        if who % 3:
            self.do(self.service.resume(BUYERS[who % 2]))
            self.look()

    @rule(who=PICK, limit=st.sampled_from([10, 400, 5000]))
    def open(self, who: int, limit: int) -> None:
        buyer = BUYERS[who % 2]
        request = calls.subscriptions.Subscribe(
            id=f"{len(self.asked):032x}",
            account=address_text(buyer),
            vertical="storage",
            tariff=TARIFF,
            limit_microusd=limit,
            window_ms=WINDOW_MS,
        )
        before = self.spendable(buyer)
        if before < limit or not self.within_budget(buyer, limit):
            with pytest.raises(InsufficientFunds):
                self.do(self.service.open(request))
            return
        self.shown[request.id] = self.do(self.service.open(request))
        self.asked[request.id] = request
        self.said[request.id] = {}
        assert self.spendable(buyer) == before - limit

    @rule(which=PICK, source=PICK, payee=PICK, meter=PICK, more=st.sampled_from([1, 20, 999, 50_000]))
    def report(self, which: int, source: int, payee: int, meter: int, more: int) -> None:
        name = self.pick(which)
        key = (SOURCES[source % 2], PAYEES[payee % 3], sorted(TARIFF)[meter % 2])
        quantity = self.said[name].get(key, 0) + more
        before = self.shown[name]
        try:
            view = self.do(self.service.meter(self.use(name, {key: quantity})))
        except (InsufficientFunds, Conflict):
            self.look()
            assert self.shown[name] == before  # refused as a whole
            assert before.state != "active" or self.cost(name, {key: quantity}) > before.left_microusd
            return
        assert before.left_microusd - view.left_microusd == self.cost(name, {key: quantity})
        self.said[name][key] = quantity
        self.shown[name] = view

    @rule(ms=st.sampled_from([1, 4000, WINDOW_MS, 3 * WINDOW_MS, 31 * 86_400_000]))
    def time_passes(self, ms: int) -> None:
        self.clock.advance(ms)
        self.roll()

    def roll(self) -> None:
        while self.do(self.service.roll_one()):
            pass
        self.look()

    @rule()
    def long_after(self) -> None:
        """Sooner or later whatever can be paid for is in service again."""
        for _ in range(2):
            self.clock.advance(RETRY_MS)
            self.roll()
        for name, view in self.shown.items():
            if view.state == "suspended":
                buyer, limit = address(self.asked[name].account), view.limit_microusd
                assert self.spendable(buyer) < limit or not self.within_budget(buyer, limit)

    @rule(which=PICK)
    def close(self, which: int) -> None:
        if len(self.asked) > 2:
            self.close_one(self.pick(which))

    @rule(who=PICK, microusd=st.sampled_from([None, 0, 400, 5500, 12_000]))
    def set_budget(self, who: int, microusd: int | None) -> None:
        """Raised, lowered below what is spent, or ended: it holds for what is reserved from now on."""
        buyer = BUYERS[who % 2]
        wanted = calls.money.MonthlyBudget(budget_microusd=microusd)
        self.do(self.budgets_of.set(calls.money.SetBudget(account=address_text(buyer), budget=wanted)))
        if who % 3:
            self.do(self.service.resume(buyer))
            self.look()

    # Hostile twins

    @rule(which=PICK, less=st.integers(0, 3))
    def say_again(self, which: int, less: int) -> None:
        """What was said before, or less, changes nothing, however often and late it comes."""
        name = self.pick(which)
        if not self.said[name] or self.shown[name].state == "ended":
            return
        uses = {key: max(0, quantity - less) for key, quantity in self.said[name].items()}
        before = self.balances()
        assert self.do(self.service.meter(self.use(name, uses))) == self.shown[name]
        assert self.balances() == before

    @rule(which=PICK, other=st.sampled_from(["limit", "vertical", "window"]))
    def open_on_other_terms(self, which: int, other: str) -> None:
        request = self.asked[self.pick(which)]
        terms: dict[str, dict[str, object]] = {
            "limit": {"limit_microusd": request.limit_microusd + 1},
            "vertical": {"vertical": "gnss"},
            "window": {"window_ms": WINDOW_MS + 1},
        }
        before = self.balances()
        with pytest.raises(Conflict):
            self.do(self.service.open(_changed(request, terms[other])))
        assert self.do(self.service.open(request)) == self.shown[request.id]
        assert self.balances() == before

    @rule(which=PICK, microusd=st.integers(0, 9))
    def open_again_at_another_tariff(self, which: int, microusd: int) -> None:
        """Its buyer asks for the same, and the network has another tariff meanwhile: it keeps its own."""
        request = self.asked[self.pick(which)]
        before = self.balances()
        tariff = dict.fromkeys(TARIFF, Price(microusd=microusd))
        assert self.do(self.service.open(_changed(request, {"tariff": tariff}))) == self.shown[request.id]
        assert self.balances() == before

    @rule(which=PICK)
    def reach_for_anothers(self, which: int) -> None:
        name = self.pick(which)
        stranger = address_text(next(b for b in BUYERS if address_text(b) != self.asked[name].account))
        use = self.use(name, {("gateway-1", PAYEES[0], "requests"): 10**6})
        for work in (
            self.service.close(calls.subscriptions.SubscriptionRef(account=stranger, id=name)),
            self.service.meter(_changed(use, {"account": stranger})),
        ):
            with pytest.raises(NotFound):
                self.do(work)
        self.look()

    @rule(which=PICK, quantity=st.sampled_from(["1", "9" * 39]))
    def meter_nonsense(self, which: int, quantity: str) -> None:
        name, before = self.pick(which), self.balances()
        for meter in ("requests", "sunshine"):
            if (meter, quantity) == ("requests", "1"):
                continue
            one = calls.subscriptions.Delivery(
                source="x", payee=address_text(PAYEES[0]), meter=meter, quantity=quantity
            )
            with pytest.raises(FallowError):
                self.do(
                    self.service.meter(
                        calls.subscriptions.MeterUse(account=self.asked[name].account, id=name, deliveries=[one])
                    )
                )
        assert self.balances() == before

    # What always holds

    @invariant()
    def exposure_is_one_window(self) -> None:
        if not hasattr(self, "runner"):
            return
        self.look()
        for buyer in BUYERS:
            wallets = [self.ledger.accounts[account_id(Purpose.WALLET, credit, buyer)].balance for credit in Credit]
            active = [
                view.limit_microusd
                for name, view in self.shown.items()
                if view.state == "active" and self.asked[name].account == address_text(buyer)
            ]
            assert sum(wallet.debits_pending for wallet in wallets) == sum(active)
        assert all(0 <= view.left_microusd <= view.limit_microusd for view in self.shown.values())

    @invariant()
    def nothing_is_reserved_beyond_the_budget(self) -> None:
        """What counts as spent is what the ledger says of this month."""
        if not hasattr(self, "runner"):
            return
        for buyer in BUYERS:
            view = self.budget(buyer)
            wallets = {account_id(Purpose.WALLET, credit, buyer) for credit in Credit}
            assert view.spent_microusd == sum(
                one.amount
                for one in self.ledger.log.values()
                if one.debit in wallets and one.flags & POST_PENDING and self.in_month(one.created_ms)
            )
            bound = view.spent_microusd + view.reserved_microusd
            if view.budget_microusd is not None:
                assert bound <= max(view.budget_microusd, self.bound.get(buyer, bound))
            self.bound[buyer] = bound

    def everything_is_paid(self) -> None:
        due: Counter[bytes] = Counter()
        for name in self.asked:
            quantities: Counter[tuple[bytes, str]] = Counter()
            for (_, payee, meter), quantity in self.said[name].items():
                quantities[payee, meter] += quantity
            total = Charge(0, 0, 0)
            for (payee, meter), quantity in quantities.items():
                charge = cumulative_charge(quantity * TARIFF[meter].microusd, FEE, TARIFF[meter].per)
                due[payee] += charge.provider
                due[NETWORK] += charge.fee + charge.reserve
                total = Charge(*(a + b for a, b in zip(total, charge, strict=True)))
            assert self.shown[name].settled_microusd == total.total
        for payee in PAYEES:
            assert self.posted(Purpose.EARNED, payee) == due[payee]
        assert self.posted(Purpose.FEE, NETWORK) + self.posted(Purpose.RESERVE, NETWORK) == due[NETWORK]
        assert self.posted(Purpose.CLEARING, NETWORK) == 0

    def everything_is_told(self) -> None:
        """The records give each payee what the ledger gave him, also where they come twice."""
        network, told = Node(1), Subscribed(Node(1).id)
        for decision in self.decisions.waiting.values():
            (raw,) = split_batch(network.batch(decision.body)).records
            filed = Filed(0, 0, network.id, Record.decode(raw), raw, 0)
            assert [told.verify(filed).code for _ in range(2)] == ["", "subscription.repeated"]
        tallies: dict[LineKey, Tally] = {}
        told.count(tallies, {})
        for payee in PAYEES:
            earned = tallies.get(("", network.id, payee), Tally()).sum_of(["income"], Credit)
            assert earned == self.posted(Purpose.EARNED, payee)
        paid = tallies.get(("", network.id, b""), Tally()).sum_of(["fee", "reserve"], Credit)
        assert paid == self.posted(Purpose.FEE, NETWORK) + self.posted(Purpose.RESERVE, NETWORK)

    # Helpers

    def budget(self, buyer: bytes) -> BudgetView:
        return self.do(self.budgets_of.show(calls.base.AccountRef(account=address_text(buyer))))

    def within_budget(self, buyer: bytes, more: int) -> bool:
        view = self.budget(buyer)
        bound = view.spent_microusd + view.reserved_microusd
        return view.budget_microusd is None or bound + more <= view.budget_microusd

    def in_month(self, ms: int) -> bool:
        return month_of(ms) == month_of(self.clock.now_ms())

    def pick(self, which: int) -> str:
        return sorted(self.asked)[which % len(self.asked)]

    def use(self, name: str, quantities: dict[Key, int]) -> calls.subscriptions.MeterUse:
        return calls.subscriptions.MeterUse(
            account=self.asked[name].account,
            id=name,
            deliveries=[
                calls.subscriptions.Delivery(
                    source=source, payee=address_text(payee), meter=meter, quantity=str(quantity)
                )
                for (source, payee, meter), quantity in quantities.items()
            ],
        )

    def cost(self, name: str, news: dict[Key, int]) -> int:
        """What new reports add, floored per payee and meter over all that was said."""
        added = 0
        for (source, payee, meter), quantity in news.items():
            known = sum(q for (_, p, m), q in self.said[name].items() if (p, m) == (payee, meter))
            after = known + quantity - self.said[name].get((source, payee, meter), 0)
            price = TARIFF[meter]
            added += price.microusd * after // price.per - price.microusd * known // price.per
        return added

    def close_one(self, name: str) -> None:
        request = calls.subscriptions.SubscriptionRef(account=self.asked[name].account, id=name)
        view = self.do(self.service.close(request))
        assert view.state == "ended"
        assert self.do(self.service.close(request)) == view
        self.shown[name] = view

    def look(self) -> None:
        for buyer in BUYERS:
            views = self.do(self.service.list_of(calls.base.AccountRef(account=address_text(buyer))))
            self.shown |= {view.id: view for view in views}

    def spendable(self, buyer: bytes) -> int:
        wallets = [self.ledger.accounts[account_id(Purpose.WALLET, credit, buyer)].balance for credit in Credit]
        return sum(one.credits_posted - one.debits_posted - one.debits_pending for one in wallets)

    def posted(self, purpose: Purpose, owner: bytes) -> int:
        found = [self.ledger.accounts.get(account_id(purpose, credit, owner)) for credit in Credit]
        return sum(one.credits_posted - one.debits_posted for one in found if one is not None)

    def balances(self) -> dict[bytes, object]:
        return {id_: one.balance for id_, one in self.ledger.accounts.items()}


def _changed(request: Any, fields: dict[str, object]) -> Any:
    return type(request)(**{name: fields.get(name, getattr(request, name)) for name in request.__struct_fields__})


TestSubscriptions = SubscriptionMachine.TestCase
TestSubscriptions.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=40)


def test_a_buyer_cannot_make_a_key_meet_a_leases() -> None:
    chosen = "ab" * 16
    assert subscription_key(BUYERS[0], chosen) != bytes.fromhex(chosen)
    assert subscription_key(BUYERS[0], chosen) != subscription_key(BUYERS[1], chosen)


@pytest.mark.parametrize("quantity", ["-1", "1e3", "", "1" * 40])
def test_quantities_that_are_no_numbers_are_refused_at_the_door(quantity: str) -> None:
    said = {"source": "x", "payee": "", "meter": "requests", "quantity": quantity}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(said, calls.subscriptions.Delivery)
