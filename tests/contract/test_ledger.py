"""The ledger port: the same scenarios and the same random batches on PostgreSQL and in memory."""

# ruff: noqa: D102 - helpers named after the port's methods

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest

from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.domain.errors import Conflict, TooMuch, Unavailable
from fallow.domain.ledger import (
    BATCH_MAX,
    CREDITS_MUST_NOT_EXCEED_DEBITS,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    EXPIRED,
    Balance,
    LedgerCheck,
    StatementRow,
    Transfer,
    account,
    post_pending,
    transfer,
    void_pending,
)
from fallow.ports.database import Database
from fallow.ports.ledger import SEQ_END, Ledger
from tests.ledger_oracle import Oracle

T0 = 1_700_000_000_000
SUPPLY = 10**27


def id16(number: int) -> bytes:
    return number.to_bytes(16, "big")


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


class Books:
    """A ledger with its database: each call is one transaction."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self.database = database
        self.ledger = ledger

    async def post(self, *transfers: Transfer, now_ms: int = T0) -> list[str]:
        async with self.database.transaction() as tx:
            return [str(result) for result in await self.ledger.post(tx, transfers, now_ms)]

    async def expire(self, now_ms: int, limit: int = 100) -> int:
        async with self.database.transaction() as tx:
            return await self.ledger.expire(tx, now_ms, limit)

    async def balance(self, id_: bytes) -> Balance:
        return (await self.balances([id_]))[id_]

    async def balances(self, ids: Sequence[bytes]) -> dict[bytes, Balance]:
        async with self.database.transaction() as tx:
            return await self.ledger.balances(tx, ids)

    async def history(self, id_: bytes, after: int = 0, limit: int = 1000) -> list[StatementRow]:
        async with self.database.transaction() as tx:
            return await self.ledger.history(tx, id_, after, limit)

    async def latest(self, id_: bytes, before: int = SEQ_END, limit: int = 1000) -> list[StatementRow]:
        async with self.database.transaction() as tx:
            return await self.ledger.latest(tx, id_, before, limit)

    async def check(self) -> LedgerCheck:
        async with self.database.transaction() as tx:
            return await self.ledger.check(tx)


@asynccontextmanager
async def opened(database: Database, ledger: Ledger) -> AsyncIterator[Books]:
    async with database.transaction() as tx:
        await ledger.open_accounts(tx, ACCOUNTS)
    books = Books(database, ledger)
    yield books
    assert (await books.check()).faults == ()


@asynccontextmanager
async def on_postgres(dsn: str) -> AsyncIterator[Books]:
    async with open_database(dsn, pool_size=10) as database:
        await migrate(database, builtin("ledger"))
        async with opened(database, PostgresLedger()) as books:
            yield books


@pytest.fixture
async def memory_books() -> AsyncIterator[Books]:
    async with opened(MemoryDatabase(), MemoryLedger()) as made:
        yield made


@pytest.fixture
async def postgres_books(postgres_dsn: str) -> AsyncIterator[Books]:
    async with on_postgres(postgres_dsn) as made:
        yield made


@pytest.fixture(params=["memory", "postgres"])
def books(request: pytest.FixtureRequest) -> Books:
    made: Books = request.getfixturevalue(f"{request.param}_books")
    return made


def pay(number: int, debit: bytes, credit: bytes, amount: int, *, linked: bool = False) -> Transfer:
    return transfer(id16(number), debit, credit, amount, 1, 1, linked=linked)


def reserve(number: int, debit: bytes, credit: bytes, amount: int, timeout_s: int = 0) -> Transfer:
    return transfer(id16(number), debit, credit, amount, 1, 1, pending=True, timeout_s=timeout_s)


async def test_one_phase_moves_money_and_stops_at_the_limit(books: Books) -> None:
    assert await books.post(pay(100, BANK, ALICE, 50), pay(101, ALICE, SHOP, 30), pay(102, ALICE, SHOP, 21)) == [
        "ok",
        "ok",
        "exceeds_credits",
    ]
    assert await books.balance(ALICE) == Balance(0, 30, 0, 50)
    assert await books.balance(SHOP) == Balance(0, 0, 0, 30)
    # A refused transfer leaves nothing behind: its id may be used again once there is money.
    assert await books.post(pay(103, BANK, ALICE, 1), pay(102, ALICE, SHOP, 21)) == ["ok", "ok"]
    assert await books.post(pay(104, SHOP, ASSET, 1)) == ["exceeds_debits"]


async def test_accounts_must_exist_and_share_the_ledger(books: Books) -> None:
    other = transfer(id16(103), OTHER_BANK, OTHER, 1, 1, 1)
    assert await books.post(pay(100, NOBODY, ALICE, 1), pay(101, BANK, NOBODY, 1), pay(102, BANK, OTHER, 1), other) == [
        "debit_account_not_found",
        "credit_account_not_found",
        "accounts_must_have_the_same_ledger",
        "transfer_must_have_the_same_ledger_as_accounts",
    ]
    assert await books.balances([ALICE, NOBODY]) == {ALICE: Balance()}


async def test_a_repeated_batch_changes_nothing(books: Books) -> None:
    batch = [pay(100, BANK, ALICE, 50), reserve(101, ALICE, SHOP, 20, 9), post_pending(id16(102), id16(101), 5)]
    assert await books.post(*batch) == ["ok"] * 3
    before = await books.history(ALICE)
    assert await books.post(*batch, now_ms=T0 + 60_000) == ["exists"] * 3
    assert await books.post(*batch, *batch) == ["exists"] * 6
    assert await books.history(ALICE) == before


async def test_the_same_id_with_another_field_is_named(books: Books) -> None:
    original = transfer(id16(100), BANK, ALICE, 50, 1, 1, pending=True, timeout_s=5, ref=b"r")
    await books.post(original, reserve(101, BANK, BOB, 7), post_pending(id16(102), id16(101), 3))
    post = post_pending(id16(102), id16(101), 3)
    twins = {
        "flags": original._replace(flags=0, timeout_s=0),
        "timeout": original._replace(timeout_s=6),
        "debit_account_id": original._replace(debit=SHOP),
        "credit_account_id": original._replace(credit=BOB),
        "amount": original._replace(amount=49),
        "ref": original._replace(ref=b""),
        "ledger": original._replace(ledger=2),
        "code": original._replace(code=2),
        "pending_id": post._replace(pending_id=id16(100)),
    }
    for name, twin in twins.items():
        assert await books.post(twin) == [f"exists_with_different_{name}"]
    assert await books.post(post_pending(id16(102), id16(101))) == ["exists_with_different_amount"]
    assert await books.post(original, post) == ["exists", "exists"]


async def test_two_phases(books: Books) -> None:
    await books.post(pay(100, BANK, ALICE, 100))
    assert await books.post(reserve(101, ALICE, SHOP, 60), reserve(102, ALICE, SHOP, 40), pay(103, ALICE, SHOP, 1)) == [
        "ok",
        "ok",
        "exceeds_credits",
    ]
    assert await books.balance(ALICE) == Balance(100, 0, 0, 100)
    assert await books.balance(SHOP) == Balance(0, 0, 100, 0)
    assert await books.post(post_pending(id16(104), id16(101), 61)) == ["exceeds_pending_transfer_amount"]
    assert await books.post(post_pending(id16(104), id16(101), 25), void_pending(id16(105), id16(102))) == ["ok", "ok"]
    assert await books.balance(ALICE) == Balance(0, 25, 0, 100)
    assert await books.balance(SHOP) == Balance(0, 0, 0, 25)
    statement = [(row.movement.amount, row.released) for row in await books.history(ALICE)]
    assert statement == [(100, 0), (60, 0), (40, 0), (25, 60), (40, 40)]


async def test_a_reservation_is_resolved_once(books: Books) -> None:
    await books.post(pay(100, BANK, ALICE, 100), reserve(101, ALICE, SHOP, 10), reserve(102, ALICE, SHOP, 10))
    assert await books.post(post_pending(id16(103), id16(101)), void_pending(id16(104), id16(102))) == ["ok", "ok"]
    assert await books.post(
        post_pending(id16(105), id16(101)),
        void_pending(id16(106), id16(101)),
        post_pending(id16(107), id16(102)),
        void_pending(id16(108), id16(102)),
        post_pending(id16(109), id16(100)),
        post_pending(id16(110), id16(999)),
    ) == [
        "pending_transfer_already_posted",
        "pending_transfer_already_posted",
        "pending_transfer_already_voided",
        "pending_transfer_already_voided",
        "pending_transfer_not_pending",
        "pending_transfer_not_found",
    ]


async def test_a_second_phase_may_not_contradict_the_first(books: Books) -> None:
    await books.post(reserve(101, BANK, ALICE, 10))
    named = Transfer(id16(102), BANK, ALICE, 10, 1, 1, 8, id16(101))
    changes: list[tuple[str, Any, str]] = [
        ("debit", SHOP, "debit_account_id"),
        ("credit", BOB, "credit_account_id"),
        ("ledger", 2, "ledger"),
        ("code", 2, "code"),
        ("amount", 9, "amount"),
    ]
    for field, value, word in changes:
        twin = named._replace(**{field: value})
        assert await books.post(twin) == [f"pending_transfer_has_different_{word}"]
    assert await books.post(named) == ["ok"]
    assert await books.post(named, void_pending(id16(102), id16(101))) == ["exists", "exists"]


async def test_timeouts(books: Books) -> None:
    await books.post(pay(100, BANK, ALICE, 100))
    await books.post(
        reserve(101, ALICE, SHOP, 10, 5),
        reserve(102, ALICE, SHOP, 20, 3),
        reserve(103, ALICE, SHOP, 30, 3),
        reserve(104, ALICE, SHOP, 40),
    )
    assert await books.expire(T0 + 2999) == 0
    assert await books.post(post_pending(id16(105), id16(102)), now_ms=T0 + 2999) == ["ok"]
    late = T0 + 3000
    assert await books.post(post_pending(id16(106), id16(103)), void_pending(id16(107), id16(103)), now_ms=late) == [
        "pending_transfer_expired",
        "pending_transfer_expired",
    ]
    # Nothing is released by time alone: only an expiry, which is a row of its own, gives the money back.
    assert (await books.balance(ALICE)).debits_pending == 80
    assert await books.expire(T0 + 10_000, limit=1) == 1
    assert await books.expire(T0 + 10_000) == 1
    assert await books.expire(T0 + 10_000) == 0
    assert await books.balance(ALICE) == Balance(40, 20, 0, 100)
    assert await books.post(post_pending(id16(108), id16(101)), now_ms=T0) == ["pending_transfer_expired"]
    expiries = [row for row in await books.history(SHOP) if row.movement.flags & EXPIRED]
    assert [(row.movement.id, row.movement.pending_id, row.released) for row in expiries] == [
        (None, id16(103), 30),
        (None, id16(101), 10),
    ]


async def test_chains_stand_or_fall_as_a_whole(books: Books) -> None:
    await books.post(pay(100, BANK, ALICE, 10))
    assert await books.post(
        pay(101, ALICE, SHOP, 10, linked=True),
        pay(102, ALICE, SHOP, 1, linked=True),
        pay(103, BANK, SHOP, 1),
        pay(104, ALICE, SHOP, 4),
    ) == ["linked_event_failed", "exceeds_credits", "linked_event_failed", "ok"]
    assert await books.post(pay(105, ALICE, SHOP, 1), pay(106, ALICE, SHOP, 1, linked=True)) == [
        "ok",
        "linked_event_chain_open",
    ]
    assert await books.post(
        pay(107, NOBODY, SHOP, 1, linked=True),
        pay(108, BANK, SHOP, 1, linked=True),
        pay(109, BANK, SHOP, 1, linked=True),
    ) == ["debit_account_not_found", "linked_event_failed", "linked_event_chain_open"]
    # One window is posted and the next reserved together, or neither; again, it is known.
    window = [
        reserve(110, ALICE, SHOP, 5),
        post_pending(id16(111), id16(110), 2, linked=True),
        reserve(112, ALICE, SHOP, 3),
    ]
    assert await books.post(*window) == ["ok"] * 3
    assert await books.post(*window[1:]) == ["exists"] * 2
    failing = [post_pending(id16(113), id16(112), linked=True), reserve(114, ALICE, SHOP, 9)]
    assert await books.post(*failing) == ["linked_event_failed", "exceeds_credits"]
    assert await books.post(post_pending(id16(115), id16(112))) == ["ok"]


async def test_amounts_of_zero(books: Books) -> None:
    assert (
        await books.post(
            pay(100, ALICE, SHOP, 0),
            reserve(101, ALICE, SHOP, 0),
            post_pending(id16(102), id16(101)),
            pay(103, BANK, ALICE, 5),
            reserve(104, ALICE, SHOP, 5),
            post_pending(id16(105), id16(104), 0),
        )
        == ["ok"] * 6
    )
    assert await books.balance(ALICE) == Balance(0, 0, 0, 5)


async def test_a_supply_of_1e27_is_exact(books: Books) -> None:
    odd = SUPPLY * 10**18 + 1  # 45 digits, far beyond 64 and 128 bits
    assert await books.post(pay(100, BANK, ALICE, odd), pay(101, ALICE, SHOP, 1)) == ["ok", "ok"]
    assert await books.post(pay(102, ALICE, SHOP, odd)) == ["exceeds_credits"]
    assert (
        await books.post(reserve(103, ALICE, SHOP, odd - 1), post_pending(id16(104), id16(103), odd - 2)) == ["ok"] * 2
    )
    assert await books.balance(ALICE) == Balance(0, odd - 1, 0, odd)
    largest = pay(105, BANK, SHOP, (1 << 256) - 1)
    assert await books.post(largest) == ["ok"]
    assert (await books.history(SHOP))[-1].movement.amount == (1 << 256) - 1
    again = [pay(200 + n, BANK, SHOP, (1 << 256) - 1) for n in range(9)]
    assert await books.post(*again) == ["ok"] * 7 + ["overflows_debits"] * 2


async def test_opening_accounts_again(books: Books) -> None:
    async with books.database.transaction() as tx:
        await books.ledger.open_accounts(tx, [*ACCOUNTS, *ACCOUNTS])
        await books.ledger.open_accounts(tx, [])
    fresh = account(NOBODY, 1, 1)
    for twin in (account(ALICE, 1, 1), account(ALICE, 2, 1, 2), account(ALICE, 1, 2, 2)):
        with pytest.raises(Conflict) as error:
            async with books.database.transaction() as tx:
                await books.ledger.open_accounts(tx, [fresh, twin])
        assert error.value.code == "ledger.account_differs"
    assert await books.balances([NOBODY]) == {}
    with pytest.raises(Conflict):
        async with books.database.transaction() as tx:
            await books.ledger.open_accounts(tx, [fresh, account(NOBODY, 1, 1, 2)])


async def test_history_in_pages(books: Books) -> None:
    await books.post(*(pay(100 + n, BANK, SHOP, n) for n in range(5)))
    await books.post(pay(200, BANK, ALICE, 1), pay(105, SHOP, BANK, 5))
    everything = await books.history(SHOP)
    assert [row.movement.amount for row in everything] == [0, 1, 2, 3, 4, 5]
    assert [row.seq for row in everything] == sorted({row.seq for row in everything})
    first = await books.history(SHOP, limit=4)
    assert first + await books.history(SHOP, after=first[-1].seq) == everything
    assert await books.history(NOBODY) == []
    assert await books.latest(SHOP) == everything[::-1]
    newest = await books.latest(SHOP, limit=2)
    assert newest == everything[:-3:-1]
    assert newest + await books.latest(SHOP, newest[-1].seq) == everything[::-1]
    assert await books.latest(NOBODY) == []


async def test_empty_and_too_large_batches(books: Books) -> None:
    assert await books.post() == []
    with pytest.raises(TooMuch):
        await books.post(*(pay(100 + n, BANK, SHOP, 1) for n in range(BATCH_MAX + 1)))
    assert await books.post(*(pay(100 + n, BANK, SHOP, 1) for n in range(BATCH_MAX))) == ["ok"] * BATCH_MAX
    assert await books.balance(SHOP) == Balance(0, 0, 0, BATCH_MAX)


async def test_a_transaction_that_fails_leaves_nothing(books: Books) -> None:
    await books.post(pay(100, BANK, ALICE, 10), reserve(101, ALICE, SHOP, 5, 3))
    before = await books.balances([BANK, ALICE, SHOP]), await books.history(ALICE)

    async def steps() -> None:
        async with books.database.transaction() as tx:
            await books.ledger.open_accounts(tx, [account(NOBODY, 1, 1)])
            await books.ledger.post(tx, [pay(102, ALICE, NOBODY, 5)], T0)
            await books.ledger.expire(tx, T0 + 5000, 10)
            raise LookupError("the machine goes down here")

    with pytest.raises(LookupError):
        await steps()
    assert (await books.balances([BANK, ALICE, SHOP]), await books.history(ALICE)) == before
    assert await books.balances([NOBODY]) == {}
    assert await books.expire(T0 + 5000) == 1
    assert await books.post(pay(102, ALICE, SHOP, 10)) == ["ok"]


class Chance:
    """Random batches over few ids and small amounts, so that everything meets everything."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.made: list[Transfer] = []

    def batch(self) -> list[Transfer]:
        batch = [self.one() for _ in range(self.random.randint(1, 12))]
        self.made += batch
        return batch

    def one(self) -> Transfer:
        pick = self.random.random()
        linked = self.random.random() < 0.25
        if self.made and pick < 0.15:
            return self.random.choice(self.made)
        if self.made and pick < 0.45:
            pending_id, id_ = self.random.choice(self.made).id, self.id()
            if id_ == pending_id:
                return self.random.choice(self.made)
            if self.random.random() < 0.3:
                return void_pending(id_, pending_id, linked=linked)
            amount = self.random.choice([None, None, self.random.randint(0, 12)])
            return post_pending(id_, pending_id, amount, linked=linked)
        people = (
            [BANK, BANK, ALICE, BOB, SHOP, ASSET] if self.random.random() < 0.9 else [OTHER_BANK, OTHER, NOBODY, BANK]
        )
        debit, credit = self.random.sample(people, 2)
        if debit == credit:
            debit, credit = BANK, ALICE
        pending = self.random.random() < 0.5
        return transfer(
            self.id(),
            debit,
            credit,
            self.random.randint(0, 12),
            self.random.choice([1, 1, 1, 2]),
            1,
            pending=pending,
            linked=linked,
            timeout_s=self.random.choice([0, 1, 5]) if pending else 0,
        )

    def id(self) -> bytes:
        return id16(self.random.randint(100, 240))


