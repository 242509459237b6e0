"""The store of budgets on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from fallow.domain.budgets import NO_BUDGET, Budget
from fallow.ports.database import Row, Transaction

_READ = "SELECT account, month, spent, budget, reached FROM ledger.budget WHERE account = ANY($1::bytea[])"
_LOCK = _READ + " ORDER BY account FOR UPDATE"


class PostgresBudgetStore:
    """See `fallow.ports.budgets.BudgetStore`."""

    async def lock(self, tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Budget]:
        """Read all of these and let nobody else change them; who has no row yet gets one, since none can be locked."""
        wanted = sorted(accounts)
        if not wanted:
            return {}
        found = _budgets(await tx.fetch(_LOCK, wanted))
        if missing := [account for account in wanted if account not in found]:
            await tx.execute(
                "INSERT INTO ledger.budget (account, month, spent) SELECT unnest($1::bytea[]), $2, $3"
                " ON CONFLICT DO NOTHING",
                missing,
                NO_BUDGET.month,
                NO_BUDGET.spent_microusd,
            )
            found |= _budgets(await tx.fetch(_LOCK, missing))
        return found

    async def read(self, tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Budget]:
        """Read all of these."""
        return dict.fromkeys(accounts, NO_BUDGET) | _budgets(await tx.fetch(_READ, list(accounts)))

    async def save(self, tx: Transaction, budgets: Mapping[bytes, Budget]) -> None:
        """Write some that are locked over their older versions."""
        if budgets:
            await tx.execute(
                "UPDATE ledger.budget AS old SET month = new.month, spent = new.spent, budget = new.budget,"
                " reached = new.reached FROM unnest($1::bytea[], $2::integer[], $3::numeric[], $4::numeric[],"
                " $5::boolean[]) AS new (account, month, spent, budget, reached) WHERE old.account = new.account",
                list(budgets),
                [one.month for one in budgets.values()],
                [one.spent_microusd for one in budgets.values()],
                [one.limit_microusd for one in budgets.values()],
                [one.reached for one in budgets.values()],
            )


def _budgets(rows: Iterable[Row]) -> dict[bytes, Budget]:
    return {
        row["account"]: Budget(
            row["month"], int(row["spent"]), None if row["budget"] is None else int(row["budget"]), row["reached"]
        )
        for row in rows
    }
