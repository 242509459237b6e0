"""Balances, statements, grants and the ledger's own audit. Others post through the ledger's port."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain import calls
from fallow.domain.chart import Credit, Kind, Purpose, account_id, accounts_of, fund, grant, network_accounts
from fallow.domain.errors import Conflict, InvalidInput
from fallow.domain.identity import address, address_text
from fallow.domain.ledger import EXPIRED, PENDING, POST_PENDING, VOID_PENDING, Balance, StatementRow
from fallow.domain.views.money import (
    BalanceView,
    EarnedView,
    EarningsView,
    PurseView,
    SpendingView,
    SpentView,
    StatementLine,
)
from fallow.ports.acting import action_of, note
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.ledger import SEQ_END, Ledger
from fallow.ports.registry_store import ActionLog
from fallow.ports.rpc import Empty, serve
from fallow.services.settle.sums import Sums

QUEUE = "settle"
EMPTY = Balance()
HOUR_MS: Final = 3_600_000
EARNING: Final = frozenset({Kind.INCOME.name.lower(), Kind.LOST.name.lower()})
"""What a provider's earnings grow by: what buyers pay, and what the reserve pays for work that was lost."""

SPENDING: Final = frozenset({"used", Kind.REFUND.name.lower(), Kind.RETURNED.name.lower()})
"""What a buyer spends by: what was used of what was reserved, less what came back of it."""

EARNINGS_ROWS_MAX: Final = 10_000
"""Movements of one class of credits that are added up for one answer."""

EARNINGS_ROWS_READ: Final = 500
"""At once: some milliseconds, in which others wait."""


