"""What an account can spend, and what is reserved of its credits."""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.chart import Credit, purse_id
from fallow.ports.database import Transaction
from fallow.ports.ledger import Ledger


class Wallet(NamedTuple):
    """Micro-US-dollars: `available` by credit class, without what is `reserved`; empty where there never were any."""

    available: dict[int, int]
    reserved: int


async def wallet(tx: Transaction, ledger: Ledger, owner: bytes) -> Wallet:
    """Read what an account has."""
    ids = {purse_id(credit, owner): int(credit) for credit in Credit}
    found = await ledger.balances(tx, list(ids))
    available = {
        ids[purse]: balance.credits_posted - balance.debits_posted - balance.debits_pending
        for purse, balance in found.items()
    }
    return Wallet(available, sum(balance.debits_pending for balance in found.values()))
