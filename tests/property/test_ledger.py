"""The ledger's rules against a naive oracle, with hostile twins of everything accepted (invariants 1 and 2)."""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.errors import InvalidInput
from fallow.domain.ledger import (
    AMOUNT_MAX,
    BALANCE_MAX,
    CREDITS_MUST_NOT_EXCEED_DEBITS,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    EXPIRED,
    LINKED,
    PENDING,
    POST_PENDING,
    VOID_PENDING,
    Account,
    Result,
    Transfer,
    View,
    account,
    apply_batch,
    expire_due,
    ordered_id,
    post_pending,
    transfer,
    void_pending,
)
from tests.ledger_oracle import Oracle

T = TypeVar("T")


def id16(number: int) -> bytes:
    return number.to_bytes(16, "big")


# Two ledgers; a bank without limits, limited accounts of both kinds, and an account that does not exist.
BANK, ALICE, BOB, SHOP, ASSET, OTHER_BANK, OTHER, NOBODY = map(id16, range(1, 9))
ACCOUNTS = (
    account(BANK, 1, 1),
    account(ALICE, 1, 1, DEBITS_MUST_NOT_EXCEED_CREDITS),
    account(BOB, 1, 2, DEBITS_MUST_NOT_EXCEED_CREDITS),
    account(SHOP, 1, 1),
    account(ASSET, 1, 1, CREDITS_MUST_NOT_EXCEED_DEBITS),
    account(OTHER_BANK, 2, 1),
    account(OTHER, 2, 1, DEBITS_MUST_NOT_EXCEED_CREDITS),
)
LAST = transfer(id16(99), OTHER_BANK, OTHER, 0, 2, 1)
"""Accepted at the start; it closes the chain when a single linked transfer is replayed."""
IDS = st.integers(100, 139).map(id16)
PARTIES = st.sampled_from([BANK, ALICE, ALICE, BOB, SHOP, ASSET, OTHER_BANK, OTHER, NOBODY])
AMOUNTS = st.one_of(st.integers(0, 30), st.just(10**27), st.just(AMOUNT_MAX))
REFS = st.sampled_from([b"", b"x", b"r" * 32])
LINKS = st.sampled_from([False, False, True])


@st.composite
def first_phases(draw: st.DrawFn) -> Transfer:
    debit, credit = draw(st.tuples(PARTIES, PARTIES).filter(lambda pair: pair[0] != pair[1]))
    pending = draw(st.booleans())
    return transfer(
        draw(IDS),
        debit,
        credit,
        draw(AMOUNTS),
        draw(st.sampled_from([1, 1, 1, 2])),
        draw(st.integers(1, 2)),
        pending=pending,
        linked=draw(LINKS),
        timeout_s=draw(st.sampled_from([0, 1, 5])) if pending else 0,
        ref=draw(REFS),
    )


@st.composite
def second_phases(draw: st.DrawFn) -> Transfer:
    id_, pending_id = draw(st.tuples(IDS, IDS).filter(lambda pair: pair[0] != pair[1]))
    if draw(st.booleans()):
        return void_pending(id_, pending_id, linked=draw(LINKS), ref=draw(REFS))
    return post_pending(id_, pending_id, draw(st.none() | AMOUNTS), linked=draw(LINKS), ref=draw(REFS))


BATCHES = st.lists(first_phases() | second_phases(), min_size=1, max_size=12)
OTHER_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "debit": PARTIES,
    "credit": PARTIES,
    "amount": AMOUNTS,
    "ledger": st.integers(1, 2),
    "code": st.integers(1, 3),
    "ref": REFS,
    "timeout_s": st.integers(1, 9),
    "pending_id": IDS,
    "flags": st.sampled_from([0, PENDING, POST_PENDING, VOID_PENDING, LINKED, PENDING | LINKED]),
}