@pytest.mark.parametrize("seed", range(4))
async def test_postgres_and_memory_answer_the_same(postgres_books: Books, seed: int) -> None:
    chance, now_ms = Chance(seed), T0
    oracle = Oracle({a.id: (a.ledger, a.flags) for a in ACCOUNTS})
    async with opened(MemoryDatabase(), MemoryLedger()) as memory:
        for _ in range(60):
            batch = chance.batch()
            answers = await memory.post(*batch, now_ms=now_ms)
            assert await postgres_books.post(*batch, now_ms=now_ms) == answers
            assert oracle.post(batch, now_ms) == answers
            now_ms += chance.random.choice([0, 0, 500, 1000, 5000])
            if chance.random.random() < 0.3:
                limit = chance.random.randint(1, 3)
                released = await memory.expire(now_ms, limit)
                assert await postgres_books.expire(now_ms, limit) == released
                assert oracle.expire(now_ms, limit) == released
        ids = [a.id for a in ACCOUNTS]
        assert await postgres_books.balances(ids) == await memory.balances(ids)
        for id_ in ids:
            rows, twins = await postgres_books.history(id_), await memory.history(id_)
            assert [row[1:] for row in rows] == [twin[1:] for twin in twins]
            assert (await memory.balance(id_)) == oracle.balance(id_)
        assert await postgres_books.check() == await memory.check()


