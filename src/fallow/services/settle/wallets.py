"""What an account can spend."""

from __future__ import annotations

from fallow.domain.chart import Credit, purse_id
from fallow.ports.database import Transaction
from fallow.ports.ledger import Ledger


async def spendable(tx: Transaction, ledger: Ledger, owner: bytes) -> dict[int, int]:
    """Micro-US-dollars by credit class, without what is reserved; empty for an account that never had any."""
    ids = {purse_id(credit, owner): int(credit) for credit in Credit}
    return {
        ids[purse]: balance.credits_posted - balance.debits_posted - balance.debits_pending
        for purse, balance in (await ledger.balances(tx, list(ids))).items()
    }