def well_formed(changed: Transfer) -> bool:
    """Whether the door would have let it through; second phases may name accounts, as TigerBeetle's do."""
    second = bool(changed.flags & (POST_PENDING | VOID_PENDING))
    parties = {changed.debit, changed.credit}
    return (
        second == (changed.pending_id is not None)
        and changed.pending_id != changed.id
        and (second or (changed.amount is not None and b"" not in parties and changed.ledger > 0))
        and (second or changed.code > 0)
        and (len(parties) > 1 or parties == {b""})
        and (not changed.timeout_s or bool(changed.flags & PENDING))
    )


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("the in-memory ledger waited for something")


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger()
        self.oracle = Oracle({a.id: (a.ledger, a.flags) for a in ACCOUNTS})
        self.now_ms = 1_000_000
        self.accepted: list[Transfer] = []
        self.last_fresh = 1000
        self.tx = MemoryTransaction()
        finish(self.ledger.open_accounts(self.tx, ACCOUNTS))
        self.post([LAST])

    def fresh(self) -> bytes:
        self.last_fresh += 1
        return id16(self.last_fresh)

    def post(self, batch: list[Transfer]) -> list[str]:
        results = finish(self.ledger.post(self.tx, batch, self.now_ms))
        assert [str(result) for result in results] == self.oracle.post(batch, self.now_ms)
        self.accepted += [t for t, result in zip(batch, results, strict=True) if result is Result.OK]
        return [str(result) for result in results]

    @rule(batch=BATCHES)
    def some_batch(self, batch: list[Transfer]) -> None:
        self.post(batch)

    @rule(customer=st.sampled_from([ALICE, BOB]), amount=st.integers(1, 100), id_=IDS)
    def funding(self, customer: bytes, amount: int, id_: bytes) -> None:
        self.post([transfer(id_, BANK, customer, amount, 1, 1)])

    @rule(customer=st.sampled_from([ALICE, BOB]), pending=st.booleans(), over=st.integers(-1, 1))
    def spend_about_everything(self, customer: bytes, pending: bool, over: int) -> None:
        balance = self.oracle.balance(customer)
        left = balance[3] - balance[0] - balance[1]
        amount = min(AMOUNT_MAX, max(0, left + over))
        [result] = self.post([transfer(self.fresh(), customer, SHOP, amount, 1, 1, pending=pending)])
        assert result == ("ok" if amount <= left else "exceeds_credits")

    @rule(amount=st.integers(1, 20), pending=st.booleans(), over=st.integers(-1, 1))
    def take_about_everything_from_an_asset(self, amount: int, pending: bool, over: int) -> None:
        self.post([transfer(self.fresh(), ASSET, BANK, amount, 1, 1)])
        balance = self.oracle.balance(ASSET)
        left = balance[1] - balance[2] - balance[3]
        amount = min(AMOUNT_MAX, max(0, left + over))
        [result] = self.post([transfer(self.fresh(), SHOP, ASSET, amount, 1, 1, pending=pending)])
        assert result == ("ok" if amount <= left else "exceeds_debits")

    @rule(timeout_s=st.sampled_from([1, 5]), early=st.integers(-1, 1), how=st.sampled_from(["post", "void", "expire"]))
    def meet_a_deadline(self, timeout_s: int, early: int, how: str) -> None:
        reserved = transfer(self.fresh(), BANK, SHOP, 7, 1, 1, pending=True, timeout_s=timeout_s)
        assert self.post([reserved]) == ["ok"]
        self.now_ms += timeout_s * 1000 - early
        if how == "expire":
            self.expire(100)
            assert bool(self.oracle.resolution(reserved.id)) == (early <= 0)
        else:
            second = post_pending if how == "post" else void_pending
            result = self.post([second(self.fresh(), reserved.id)])
            assert result == ["ok" if early > 0 else "pending_transfer_expired"]

    @rule(named=st.integers(0, 9))
    def a_void_may_name_only_the_whole(self, named: int) -> None:
        reserved = transfer(self.fresh(), BANK, SHOP, 7, 1, 1, pending=True)
        voided = void_pending(self.fresh(), reserved.id)._replace(amount=named)
        refusals = {7: "ok", 8: "exceeds_pending_transfer_amount", 9: "exceeds_pending_transfer_amount"}
        expected = refusals.get(named, "pending_transfer_has_different_amount")
        assert self.post([reserved, voided]) == ["ok", expected]

    @rule(amounts=st.tuples(st.integers(0, 9), st.integers(0, 9)), kept=st.none() | st.integers(0, 9))
    def a_chain_breaks_and_its_parts_come_again(self, amounts: tuple[int, int], kept: int | None) -> None:
        reserved = transfer(self.fresh(), BANK, SHOP, 9, 1, 1, pending=True)
        paid = transfer(self.fresh(), BANK, ALICE, amounts[0], 1, 1)
        inner = transfer(self.fresh(), BANK, ALICE, amounts[1], 1, 1, pending=True)
        ended = post_pending(self.fresh(), reserved.id, kept)
        voided = void_pending(self.fresh(), inner.id)
        parts = [paid, ended, inner, voided]
        chain = [part._replace(flags=part.flags | LINKED) for part in parts]
        breaks = transfer(self.fresh(), NOBODY, SHOP, 1, 1, 1)
        failed = ["linked_event_failed"] * 4
        # In one batch, so that whatever the broken chain left behind would be met by the parts that follow.
        results = self.post([reserved, *chain, breaks, *parts, *parts])
        assert results == ["ok", *failed, "debit_account_not_found", *["ok"] * 4, *["exists"] * 4]

    @rule(data=st.data(), amount=st.integers(0, 20), timeout_s=st.sampled_from([0, 1, 5]))
    def reserve_and_then_post_and_reserve_as_a_chain(self, data: st.DataObject, amount: int, timeout_s: int) -> None:
        one, two, three = data.draw(st.lists(IDS, min_size=3, max_size=3, unique=True))
        first = transfer(one, ALICE, SHOP, amount, 1, 1, pending=True, timeout_s=timeout_s)
        again = transfer(three, ALICE, SHOP, amount, 1, 1, pending=True, timeout_s=timeout_s)
        self.post([first, post_pending(two, one, data.draw(st.none() | st.integers(0, 21)), linked=True), again])

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def twin_with_another_field(self, data: st.DataObject) -> None:
        original = data.draw(st.sampled_from(self.accepted))
        name = data.draw(st.sampled_from(sorted(OTHER_VALUES)))
        twin = original._replace(**{name: data.draw(OTHER_VALUES[name])})
        if well_formed(twin) and twin != original and not twin.flags & LINKED:
            before = self.state()
            [result] = self.post([twin])
            assert result.startswith("exists")
            assert self.state() == before

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), void=st.booleans(), amount=st.none() | st.integers(0, 40))
    def second_phase_of_something_accepted(self, data: st.DataObject, void: bool, amount: int | None) -> None:
        pending = data.draw(st.sampled_from(self.accepted))
        id_ = data.draw(IDS.filter(lambda id_: id_ != pending.id))
        if void:
            self.post([void_pending(id_, pending.id)])
        else:
            self.post([post_pending(id_, pending.id, amount)])

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def second_phase_that_names_something(self, data: st.DataObject) -> None:
        pending = data.draw(st.sampled_from(self.accepted))
        id_ = data.draw(IDS.filter(lambda id_: id_ != pending.id))
        kind = data.draw(st.sampled_from([POST_PENDING, VOID_PENDING]))
        amount = data.draw(st.sampled_from([None, pending.amount]))
        named = Transfer(
            id_, pending.debit, pending.credit, amount, pending.ledger, pending.code, kind, pending.id, 0, b""
        )
        name = data.draw(st.sampled_from(["debit", "credit", "ledger", "code", "amount", "ref"]))
        twin = named._replace(**{name: data.draw(OTHER_VALUES[name])})
        self.post([twin if well_formed(twin) else named])

    @rule(seconds=st.sampled_from([0.999, 1, 5, 60]))
    def time_passes(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)

    @rule(limit=st.integers(1, 3))
    def expire(self, limit: int) -> None:
        assert finish(self.ledger.expire(self.tx, self.now_ms, limit)) == self.oracle.expire(self.now_ms, limit)

    @rule(batch=BATCHES)
    def batch_that_is_rolled_back(self, batch: list[Transfer]) -> None:
        before = self.state()
        doomed = MemoryTransaction()
        finish(self.ledger.post(doomed, batch, self.now_ms))
        finish(self.ledger.expire(doomed, self.now_ms + 60_000, 10))
        doomed.end(commit=False)
        assert self.state() == before

    @invariant()
    def replay_of_everything_changes_nothing(self) -> None:
        before = self.state()
        for original in self.accepted:
            batch = [original, LAST] if original.flags & LINKED else [original]
            results = finish(self.ledger.post(self.tx, batch, self.now_ms))
            assert results[0] is Result.EXISTS
        assert self.state() == before

    @invariant()
    def balances_are_the_oracles(self) -> None:
        for known in ACCOUNTS:
            assert self.ledger.accounts[known.id].balance == self.oracle.balance(known.id)

    @invariant()
    def debits_equal_credits_and_no_limit_is_broken(self) -> None:
        for ledger in (1, 2):
            mine = [a.balance for a in self.ledger.accounts.values() if a.ledger == ledger]
            assert sum(b.debits_posted for b in mine) == sum(b.credits_posted for b in mine)
            assert sum(b.debits_pending for b in mine) == sum(b.credits_pending for b in mine)
        for id_ in (ALICE, BOB, OTHER):
            balance = self.ledger.accounts[id_].balance
            assert balance.debits_pending + balance.debits_posted <= balance.credits_posted
        asset = self.ledger.accounts[ASSET].balance
        assert asset.credits_pending + asset.credits_posted <= asset.debits_posted
        assert finish(self.ledger.check(self.tx)).faults == ()

    def state(self) -> tuple[object, ...]:
        return dict(self.ledger.accounts), list(self.ledger.log.values()), dict(self.ledger._open)


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase


