"""Paid credits leave the ledger when their owner wants the settlement asset for them: a record says who is owed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.chart import Credit, Purpose, account_id, accounts_of, withdraw
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, InsufficientFunds, InvalidInput
from fallow.domain.facts import CreditWithdrawn
from fallow.domain.identity import address
from fallow.domain.ledger import Balance, Result, Transfer
from fallow.domain.views.payouts import WithdrawalView
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.ledger import Ledger
from fallow.ports.rpc import serve

QUEUE = "settle"
USD = 1_000_000


class Withdrawals:
    """Answers `settle.withdraw`. Several copies may run: all state is in the ledger and the outbox."""

    def __init__(self, *, bus: Bus, clock: Clock, database: Database, ledger: Ledger, decisions: DecisionStore) -> None:
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._decisions = decisions

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with serve(self._bus, calls.payouts.WITHDRAW, calls.payouts.Withdraw, self.withdraw, queue=QUEUE):
            yield

    async def withdraw(self, request: calls.payouts.Withdraw) -> WithdrawalView:
        """Move paid credits out of a wallet, and decide in the same transaction that they are owed. An id counts once.

        Raises:
            InsufficientFunds: fewer of the account's spendable credits are paid ones.
            Conflict: the id belongs to another withdrawal.
            InvalidInput: nobody has the address of zeros.
        """
        wanted, payer = request.withdrawal, address(request.account)
        to = address(wanted.to)
        if not any(to):
            raise InvalidInput("withdraw.to", "Nobody has the address of zeros.", "Name an account: --to 0x…")
        transfer = withdraw(wanted.id, payer, to, wanted.amount_microusd)
        async with self._database.transaction() as tx:
            await self._ledger.open_accounts(tx, accounts_of(payer))
            now = self._clock.now_ms()
            (result,) = await self._ledger.post(tx, [transfer], now)
            if result is Result.EXCEEDS_CREDITS:
                raise await self._too_little(tx, payer)
            if not result.ok:
                raise Conflict(
                    "withdraw.id_taken", f"The id belongs to another withdrawal: {result}.", "Use a fresh random id."
                )
            if result is Result.OK:
                await self._decisions.add(tx, [_decided(transfer, payer, to, now)])
        return WithdrawalView(
            id=wanted.id,
            account=request.account,
            to=wanted.to,
            amount_microusd=wanted.amount_microusd,
            transfer=transfer.id.hex(),
        )

    async def _too_little(self, tx: Transaction, payer: bytes) -> InsufficientFunds:
        wallet = account_id(Purpose.WALLET, Credit.PAID, payer)
        has = (await self._ledger.balances(tx, [wallet])).get(wallet, Balance())
        free = has.credits_posted - has.debits_posted - has.debits_pending
        return InsufficientFunds(
            "withdraw.funds",
            f"Only paid credits can be withdrawn; {free // USD}.{free % USD:06d} USD of them are free here. Granted"
            " ones (TEST) are backed by nothing, and burned ones cannot go back.",
            "See which yours are: fallow balance",
        )


def _decided(transfer: Transfer, payer: bytes, to: bytes, now: int) -> Decision:
    amount = transfer.amount or 0
    return Decision(now, CreditWithdrawn(withdrawal=transfer.id, account=to, amount_microusd=amount, payer=payer))
