"""What a closed epoch takes out of the ledger: earnings in paid credits that its root owes on the chain. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fallow.domain.chart import Credit
from fallow.domain.epochs.lines import LINES, lines_of
from fallow.domain.epochs.manifest import File
from fallow.domain.epochs.rules import NAME
from fallow.domain.epochs.statement import Statement


def lines_that_pay(statement: Statement) -> File | None:
    """The file of its lines; None where what they earned is not owed in what backs paid credits."""
    pays = any(one.name == NAME and one.parameters.get("credit") == Credit.PAID for one in statement.policies)
    return next((file for file in statement.files if file.name == LINES), None) if pays else None


def earned(file: File, chunks: Iterable[bytes]) -> Counter[bytes]:
    """Micro-US-dollars of paid credits by account. Memory grows with the accounts that earned any.

    Raises:
        InvalidInput: it is not the file that the statement names, or malformed.
    """
    sums: Counter[bytes] = Counter()
    for line in lines_of(file, chunks):
        if usage := int.from_bytes(line.usage):
            sums[line.account] += usage
    return sums
