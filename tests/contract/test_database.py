"""The database port on PostgreSQL and its twin in memory, the migrations, and integers of any size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fallow.adapters.memory.database import MemoryDatabase, memory_transaction
from fallow.adapters.postgres import numeric
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import Migration, builtin, load, migrate, migrate_at
from fallow.adapters.postgres.owner import claim_database
from fallow.domain.errors import Conflict, InvalidInput, Unavailable

TABLE = "CREATE TABLE thing (id integer PRIMARY KEY, amount numeric(78))"
STEPS = [Migration("demo", 1, "0001_a.sql", "CREATE SCHEMA demo; CREATE TABLE demo.a ();")]
MORE = [*STEPS, Migration("demo", 2, "0002_b.sql", "CREATE TABLE demo.b ();")]


async def test_commit_rollback_and_copy(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn, pool_size=2) as database:
        async with database.transaction() as tx:
            await tx.execute(TABLE)
            await tx.copy("thing", ("id", "amount"), [(1, 10**77), (2, None)])
        with pytest.raises(LookupError):  # noqa: PT012 - the transaction is what is tested
            async with database.transaction() as tx:
                await tx.execute("DELETE FROM thing")
                raise LookupError
        async with database.transaction() as tx:
            rows = await tx.fetch("SELECT id, amount FROM thing WHERE id > $1 ORDER BY id", 0)
            assert [dict(row) for row in rows] == [{"id": 1, "amount": 10**77}, {"id": 2, "amount": None}]
            assert await tx.execute("UPDATE thing SET amount = 0") == "UPDATE 2"


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://fallow:se/cret@127.0.0.1:5432/fallow", "postgresql://fallow:secret@127.0.0.1:cret/x", "cret://x/y"],
)
async def test_an_address_that_cannot_be_read(dsn: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        async with open_database(dsn):
            pass
    assert caught.value.code == "database.url"
    assert ("cret" in caught.value.message) == dsn.startswith("cret"), "of a password nothing is said"
    assert caught.value.__suppress_context__


async def test_a_database_is_one_networks(postgres_dsn: str) -> None:
    key = bytes(32)
    async with open_database(postgres_dsn) as database:
        await migrate(database, builtin("registry"))
        for _ in range(2):
            await claim_database(database, "lab-1", key)
        for net, public_key in (("lab-2", key), ("lab-1", bytes(31) + b"\1")):
            with pytest.raises(Conflict, match="lab-1") as caught:
                await claim_database(database, net, public_key)
            assert caught.value.code == "database.other_network"
        await claim_database(database, "lab-1", key)


async def test_nothing_runs_after_the_end(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        async with database.transaction() as tx:
            await tx.execute(TABLE)
        with pytest.raises(RuntimeError, match="ended"):
            await tx.execute("INSERT INTO thing VALUES (1)")


async def test_a_swallowed_error_is_not_a_silent_rollback(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        async with database.transaction() as tx:
            await tx.execute(TABLE)
        with pytest.raises(RuntimeError, match="nothing is committed"):  # noqa: PT012 - as above
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO thing VALUES (1)")
                with pytest.raises(Conflict):
                    await tx.execute("INSERT INTO thing VALUES (1)")
        async with database.transaction() as tx:
            assert not await tx.fetch("SELECT FROM thing")


async def test_errors_have_the_ports_names(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn, statement_timeout_s=0.2, pool_size=2) as database:
        with pytest.raises(Unavailable) as error:
            async with database.transaction() as tx:
                await tx.execute("SELECT pg_sleep(30)")
        assert error.value.code == "database.timeout"
    async with open_database(postgres_dsn, pool_size=2) as database:
        with pytest.raises(Unavailable) as error:
            async with database.transaction() as tx:
                await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert error.value.code == "database.unreachable"
        async with database.transaction() as tx:  # the pool has replaced the connection
            assert await tx.fetch("SELECT 1 AS one")


async def test_a_deadlock_is_a_conflict_that_can_be_retried(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        async with database.transaction() as tx:
            await tx.execute(TABLE)
            await tx.execute("INSERT INTO thing VALUES (1, 0), (2, 0)")
        both = asyncio.Barrier(2)

        async def cross(first: int, second: int) -> str:
            try:
                async with database.transaction() as tx:
                    await tx.execute("UPDATE thing SET amount = 1 WHERE id = $1", first)
                    await both.wait()
                    await tx.execute("UPDATE thing SET amount = 1 WHERE id = $1", second)
            except Unavailable as error:
                return error.code
            return "done"

        assert sorted(await asyncio.gather(cross(1, 2), cross(2, 1))) == ["database.conflict", "done"]


async def test_nobody_there() -> None:
    with pytest.raises(Unavailable) as error:
        async with open_database("postgresql://nobody@127.0.0.1:1/nothing"):
            pass
    assert error.value.code == "database.unreachable"


async def test_wrong_use_is_not_reported_as_an_outage(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        with pytest.raises(Exception, match="invalid input for query argument") as error:
            async with database.transaction() as tx:
                await tx.fetch("SELECT $1::integer", "text")
        assert not isinstance(error.value, Unavailable)


@pytest.mark.parametrize("number", [0, 1, 9999, 10_000, 10**8 - 1, 10**8, 10**27, 10**77 + 1, (1 << 256) - 1])
async def test_integers_survive_the_database(postgres_dsn: str, number: int) -> None:
    assert numeric.decode(numeric.encode(number)) == number
    async with open_database(postgres_dsn) as database, database.transaction() as tx:
        for value in (number, -number):
            [row] = await tx.fetch("SELECT $1::numeric(78) AS it, ($1::numeric)::text AS text", value)
            assert (row["it"], row["text"]) == (value, str(value))
        with pytest.raises(ValueError, match="whole number"):
            numeric.decode(bytes.fromhex("0001 ffff 0000 0001 03e8"))  # 0.1
        with pytest.raises(ValueError, match="whole number"):
            numeric.decode(bytes.fromhex("0000 0000 c000 0000"))  # NaN


async def test_migrations_are_applied_once_and_in_order(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        assert await migrate(database, STEPS) == ["demo/0001_a.sql"]
        assert await migrate(database, MORE, builtin("ledger")) == [
            "demo/0002_b.sql",
            "ledger/0001_ledger.sql",
            "ledger/0002_budget.sql",
        ]
        assert await migrate(database, MORE, builtin("ledger")) == []
        with pytest.raises(Conflict) as error:
            await migrate(database, STEPS)
        assert error.value.code == "migrations.newer"
        with pytest.raises(Conflict) as error:
            await migrate(database, [MORE[0]._replace(sql="CREATE SCHEMA demo;"), MORE[1]])
        assert error.value.code == "migrations.changed"


async def test_processes_that_migrate_at_once_wait_for_each_other(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        applied = await asyncio.gather(*(migrate(database, MORE) for _ in range(5)))
        assert sorted(len(names) for names in applied) == [0, 0, 0, 0, 2]


async def test_a_step_through_a_large_table_is_not_cut_off_as_other_statements_are(postgres_dsn: str) -> None:
    sql = "CREATE TABLE patience AS SELECT current_setting('statement_timeout')::interval AS patience"
    await migrate_at(postgres_dsn, [Migration("patience", 1, "0001_patience.sql", sql)])
    async with open_database(postgres_dsn) as database, database.transaction() as tx:
        (row,) = await tx.fetch("SELECT patience > '1 hour' AS waits, patience FROM patience")
    assert row["waits"], row


async def test_a_failed_migration_leaves_nothing(postgres_dsn: str) -> None:
    async with open_database(postgres_dsn) as database:
        with pytest.raises(Exception, match="syntax error"):
            await migrate(database, [*STEPS, Migration("demo", 2, "0002_b.sql", "CREATE NONSENSE;")])
        assert await migrate(database, MORE) == ["demo/0001_a.sql", "demo/0002_b.sql"]


def test_a_folder_of_migrations(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        load("demo", tmp_path)
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    (tmp_path / "notes.txt").write_text("not a migration")
    assert [(step.number, step.name) for step in load("demo", tmp_path)] == [(1, "0001_a.sql")]
    (tmp_path / "0003_c.sql").write_text("SELECT 3;")
    with pytest.raises(InvalidInput):
        load("demo", tmp_path)


async def test_memory_takes_back_everything_in_reverse() -> None:
    database, table = MemoryDatabase(), {"kept": 1, "gone": 2}
    async with database.transaction() as tx:
        tx.put(table, "new", 3)
    with pytest.raises(LookupError):  # noqa: PT012 - as above
        async with database.transaction() as tx:
            tx.put(table, "kept", 9)
            tx.put(table, "kept", 10)
            tx.drop(table, "gone")
            tx.put(table, "newer", 4)
            tx.drop(table, "newer")
            raise LookupError
    assert table == {"kept": 1, "gone": 2, "new": 3}
    with pytest.raises(RuntimeError, match="ended"):
        tx.put(table, "late", 1)


async def test_memory_takes_back_what_a_cancelled_task_did() -> None:
    database, table = MemoryDatabase(), dict[str, int]()
    reached = asyncio.Event()

    async def forever() -> None:
        async with database.transaction() as tx:
            tx.put(table, "half", 1)
            reached.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(forever())
        await reached.wait()
        task.cancel()
    assert table == {}
    async with database.transaction():
        pass


async def test_memory_is_serial_and_refuses_what_it_cannot_do() -> None:
    database = MemoryDatabase()
    async with database.transaction() as tx:
        with pytest.raises(NotImplementedError):
            await tx.fetch("SELECT 1")
        with pytest.raises(NotImplementedError):
            await tx.execute("SELECT 1")
        with pytest.raises(NotImplementedError):
            await tx.copy("thing", ("id",), [(1,)])
        with pytest.raises(RuntimeError, match="open already"):
            async with database.transaction():
                pass
        assert memory_transaction(tx) is tx

    class Foreign:
        """A transaction of another database."""

        fetch, execute, copy = tx.fetch, tx.execute, tx.copy

    with pytest.raises(TypeError):
        memory_transaction(Foreign())
