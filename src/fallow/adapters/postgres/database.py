"""The database port over a pool of asyncpg connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeAlias, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction as Begun

from fallow.adapters.postgres import numeric
from fallow.adapters.postgres.errors import mapped_errors
from fallow.domain.errors import InvalidInput
from fallow.ports.database import Row

STATEMENT_TIMEOUT_S = 30.0
POOL_SIZE = 8
_CLOSE_TIMEOUT_S = 10.0

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"  # generic in its stubs only


class PostgresTransaction:
    """One transaction on one connection; unusable once its context is left."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended = False
        self._failure: BaseException | None = None

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        """Run a query and return all its rows."""
        with self._statement() as connection:
            # A Record has the methods of a mapping that Row promises, though its stub does not say so.
            return cast("list[Row]", await connection.fetch(query, *args))

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or without arguments several, and return the last command tag."""
        with self._statement() as connection:
            return await connection.execute(query, *args)

    async def copy(self, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
        """Insert many rows at once through COPY."""
        schema, _, name = table.rpartition(".")
        with self._statement() as connection:
            await connection.copy_records_to_table(
                name, schema_name=schema or None, columns=list(columns), records=rows
            )

    def end(self) -> None:
        """Refuse further use: a statement after the end would run outside every transaction."""
        self._ended = True

    def require_intact(self) -> None:
        """Refuse to commit after a failed statement: COMMIT would answer without an error, and do nothing."""
        if self._failure is not None:
            raise RuntimeError("a failed statement was ignored: nothing is committed") from self._failure

    @contextmanager
    def _statement(self) -> Iterator[Connection]:
        if self._ended:
            raise RuntimeError("this transaction has ended")
        try:
            with mapped_errors(self._is_lost):
                yield self._connection
        except BaseException as error:
            self._failure = self._failure or error
            raise

    def _is_lost(self) -> bool:
        try:
            return self._connection.is_closed()
        except asyncpg.InterfaceError:  # a connection that broke leaves its pool at once
            return True


class PostgresDatabase:
    """A pool of connections. Build it with `open_database`."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], acquire_timeout_s: float) -> None:
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTransaction]:
        """Open a read-committed transaction; an exception rolls it back.

        Raises:
            Unavailable: no connection is to be had, or it was lost; where that happened during the commit, whether
                it was done is not known, and the ids in the request make it safe to ask again.
            RuntimeError: a statement failed, the error was swallowed, and so there is nothing to commit.
        """
        with mapped_errors():
            connection = await self._pool.acquire(timeout=self._acquire_timeout_s)
        try:
            async with _begin(connection) as transaction:
                yield transaction
        finally:
            with mapped_errors():
                await self._pool.release(connection)


@asynccontextmanager
async def open_database(
    dsn: str, *, pool_size: int = POOL_SIZE, statement_timeout_s: float = STATEMENT_TIMEOUT_S
) -> AsyncIterator[PostgresDatabase]:
    """Connect, and close every connection at the end.

    `statement_timeout_s` bounds one statement, and the wait for a free connection.

    Raises:
        InvalidInput: `database.url`: `dsn` cannot be read.
        Unavailable: `database.unreachable`: the server does not answer or does not let us in.
    """
    milliseconds = str(int(statement_timeout_s * 1000))
    with mapped_errors(), _readable():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=pool_size,
            init=_prepare,
            reset=_leave,
            timeout=min(statement_timeout_s, STATEMENT_TIMEOUT_S),
            # The server's own timeout comes first; this one is for a server that has gone silent.
            command_timeout=statement_timeout_s + 5,
            server_settings={
                "application_name": "fallow",
                "timezone": "UTC",
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
                "jit": "off",  # many short statements: compiling costs more than it brings
            },
        )
    try:
        yield PostgresDatabase(pool, statement_timeout_s)
    finally:
        try:
            await asyncio.wait_for(pool.close(), _CLOSE_TIMEOUT_S)
        except TimeoutError:
            pool.terminate()


@contextmanager
def _readable() -> Iterator[None]:
    """Say what is wrong with an address, without the pieces of a password that some errors quote."""
    hint = "It looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE, with %2F for a / in the password and so on."
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise InvalidInput("database.url", f"The database's address cannot be used: {error}.", hint) from None
    except ValueError:
        raise InvalidInput("database.url", "The database's address cannot be read.", hint) from None


@asynccontextmanager
async def _begin(connection: Connection) -> AsyncIterator[PostgresTransaction]:
    begun = connection.transaction(isolation="read_committed")
    with mapped_errors():
        await begun.start()
    transaction = PostgresTransaction(connection)
    try:
        yield transaction
        transaction.require_intact()
    except BaseException:
        transaction.end()
        await _abandon(connection, begun)
        raise
    transaction.end()
    with mapped_errors():
        await begun.commit()


async def _abandon(connection: Connection, begun: Begun) -> None:
    """Roll back. Where that fails the connection is cut, which makes the server roll back."""
    try:
        await begun.rollback()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        with suppress(asyncpg.InterfaceError):  # a connection that broke has left its pool already
            connection.terminate()


async def _leave(_: asyncpg.Connection[asyncpg.Record]) -> None:
    """Clear nothing up: all that a transaction of ours sets ends with it, and each would pay for a round trip."""


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=numeric.encode, decoder=numeric.decode, format="binary"
    )
