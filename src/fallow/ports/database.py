"""Transactions on the one database that holds the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Row = Mapping[str, Any]


class Transaction(Protocol):
    """All or nothing: leaving the context commits, an exception rolls back. Queries use $1, $2 … placeholders."""

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        """Run a query and return all its rows."""
        ...

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement and return the command tag, for example `UPDATE 3`."""
        ...

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
        """Insert many rows at once through COPY. `table` may be `schema.name`."""
        ...


class Database(Protocol):
    """A pool of connections."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a read-committed transaction.

        Raises:
            Unavailable: the database cannot be reached, or was lost before the commit was known to be done.
        """
        ...