def test_what_is_passed_in_stays_as_it_is() -> None:
    accounts = {a.id: a for a in ACCOUNTS}
    view = View(dict(accounts), {}, {})
    batch = [transfer(id16(100), BANK, ALICE, 5, 1, 1, pending=True), post_pending(id16(101), id16(100))]
    outcome = apply_batch(view, batch, 1)
    assert outcome.results == [Result.OK, Result.OK]
    assert view == View(accounts, {}, {})


def test_an_expiry_leaves_alone_what_is_resolved_or_not_due() -> None:
    view = View({a.id: a for a in ACCOUNTS}, {}, {})
    batch = [transfer(id16(100 + n), BANK, SHOP, 5, 1, 1, pending=True, timeout_s=n) for n in range(4)]
    pendings = {m.id: m for m in apply_batch(view, batch, 0).movements if m.id}
    view = View(view.accounts, pendings, {id16(101): POST_PENDING})
    released = expire_due(view, pendings.values(), 2000).movements
    assert [(m.id, m.pending_id, m.amount, m.flags) for m in released] == [(None, id16(102), 5, EXPIRED)]


def test_a_balance_never_outgrows_its_column() -> None:
    nearly = Account(BANK, 1, 1, 0, 0, BALANCE_MAX - 1, 0, 0)
    view = View({BANK: nearly, SHOP: Account(SHOP, 1, 1)}, {}, {})
    fits = transfer(id16(100), BANK, SHOP, 1, 1, 1)
    over = transfer(id16(101), BANK, SHOP, 1, 1, 1, pending=True)
    outcome = apply_batch(view, [fits, over], 1)
    assert outcome.results == [Result.OK, Result.OVERFLOWS_DEBITS]
    full = Account(SHOP, 1, 1, 0, 0, 0, 1, BALANCE_MAX - 1)
    assert apply_batch(View({BANK: Account(BANK, 1, 1), SHOP: full}, {}, {}), [fits], 1).results == [
        Result.OVERFLOWS_CREDITS
    ]