async def retried(attempt: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Do what the error's hint says."""
    for _ in range(50):
        try:
            return await attempt()
        except Unavailable as error:
            if error.code != "database.conflict":
                raise
    raise AssertionError("it never came through")


async def test_the_same_batches_from_many_tasks_are_applied_once(postgres_books: Books) -> None:
    books = postgres_books
    chance = random.Random(7)
    same = [pay(1000 + n, BANK, chance.choice([SHOP, ALICE, BOB]), 1 + n) for n in range(70)]
    # Overlapping: each shares half of its transfers with the next, in another order.
    batches = [chance.sample(same[start : start + 20], 20) for start in range(0, 60, 10)]
    answers = await asyncio.gather(*(retried(partial(books.post, *batch)) for batch in batches * 6))
    assert {answer for results in answers for answer in results} == {"ok", "exists"}
    assert sum(results.count("ok") for results in answers) == len(same)
    assert (await books.check()).movements == len(same)


async def test_the_same_id_on_disjoint_accounts_is_applied_once(postgres_books: Books) -> None:
    books = postgres_books
    for number in range(100, 120):
        twins = [pay(number, BANK, SHOP, 1), pay(number, ASSET, ALICE, 2)]
        answers = await asyncio.gather(*(retried(partial(books.post, twin)) for twin in twins))
        assert sorted(answer for [answer] in answers) == ["exists_with_different_debit_account_id", "ok"]


async def test_of_many_who_resolve_a_reservation_one_wins(postgres_books: Books) -> None:
    books = postgres_books
    await books.post(pay(100, BANK, ALICE, 1000))
    for number in range(200, 300, 10):
        await books.post(reserve(number, ALICE, SHOP, 10, 5))
        seconds = [post_pending(id16(number + n), id16(number), n) for n in range(1, 5)]
        seconds += [void_pending(id16(number + n), id16(number)) for n in range(5, 9)]
        answers = await asyncio.gather(
            *(books.post(second, now_ms=T0 + 4999) for second in seconds), books.expire(T0 + 5000)
        )
        wins = [answer for answer in answers if answer in (["ok"], 1)]
        assert len(wins) == 1
    assert (await books.balance(ALICE)).debits_pending == 0


async def test_opposite_directions_never_deadlock(postgres_books: Books) -> None:
    books = postgres_books
    await books.post(pay(100, BANK, ALICE, 1000), pay(101, BANK, BOB, 1000))
    there = (books.post(*(pay(1000 + 10 * n + k, ALICE, BOB, 1) for k in range(9))) for n in range(20))
    back = (books.post(*(pay(2000 + 10 * n + k, BOB, ALICE, 1) for k in range(9))) for n in range(20))
    answers = await asyncio.gather(*there, *back)
    assert {answer for results in answers for answer in results} == {"ok"}
    assert await books.balance(ALICE) == Balance(0, 180, 0, 1180)


async def test_an_account_history_grows_at_its_end_only(postgres_books: Books) -> None:
    books = postgres_books
    seen: list[StatementRow] = []

    async def follow() -> None:
        while len(seen) < 200:
            seen.extend(await books.history(SHOP, after=seen[-1].seq if seen else 0, limit=7))

    writers = (books.post(*(pay(1000 + 10 * n + k, BANK, SHOP, 1) for k in range(10))) for n in range(20))
    await asyncio.gather(follow(), *writers)
    assert seen == await books.history(SHOP)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.transfer SET amount = amount + 1",
        "DELETE FROM ledger.transfer WHERE false",
        "TRUNCATE ledger.transfer, ledger.entry",
        "UPDATE ledger.entry SET seq = seq + 1",
        "DELETE FROM ledger.entry",
        "DELETE FROM ledger.account",
        "UPDATE ledger.account SET flags = 0",
        "UPDATE ledger.account SET debits_posted = 11 WHERE id = decode(repeat('00', 15) || '02', 'hex')",
        "UPDATE ledger.account SET credits_posted = -1",
        "INSERT INTO ledger.transfer SELECT (jsonb_populate_record(t, '{\"seq\": 1}')).* FROM ledger.transfer t",
    ],
)
async def test_the_tables_refuse_what_the_rules_never_do(postgres_books: Books, statement: str) -> None:
    books = postgres_books
    await books.post(pay(100, BANK, ALICE, 10))
    with pytest.raises((asyncpg.IntegrityConstraintViolationError, Conflict)):
        async with books.database.transaction() as tx:
            await tx.execute(statement)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("UPDATE ledger.account SET credits_posted = credits_posted + 1 WHERE flags = 2", "balance_differs"),
        ("DELETE FROM ledger.deadline", "deadlines_differ"),
        ("INSERT INTO ledger.entry VALUES (1, 1)", "entries_differ"),
        ("INSERT INTO ledger.deadline VALUES (1, '')", "deadlines_differ"),
    ],
)
async def test_the_check_finds_damage(postgres_dsn: str, damage: str, fault: str) -> None:
    async with open_database(postgres_dsn) as database:
        await migrate(database, builtin("ledger"))
        books = Books(database, PostgresLedger())
        async with database.transaction() as tx:
            await books.ledger.open_accounts(tx, ACCOUNTS)
        await books.post(pay(100, BANK, ALICE, 10), reserve(101, BANK, BOB, 5, 60))
        assert (await books.check()).ok
        async with database.transaction() as tx:
            await tx.execute(damage)
        assert fault in {found.code for found in (await books.check()).faults}


async def test_the_check_finds_damage_in_memory() -> None:
    ledger = MemoryLedger()
    books = Books(MemoryDatabase(), ledger)
    async with books.database.transaction() as tx:
        await ledger.open_accounts(tx, ACCOUNTS)
    await books.post(pay(100, BANK, ALICE, 10), reserve(101, BANK, BOB, 5, 60))
    ledger.accounts[ALICE] = ledger.accounts[ALICE]._replace(debits_posted=11)
    ledger._open.clear()
    assert {fault.code for fault in (await books.check()).faults} == {
        "debits_differ_from_credits",
        "balance_differs",
        "limit_broken",
        "deadlines_differ",
    }
