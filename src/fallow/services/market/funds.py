"""Whether a buyer could pay for what he orders, asked for all who order at the same moment in one transaction."""

from __future__ import annotations

import asyncio

from fallow.domain.errors import FallowError, InsufficientFunds
from fallow.ports.database import Database
from fallow.ports.mishaps import internal
from fallow.services.market.money import Cashier


class Funds:
    """`run` reads for everybody who waits; it must be running for `check` to answer."""

    def __init__(self, database: Database, cashier: Cashier) -> None:
        self._database = database
        self._cashier = cashier
        self._waiting: dict[bytes, asyncio.Future[int]] = {}
        self._wake = asyncio.Event()

    async def check(self, account: bytes, deposit_microusd: int) -> None:
        """Make sure that the account could reserve so much, and at least something.

        Raises:
            InsufficientFunds: it could not.
            Unavailable: the database is away.
        """
        answer = self._waiting.setdefault(account, asyncio.get_running_loop().create_future())
        self._wake.set()
        spendable = await asyncio.shield(answer)  # others may wait for the same one
        if spendable < max(1, deposit_microusd):
            raise InsufficientFunds(
                "account.insufficient_funds",
                f"The account can spend {spendable} micro-US-dollars; one lease reserves {max(1, deposit_microusd)}.",
                "Add credits, or lower the time limit.",
            )

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                async with self._database.transaction() as tx:
                    found = await self._cashier.spendable(tx, set(waiting))
            except FallowError as error:
                _fail(waiting, error)
            except Exception:
                _fail(waiting, internal())
                raise
            else:
                for account, answer in waiting.items():
                    answer.set_result(found[account])


def _fail(waiting: dict[bytes, asyncio.Future[int]], error: FallowError) -> None:
    for answer in waiting.values():
        answer.set_exception(error)
