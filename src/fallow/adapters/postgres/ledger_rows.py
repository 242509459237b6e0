"""The ledger's statements, and the way between rows and records.

Large sets travel as one packed value: ids as concatenated bytes, numbers as the text of an array. Encoding an array
element by element takes the client three times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fallow.domain.ledger import Account, Movement, Sheet, StatementRow
from fallow.ports.database import Row

TRANSFER_COLUMNS = ("seq", *Movement._fields)

INSERT_ACCOUNTS = """
INSERT INTO ledger.account (id, ledger, code, flags)
SELECT * FROM unnest($1::bytea[], $2::integer[], $3::integer[], $4::smallint[])
ON CONFLICT (id) DO NOTHING
"""
# Sums as text, since turning numeric's binary form into an integer takes Python longer than parsing digits.
READ_ACCOUNTS = """
SELECT id, ledger, code, flags,
       debits_pending::text, debits_posted::text, credits_pending::text, credits_posted::text, no
FROM ledger.account WHERE id = ANY(ledger.ids($1))
"""
LOCK_ACCOUNTS = READ_ACCOUNTS + "ORDER BY id FOR UPDATE"
READ_TRANSFERS = """
SELECT id, debit, credit, amount::text, ledger, code, flags, pending_id, timeout_s, ref, created_ms
FROM ledger.transfer WHERE id = ANY(ledger.ids($1))
"""
READ_RESOLVED = "SELECT pending_id, flags FROM ledger.transfer WHERE pending_id = ANY(ledger.ids($1))"
READ_DUE = """
SELECT pending_id FROM ledger.deadline WHERE expires_ms <= $1 ORDER BY expires_ms, pending_id LIMIT $2
"""
_STATEMENT = """
SELECT t.id, t.debit, t.credit, t.amount::text, t.ledger, t.code, t.flags, t.pending_id, t.timeout_s, t.ref,
       t.created_ms, t.seq, coalesce(p.amount, 0)::text
FROM ledger.entry e
JOIN ledger.transfer t ON t.seq = e.seq
LEFT JOIN ledger.transfer p ON p.id = t.pending_id
WHERE e.account = (SELECT no FROM ledger.account WHERE id = $1)
"""
READ_HISTORY = f"{_STATEMENT} AND e.seq > $2 ORDER BY e.seq LIMIT $3"
READ_LATEST = f"{_STATEMENT} AND e.seq < $2 ORDER BY e.seq DESC LIMIT $3"
"""Their rows are read by `statement`."""
UPDATE_BALANCES = """
UPDATE ledger.account AS a
SET debits_pending = new.debits_pending, debits_posted = new.debits_posted,
    credits_pending = new.credits_pending, credits_posted = new.credits_posted
FROM unnest($1::text::bigint[], $2::text::numeric[], $3::text::numeric[], $4::text::numeric[], $5::text::numeric[])
    AS new (no, debits_pending, debits_posted, credits_pending, credits_posted)
WHERE a.no = new.no
"""
DELETE_DEADLINES = """
DELETE FROM ledger.deadline
WHERE (expires_ms, pending_id) IN (SELECT * FROM unnest($1::bigint[], $2::bytea[]))
"""


def packed(ids: Iterable[bytes]) -> bytes:
    """Ids of 16 bytes as one value, for `ledger.ids()`."""
    return b"".join(ids)


def accounts(found: Sequence[Row]) -> tuple[dict[bytes, Account], dict[bytes, int]]:
    """The accounts in the rows of READ_ACCOUNTS or LOCK_ACCOUNTS, and their numbers."""
    records: dict[bytes, Account] = {}
    numbers: dict[bytes, int] = {}
    for id_, ledger, code, flags, dp, dd, cp, cc, number in _values(found):
        records[id_] = Account(id_, ledger, code, flags, int(dp), int(dd), int(cp), int(cc))
        numbers[id_] = number
    return records, numbers


def transfers(found: Sequence[Row]) -> dict[bytes, Movement]:
    """The transfers in the rows of READ_TRANSFERS, by id."""
    return {row[0]: _movement(row) for row in _values(found)}


def statement(found: Sequence[Row]) -> list[StatementRow]:
    """The rows of READ_HISTORY."""
    return [StatementRow(row[-2], _movement(row), int(row[-1])) for row in _values(found)]


def balance_columns(sheets: Mapping[bytes, Sheet], numbers: Mapping[bytes, int]) -> list[str]:
    """The arguments of UPDATE_BALANCES."""
    sums = sheets.values()
    return [
        _array([numbers[id_] for id_ in sheets]),
        _array([sheet.debits_pending for sheet in sums]),
        _array([sheet.debits_posted for sheet in sums]),
        _array([sheet.credits_pending for sheet in sums]),
        _array([sheet.credits_posted for sheet in sums]),
    ]


def numbered(movements: Sequence[Movement], first: int) -> list[tuple[object, ...]]:
    """Rows of ledger.transfer, numbered from `first`."""
    return [(seq, *movement) for seq, movement in enumerate(movements, first)]


def entries(movements: Sequence[Movement], first: int, numbers: Mapping[bytes, int]) -> list[tuple[int, int]]:
    """Rows of ledger.entry in the order of its key, in which the index takes them fastest."""
    rows = [(numbers[movement.debit], seq) for seq, movement in enumerate(movements, first)]
    rows += [(numbers[movement.credit], seq) for seq, movement in enumerate(movements, first)]
    rows.sort()
    return rows


def deadlines(pendings: Iterable[Movement]) -> Sequence[tuple[int, bytes]]:
    """Rows of ledger.deadline."""
    return [(m.created_ms + m.timeout_s * 1000, m.id) for m in pendings if m.id is not None]


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _movement(row: Sequence[Any]) -> Movement:
    id_, debit, credit, amount, ledger, code, flags, pending_id, timeout_s, ref, created_ms = row[:11]
    return Movement(id_, debit, credit, int(amount), ledger, code, flags, pending_id, timeout_s, ref, created_ms)


def _values(found: Sequence[Row]) -> Sequence[Any]:
    # A row of the database iterates over its values, in the order of the query; reading by name costs twice as much.
    return found
