"""The ledger's full check in SQL: it shares no code with the rules that it checks."""

from __future__ import annotations

from fallow.domain.ledger import Balance, Fault, LedgerCheck
from fallow.ports.database import Transaction

_TOTALS = """
SELECT ledger, sum(debits_pending) AS debits_pending, sum(debits_posted) AS debits_posted,
       sum(credits_pending) AS credits_pending, sum(credits_posted) AS credits_posted
FROM ledger.account GROUP BY ledger ORDER BY ledger
"""
# What each transfer moved, recomputed: (debits_pending, debits_posted) of its debit account, mirrored on the other.
_DIFFERING_BALANCES = """
WITH effect AS (
    SELECT t.debit, t.credit,
           CASE WHEN t.flags & 2 <> 0 THEN t.amount WHEN t.pending_id IS NOT NULL THEN -p.amount ELSE 0 END AS pending,
           CASE WHEN t.flags & (2 | 8 | 16384) <> 0 THEN 0 ELSE t.amount END AS posted
    FROM ledger.transfer t LEFT JOIN ledger.transfer p ON p.id = t.pending_id
), side AS (
    SELECT debit AS id, pending AS dp, posted AS dd, 0 AS cp, 0 AS cc FROM effect
    UNION ALL SELECT credit, 0, 0, pending, posted FROM effect
), recomputed AS (
    SELECT id, sum(dp) AS dp, sum(dd) AS dd, sum(cp) AS cp, sum(cc) AS cc FROM side GROUP BY id
)
SELECT id FROM ledger.account a FULL JOIN recomputed r USING (id)
WHERE a.no IS NULL OR (a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted)
    IS DISTINCT FROM (coalesce(r.dp, 0), coalesce(r.dd, 0), coalesce(r.cp, 0), coalesce(r.cc, 0))
ORDER BY id
"""
_BROKEN_LIMITS = """
SELECT id FROM ledger.account
WHERE (flags & 2 <> 0 AND debits_pending + debits_posted > credits_posted)
   OR (flags & 4 <> 0 AND credits_pending + credits_posted > debits_posted)
   OR least(debits_pending, debits_posted, credits_pending, credits_posted) < 0
ORDER BY id
"""
_DIFFERING_ENTRIES = """
WITH side AS (
    SELECT a.no AS account, t.seq, t.id FROM ledger.transfer t JOIN ledger.account a ON a.id IN (t.debit, t.credit)
)
SELECT DISTINCT coalesce(side.id, '') AS id
FROM side FULL JOIN ledger.entry e USING (account, seq) WHERE side.seq IS NULL OR e.seq IS NULL
ORDER BY 1
"""
_DIFFERING_DEADLINES = """
WITH open AS (
    SELECT t.created_ms + t.timeout_s::bigint * 1000 AS expires_ms, t.id AS pending_id FROM ledger.transfer t
    WHERE t.timeout_s > 0 AND NOT EXISTS (SELECT FROM ledger.transfer r WHERE r.pending_id = t.id)
)
SELECT pending_id AS id FROM open FULL JOIN ledger.deadline d USING (expires_ms, pending_id)
WHERE (open.*) IS NULL OR (d.*) IS NULL
ORDER BY 1
"""
_FAULTS = (
    ("balance_differs", _DIFFERING_BALANCES, "the stored sums are not those of the transfers"),
    ("limit_broken", _BROKEN_LIMITS, "the account is beyond its limit"),
    ("entries_differ", _DIFFERING_ENTRIES, "the account histories do not list the transfer exactly twice"),
    ("deadlines_differ", _DIFFERING_DEADLINES, "the open timeouts are not those of the pending transfers"),
)


async def check(tx: Transaction) -> LedgerCheck:
    """Recompute everything from the transfers and compare.

    Each statement sees one moment, so that posting may go on meanwhile.
    """
    totals = {
        row["ledger"]: Balance(
            row["debits_pending"], row["debits_posted"], row["credits_pending"], row["credits_posted"]
        )
        for row in await tx.fetch(_TOTALS)
    }
    faults = [
        Fault("debits_differ_from_credits", ledger.to_bytes(4, "big"), str(sums))
        for ledger, sums in totals.items()
        if sums[:2] != sums[2:]
    ]
    for code, query, detail in _FAULTS:
        faults += [Fault(code, row["id"], detail) for row in await tx.fetch(query)]
    [count] = await tx.fetch("SELECT count(*) AS movements FROM ledger.transfer")
    return LedgerCheck(totals, count["movements"], tuple(faults))
