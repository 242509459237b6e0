"""What accounts pay for a byte, each by the subscription that its use was told to last, and what that leaves owners."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fallow.domain.subscriptions import Tariff
from fallow.ports.database import Transaction
from fallow.verticals.storage.core.tariff import TARIFF, Rates, rates_of

FIRST: Final = rates_of(TARIFF)
"""Of an account whose use was told to nobody yet."""

_MEANS: Final = """
INSERT INTO storage.mean_rate AS m (payee, stored, egress)
SELECT payee, div(sum(weight * coalesce(r.stored, $1::numeric)), sum(weight)),
    div(sum(weight * coalesce(r.egress, $2::numeric)), sum(weight))
FROM (SELECT account, payee, greatest(bytes, 1) AS weight FROM storage.stored) s
LEFT JOIN storage.rate r USING (account)
GROUP BY payee ORDER BY payee
ON CONFLICT (payee) DO UPDATE SET stored = EXCLUDED.stored, egress = EXCLUDED.egress
WHERE (m.stored, m.egress) IS DISTINCT FROM (EXCLUDED.stored, EXCLUDED.egress)
"""


async def learn(tx: Transaction, account: bytes, tariff: Tariff) -> None:
    """An account's use is told to a subscription: from now on it counts by its tariff."""
    await tx.execute(
        "INSERT INTO storage.rate AS r (account, stored, egress) VALUES ($1, $2, $3)"
        " ON CONFLICT (account) DO UPDATE SET stored = EXCLUDED.stored, egress = EXCLUDED.egress"
        " WHERE (r.stored, r.egress) IS DISTINCT FROM (EXCLUDED.stored, EXCLUDED.egress)",
        account,
        *rates_of(tariff),
    )


async def take_means(tx: Transaction) -> None:
    """Note for each owner what buyers pay for what lies with him. One of whom nothing is left had it from somebody."""
    await tx.execute(_MEANS, *FIRST)


async def rates(tx: Transaction, accounts: Collection[bytes]) -> dict[bytes, Rates]:
    """What each of these accounts pays."""
    rows = await tx.fetch(
        "SELECT account, stored, egress FROM storage.rate WHERE account = ANY($1::bytea[])", list(accounts)
    )
    known = {row["account"]: Rates(int(row["stored"]), int(row["egress"])) for row in rows}
    return {account: known.get(account, FIRST) for account in accounts}