class Settle:
    """Answers `settle.*`. Several copies may run: all state is in the ledger."""

    def __init__(self, *, bus: Bus, clock: Clock, database: Database, ledger: Ledger, log: ActionLog) -> None:
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._log = log
        self._sums = Sums(clock, database, ledger)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with self._database.transaction() as tx:
            await self._ledger.open_accounts(tx, network_accounts())
        async with (
            serve(self._bus, calls.money.BALANCE, calls.base.AccountRef, self.balance, queue=QUEUE),
            serve(self._bus, calls.money.STATEMENT, calls.base.AccountRef, self.statement, queue=QUEUE),
            serve(self._bus, calls.money.EARNINGS, calls.money.EarningsRef, self.earnings, queue=QUEUE),
            serve(self._bus, calls.money.SPENDING, calls.money.SpendingRef, self.spending, queue=QUEUE),
            serve(self._bus, calls.money.GRANT, calls.money.GiveGrant, self.grant, queue=QUEUE),
            serve(self._bus, calls.money.FUND, calls.money.Fund, self.fund, queue=QUEUE),
            serve(self._bus, calls.money.RESERVE, dict[str, str], self.reserve, queue=QUEUE),
            serve(self._bus, calls.money.LEDGER_CHECK, dict[str, str], self._sums.check, queue=QUEUE),
        ):
            yield

    async def balance(self, request: calls.base.AccountRef) -> BalanceView:
        """Show an account's credits by class."""
        async with self._database.transaction() as tx:
            return await self._balance(tx, address(request.account))

    async def grant(self, request: calls.money.GiveGrant) -> BalanceView:
        """Give TEST credits; the same grant counts once.

        Raises:
            Conflict: the id belongs to another grant.
        """
        owner = address(request.account)
        async with self._database.transaction() as tx:
            await self._ledger.open_accounts(tx, accounts_of(owner))
            transfer = grant(request.id, owner, request.amount_microusd)
            (result,) = await self._ledger.post(tx, [transfer], self._clock.now_ms())
            if not result.ok:
                raise Conflict("grant.refused", f"The ledger refused the grant: {result}.", "Use a fresh random id.")
            if request.by is not None:
                at, about = self._clock.now_ms(), str(request.amount_microusd)
                done = action_of(request.by, "credit.grant", at, once=request.id, subject=owner, about=about)
                await note(self._log, tx, done)
            view = await self._balance(tx, owner)
        await self._bus.publish(calls.money.CREDITED, request.account.encode())
        return view

    async def fund(self, request: calls.money.Fund) -> Empty:
        """Give TEST credits to the network itself; the same id counts once.

        Raises:
            Conflict: the id belongs to another grant.
        """
        transfer = fund(request.id, Purpose[request.purpose.upper()], request.amount_microusd)
        async with self._database.transaction() as tx:
            (result,) = await self._ledger.post(tx, [transfer], self._clock.now_ms())
        if not result.ok:
            raise Conflict("grant.refused", f"The ledger refused the grant: {result}.", "Use a fresh random id.")
        return {}

    async def statement(self, request: calls.base.AccountRef) -> list[StatementLine]:
        """Show what went in and out of an account, the oldest first; `after` is the last line's id."""
        owner = address(request.account)
        after = _positions(request.after)
        lines: list[tuple[int, StatementLine]] = []
        async with self._database.transaction() as tx:
            for credit in Credit:
                for purpose in (Purpose.WALLET, Purpose.EARNED):
                    account = account_id(purpose, credit, owner)
                    rows = await self._ledger.history(tx, account, after, request.limit)
                    lines += [(row.seq, _line(row, account, credit)) for row in rows]
        lines.sort(key=lambda entry: entry[0])
        return [line for _, line in lines[: request.limit]]

    async def earnings(self, request: calls.money.EarningsRef) -> EarningsView:
        """Show what an account earned from buyers in hours that ended after a moment, of its newest movements."""
        hours, from_ms = await self._by_hour(address(request.account), request.from_ms, Purpose.EARNED, EARNING)
        earned = [EarnedView(at=at, earned=dict(hours[at])) for at in sorted(hours, reverse=True)]
        return EarningsView(hours=earned, from_ms=from_ms, whole=from_ms == request.from_ms)

    async def spending(self, request: calls.money.SpendingRef) -> SpendingView:
        """Show what an account spent in hours that ended after a moment, of its newest movements."""
        hours, from_ms = await self._by_hour(address(request.account), request.from_ms, Purpose.WALLET, SPENDING)
        spent = [
            SpentView(at=at, spent={name: -moved for name, moved in hours[at].items()})
            for at in sorted(hours, reverse=True)
        ]
        return SpendingView(hours=spent, from_ms=from_ms, whole=from_ms == request.from_ms)

    async def _by_hour(
        self, owner: bytes, from_ms: int, purpose: Purpose, kinds: frozenset[str]
    ) -> tuple[dict[int, Counter[str]], int]:
        """Add up by hour and class what moved in hours that ended after `from_ms`, and say since when it is whole."""
        hours: defaultdict[int, Counter[str]] = defaultdict(Counter)
        async with self._database.transaction() as tx:
            for credit in Credit:
                account = account_id(purpose, credit, owner)
                before, left = SEQ_END, EARNINGS_ROWS_MAX
                while rows := await self._ledger.latest(tx, account, before, min(left, EARNINGS_ROWS_READ)):
                    for row in rows:
                        line = _line(row, account, credit)
                        if line.kind in kinds:
                            hours[line.at - line.at % HOUR_MS][line.credit_class] += line.amount_microusd
                    before, left = rows[-1].seq, left - len(rows)
                    oldest_ms = rows[-1].movement.created_ms
                    if oldest_ms < from_ms - 2 * HOUR_MS:  # the hour that it lies in, and one for clocks that differ
                        break
                    if not left:
                        from_ms = max(from_ms, oldest_ms + 1)
                        break
        return {at: sums for at, sums in hours.items() if at + HOUR_MS > from_ms}, from_ms

    async def reserve(self, _: dict[str, str]) -> PurseView:
        """Show what is in the reserve, and what went in and out of it ever."""
        ids = {credit.name.lower(): account_id(Purpose.RESERVE, credit) for credit in Credit}
        async with self._database.transaction() as tx:
            found = await self._ledger.balances(tx, list(ids.values()))
        return PurseView(
            balance={name: _posted(found[id_]) for name, id_ in ids.items()},
            paid_in={name: found[id_].credits_posted for name, id_ in ids.items()},
            paid_out={name: found[id_].debits_posted for name, id_ in ids.items()},
        )

    async def _balance(self, tx: Transaction, owner: bytes) -> BalanceView:
        purposes = (Purpose.WALLET, Purpose.EARNED, Purpose.UNBACKED)
        ids = {(purpose, credit): account_id(purpose, credit, owner) for credit in Credit for purpose in purposes}
        found = await self._ledger.balances(tx, list(ids.values()))

        def by_class(purpose: Purpose, amount: Callable[[Balance], int]) -> dict[str, int]:
            return {credit.name.lower(): amount(found.get(ids[purpose, credit], EMPTY)) for credit in Credit}

        return BalanceView(
            account=address_text(owner),
            spendable=by_class(Purpose.WALLET, lambda wallet: _posted(wallet) - wallet.debits_pending),
            reserved=by_class(Purpose.WALLET, lambda wallet: wallet.debits_pending),
            earned=by_class(Purpose.EARNED, _posted),
            kept=by_class(Purpose.UNBACKED, _posted),
            spent=by_class(Purpose.WALLET, lambda wallet: wallet.debits_posted),
        )


def _posted(balance: Balance) -> int:
    return balance.credits_posted - balance.debits_posted


def _positions(after: str) -> int:
    if not after:
        return 0
    if not after.isdecimal():
        raise InvalidInput("statement.after", f"{after[:40]!r} is no line of a statement.")
    return int(after)


def _line(row: StatementRow, account: bytes, credit: Credit) -> StatementLine:
    """One movement from the account's point of view: reserving and giving back move nothing away from it."""
    movement = row.movement
    moved = 0 if movement.flags & (PENDING | VOID_PENDING | EXPIRED) else movement.amount
    held = movement.amount if movement.flags & PENDING else -row.released
    return StatementLine(
        id=str(row.seq),
        at=movement.created_ms,
        kind=_kind(row),
        credit_class=credit.name.lower(),
        amount_microusd=moved if movement.credit == account else -moved,
        ref=movement.ref.hex(),
        held_microusd=held if movement.debit == account else 0,
    )


def _kind(row: StatementRow) -> str:
    flags = row.movement.flags
    if flags & PENDING:
        return "reserved"
    if flags & (VOID_PENDING | EXPIRED):
        return "given_back"
    if flags & POST_PENDING:
        return "used"
    return Kind(row.movement.code).name.lower()
