"""The database port in memory: no SQL, but the same all-or-nothing for the in-memory stores that hang on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn, TypeVar

from fallow.domain.errors import Conflict
from fallow.ports.database import Row, Transaction

Key = TypeVar("Key")
Value = TypeVar("Value")


class MemoryTransaction:
    """One transaction: whoever changes something says how to take it back.

    Stores keep their tables as plain dictionaries and change them through `put` and `drop`, or change anything else
    and register the inverse with `on_rollback`. Records in the tables are replaced, never changed in place.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._ended = False

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` if this transaction does not commit; the last one registered is called first."""
        self.require_open()
        self._undo.append(undo)

    def put(self, table: MutableMapping[Key, Value], key: Key, value: Value) -> None:
        """Insert or replace one row."""
        self._remember(table, key)
        table[key] = value

    def add(self, table: MutableMapping[Key, Value], key: Key, value: Value) -> None:
        """Insert one row.

        Raises:
            Conflict: `database.duplicate`: there is one with this key.
        """
        if key in table:
            raise Conflict("database.duplicate", f"this key exists already: {key!r}")
        self.put(table, key, value)

    def drop(self, table: MutableMapping[Key, Value], key: Key) -> None:
        """Delete one row, which must exist."""
        self._remember(table, key)
        del table[key]

    def require_open(self) -> None:
        """Refuse use after the end, which no rollback could take back."""
        if self._ended:
            raise RuntimeError("this transaction has ended")

    def end(self, *, commit: bool) -> None:
        """Keep or take back everything; called by the database."""
        self._ended = True
        if not commit:
            for undo in reversed(self._undo):
                undo()

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        """Refuse: there is no SQL here."""
        self._refuse(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Refuse: there is no SQL here."""
        self._refuse(query, *args)

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
        """Refuse: there is no SQL here."""
        self._refuse(table, columns, rows)

    def _remember(self, table: MutableMapping[Key, Value], key: Key) -> None:
        if key in table:
            before = table[key]
            self.on_rollback(lambda: table.__setitem__(key, before))
        else:
            self.on_rollback(lambda: table.__delitem__(key))

    def _refuse(self, query: str, *_: object) -> NoReturn:
        raise NotImplementedError(f"the in-memory database runs no SQL: {query[:80]}")


class MemoryDatabase:
    """One transaction at a time, first come, first served; so every schedule is serial and can be repeated."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        """Open a transaction; an exception, a cancellation included, takes back what it did.

        Raises:
            RuntimeError: the same task has one open already; waiting for it would never end.
        """
        if self._holder is not None and self._holder is asyncio.current_task():
            raise RuntimeError("this task has a transaction open already: pass it on instead")
        async with self._turn:
            self._holder = asyncio.current_task()
            transaction = MemoryTransaction()
            try:
                yield transaction
            except BaseException:
                transaction.end(commit=False)
                raise
            else:
                transaction.end(commit=True)
            finally:
                self._holder = None


def memory_transaction(tx: Transaction) -> MemoryTransaction:
    """The transaction as an in-memory store needs it.

    Raises:
        TypeError: it belongs to another database; stores of two kinds were wired together.
    """
    if not isinstance(tx, MemoryTransaction):
        raise TypeError(f"an in-memory store was given a {type(tx).__name__}")
    tx.require_open()
    return tx