@given(st.integers(), st.integers())
def test_the_door_lets_in_only_amounts_and_timeouts_in_range(amount: int, timeout_s: int) -> None:
    allowed = 0 <= amount <= AMOUNT_MAX and 0 <= timeout_s < 1 << 31
    if allowed:
        made = transfer(id16(100), BANK, SHOP, amount, 1, 1, pending=True, timeout_s=timeout_s)
        assert (made.amount, made.timeout_s) == (amount, timeout_s)
    else:
        with pytest.raises(InvalidInput):
            transfer(id16(100), BANK, SHOP, amount, 1, 1, pending=True, timeout_s=timeout_s)


GOOD: dict[str, Any] = {"id_": id16(100), "debit": BANK, "credit": SHOP, "amount": 1, "ledger": 1, "code": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"id_": b"short"},
        {"id_": bytes(16)},
        {"id_": b"\xff" * 16},
        {"id_": bytearray(id16(100))},
        {"debit": SHOP},
        {"credit": b""},
        {"amount": True},
        {"amount": 1.0},
        {"amount": None},
        {"ledger": 0},
        {"ledger": 1 << 31},
        {"code": 0},
        {"code": 1 << 16},
        {"ref": b"x" * 33},
        {"timeout_s": 1},
    ],
    ids=repr,
)
def test_the_door_refuses(change: dict[str, Any]) -> None:
    transfer(**GOOD)
    with pytest.raises(InvalidInput):
        transfer(**GOOD | change)


def test_the_door_refuses_malformed_second_phases_and_accounts() -> None:
    with pytest.raises(InvalidInput):
        post_pending(id16(100), id16(100))
    with pytest.raises(InvalidInput):
        post_pending(id16(100), id16(101), -1)
    with pytest.raises(InvalidInput):
        void_pending(id16(100), b"")
    with pytest.raises(InvalidInput):
        account(id16(1), 1, 1, DEBITS_MUST_NOT_EXCEED_CREDITS | CREDITS_MUST_NOT_EXCEED_DEBITS)
    with pytest.raises(InvalidInput):
        account(id16(1), 0, 1)


def test_ordered_ids_grow_with_time_and_can_be_made_again() -> None:
    made = ordered_id(1_700_000_000_000, b"lease 1, window 2")
    assert made == bytes.fromhex("018bcfe56800") + made[6:]
    assert made == ordered_id(1_700_000_000_000, b"lease 1, window 2")
    assert made[6:] != ordered_id(1_700_000_000_000, b"lease 1, window 3")[6:]
    assert made < ordered_id(1_700_000_000_001, b"") < transfer(**GOOD | {"id_": b"\xfe" * 16}).id
    with pytest.raises(InvalidInput):
        ordered_id(0, b"")
