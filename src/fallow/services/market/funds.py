"""Whether a buyer could pay for what he orders, asked for all who order at the same moment in one transaction."""

from __future__ import annotations

import asyncio

from fallow.domain.budgets import refusal
from fallow.domain.errors import FallowError, InsufficientFunds
from fallow.domain.money import dollars
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.mishaps import internal
from fallow.services.market.money import Cashier
from fallow.services.market.purse import Purse


class Funds:
    """`run` reads for everybody who waits; it must be running for `check` to answer."""

    def __init__(self, clock: Clock, database: Database, cashier: Cashier) -> None:
        self._clock = clock
        self._database = database
        self._cashier = cashier
        self._waiting: dict[bytes, asyncio.Future[Purse]] = {}
        self._wake = asyncio.Event()

    async def check(self, account: bytes, deposit_microusd: int) -> None:
        """Make sure that the account could reserve so much, and at least something.

        Raises:
            InsufficientFunds: it could not, or its budget does not allow it.
            Unavailable: the database is away.
        """
        answer = self._waiting.setdefault(account, asyncio.get_running_loop().create_future())
        self._wake.set()
        purse, wanted = await asyncio.shield(answer), max(1, deposit_microusd)  # others may wait for the same one
        if purse.spendable < wanted:
            raise InsufficientFunds(
                "account.insufficient_funds",
                f"The account can spend {dollars(purse.spendable)}; one lease reserves {dollars(wanted)}.",
                "Add credits, or lower the time limit.",
            )
        if not purse.covers(wanted):
            raise refusal(purse.budget, wanted, purse.reserved)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                async with self._database.transaction() as tx:
                    found = await self._cashier.look(tx, set(waiting), self._clock.now_ms())
            except FallowError as error:
                _fail(waiting, error)
            except Exception:
                _fail(waiting, internal())
                raise
            else:
                for account, answer in waiting.items():
                    answer.set_result(found[account])


def _fail(waiting: dict[bytes, asyncio.Future[Purse]], error: FallowError) -> None:
    for answer in waiting.values():
        answer.set_exception(error)
