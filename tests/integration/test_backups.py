"""Backups of the embedded PostgreSQL: any time behind a copy comes back, and what is damaged is found."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from fallow.adapters.clock import SystemClock
from fallow.adapters.engines.backups import BASE, Backups
from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.engines.restoring import Agree, Restored, restore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.measuring import PostgresMeasures
from fallow.bootstrap.backing_up import back_up_if_due, copy_age
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound
from fallow.ports.tasks import background
from tests.engines import reachable_folder

pytestmark = pytest.mark.xdist_group("backups")

AGES = {"fallow_backup_copy_age_seconds", "fallow_backup_change_age_seconds"}
TIMELINES = "????????.history.gz"
CHANGE_EVERY_S = 0.05
"""Often enough that what a copy takes is deleted meanwhile; with no pause at all, copying takes ten times as long."""


class Made(NamedTuple):
    """A database that holds 1, 2 and 3; a copy has 1, and `at` is between 2 and 3."""

    data: Path
    backups: Backups
    at: datetime
    ages_s: list[float]
    """What is told of the last copy and of the last changes, right behind them."""

    async def restore(self, at: datetime | None, agree: Agree | None = None) -> Restored:
        """Put it back; nobody has anything against it, unless he is given."""
        return await restore(self.data, self.backups, at, user=None, agree=agree or agreed, now=now())

    def timelines(self) -> int:
        """How often things took another course."""
        return len(list(self.backups.wal.glob(TIMELINES)))

    def newest(self) -> Path:
        """The newest file of changes."""
        return max(self.backups.wal.glob("?" * 24 + ".gz"))

    def own(self) -> Path:
        """Where the database has it, too: until PostgreSQL deletes it, which it may as soon as it is in the backups."""
        return self.data / "postgres" / "pg_wal" / self.newest().stem

    def kept(self) -> int:
        """How many databases were set aside."""
        return len(list(self.data.glob("postgres.before*")))


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(made: Made) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    async with EmbeddedPostgres(made.data, durable=False, backups=made.backups) as postgres:
        connection = await asyncpg.connect(postgres.dsn())
        try:
            yield connection
        finally:
            await connection.close()


async def put(connection: asyncpg.Connection[asyncpg.Record], number: int) -> datetime:
    """Add a number; returns a time behind that, and before whatever comes."""
    await connection.execute("INSERT INTO t VALUES ($1)", number)
    time: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return time


async def agreed(_: str) -> None:
    """Nobody has anything against it."""


async def numbers(made: Made) -> list[int]:
    async with running(made) as connection:
        return await in_it(connection)


async def in_it(connection: asyncpg.Connection[asyncpg.Record]) -> list[int]:
    return [row["n"] for row in await connection.fetch("SELECT n FROM t ORDER BY n")]


async def make(data: Path, backups: Backups) -> Made:
    async with EmbeddedPostgres(data, durable=False, backups=backups) as postgres:
        connection = await asyncpg.connect(postgres.dsn())
        await connection.execute("CREATE TABLE t (n integer)")
        await put(connection, 1)
        await postgres.copy(backups, now)
        at = await put(connection, 2)
        await put(connection, 3)
        ages_s = await told(postgres, backups)
        await connection.close()
    return Made(data, backups, at, ages_s)


async def told(postgres: EmbeddedPostgres, backups: Backups | None) -> list[float]:
    """Ages that are told of backups, in seconds."""
    async with open_database(postgres.dsn(), pool_size=1) as database:
        families = [*await copy_age(backups)(), *await PostgresMeasures(database, SystemClock()).engine()]
    return [sample.value for family in families if family.name in AGES for sample in family.samples]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """One for all tests: each leaves 1, 2 and 3 in it."""
    with reachable_folder() as data, reachable_folder() as backups:
        yield asyncio.run(make(data / "data", Backups(backups)))


async def test_how_old_copies_and_changes_are_is_told_where_there_are_backups(made: Made, tmp_path: Path) -> None:
    assert [0 < age_s < 120 for age_s in made.ages_s] == [True, True]
    with reachable_folder() as data:
        async with EmbeddedPostgres(data / "data", durable=False) as postgres:
            ages_s = await told(postgres, None)
    assert ages_s == []
    with pytest.raises(FileNotFoundError):
        await copy_age(Backups(tmp_path / "not mounted"))()
    old = Backups(tmp_path)
    old.base.mkdir()
    (tmp_path / "database").touch()
    assert datetime.now(UTC) - old.copied() < timedelta(minutes=2), "there were none before"
    (old.base / "20261125T120000.000000Z").mkdir()
    (old.base / "20261126T120000.000000Z").mkdir()
    (old.base / ".made").mkdir()
    (old.base / "lost+found").mkdir()
    assert old.copied() == datetime(2026, 11, 26, 12, tzinfo=UTC)


async def test_any_time_behind_a_copy_comes_back_and_later_ones_too(made: Made) -> None:
    timelines = made.timelines()
    found = await made.restore(made.at)
    assert made.timelines() == timelines, "a restore that is only tried writes nothing to the backups"
    assert found.until is not None
    assert found.until <= made.at
    assert found.before is not None
    async with running(made) as connection:
        assert await in_it(connection) == [1, 2]
        again = await put(connection, 3)
        then = await put(connection, 4)
        await put(connection, 5)
    await made.restore(again)
    assert await numbers(made) == [1, 2, 3]
    await made.restore(then)
    assert await numbers(made) == [1, 2, 3, 4], "a time is one of the course that things took then"
    await made.restore(again)
    assert await numbers(made) == [1, 2, 3]
    await made.restore(None)
    assert await numbers(made) == [1, 2, 3], "5 was given up, for the latest"


async def test_what_cannot_be_restored_leaves_the_database_as_it_was(made: Made) -> None:
    kept = made.kept()
    for at, error in ((now() + timedelta(hours=1), FallowError), (made.at - timedelta(hours=1), NotFound)):
        with pytest.raises(error):
            await made.restore(at)
        assert made.kept() == kept
    assert await numbers(made) == [1, 2, 3]


async def test_who_does_not_agree_sees_it_as_it_was_and_keeps_what_is(made: Made) -> None:
    seen: list[int] = []
    timelines = made.timelines()

    async def refuse(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        seen.extend(await in_it(connection))
        await connection.close()
        raise Conflict("test.no", "No.")

    with pytest.raises(Conflict, match="No"):
        await made.restore(made.at, refuse)
    assert seen == [1, 2]
    assert await numbers(made) == [1, 2, 3]
    assert made.timelines() == timelines, "no other course of things came to the backups"


async def test_a_copy_is_whole_however_much_is_changed_meanwhile(made: Made) -> None:
    async with EmbeddedPostgres(made.data, durable=False, backups=made.backups) as postgres:
        connection = await asyncpg.connect(postgres.dsn("postgres"))

        async def change() -> None:
            while True:
                await connection.execute("SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'test', 'more')")
                await connection.execute("CHECKPOINT")
                await asyncio.sleep(CHANGE_EVERY_S)

        async with background(change()):
            await postgres.copy(made.backups, now)
        await connection.close()
    assert made.backups.before(None).copy == made.backups.copies()[-1]
    await made.restore(None)
    assert await numbers(made) == [1, 2, 3]


async def test_a_damaged_copy_is_found_before_anything_is_changed(made: Made) -> None:
    copy, _ = made.backups.before(made.at)
    archive = copy.folder / BASE
    with damaged(archive):
        packed = bytearray(archive.read_bytes())
        packed[len(packed) // 2] ^= 1
        archive.write_bytes(packed)
        with pytest.raises(Conflict, match="damaged"):
            await made.restore(made.at)
    assert await numbers(made) == [1, 2, 3]


async def test_a_damaged_file_of_changes_does_not_pass_for_their_end(made: Made) -> None:
    newest = made.newest()
    with damaged(newest):
        newest.write_bytes(newest.read_bytes()[:-9])
        with pytest.raises(FallowError):
            await made.restore(None)
    assert await numbers(made) == [1, 2, 3]


async def test_what_had_not_come_to_the_backups_is_taken_from_the_disk_that_is_there(made: Made) -> None:
    async with running(made) as connection:
        await connection.execute("DELETE FROM t WHERE n = 3")
    async with running(made) as connection:  # each run ends with a file of its own
        await put(connection, 3)
    made.own().write_bytes(gzip.decompress(made.newest().read_bytes()))
    made.newest().unlink()
    await made.restore(None)
    async with EmbeddedPostgres(made.data, durable=False, backups=made.backups) as postgres:
        assert await back_up_if_due(made.data, postgres, made.backups, 14), "the backups alone have a gap"
        assert not await back_up_if_due(made.data, postgres, made.backups, 14)
    assert await numbers(made) == [1, 2, 3]
    await made.restore(None)
    assert await numbers(made) == [1, 2, 3]


async def test_what_the_disk_that_is_there_cannot_read_does_not_pass_for_the_end_of_changes(made: Made) -> None:
    newest, own = made.newest(), made.own()
    with damaged(newest):
        newest.unlink()
        own.unlink(missing_ok=True)
        own.mkdir()
        try:
            with pytest.raises(FallowError):
                await made.restore(None)
        finally:
            own.rmdir()
    assert await numbers(made) == [1, 2, 3]


@contextmanager
def damaged(file: Path) -> Iterator[None]:
    """Have a file as it was at the end."""
    whole = file.read_bytes()
    try:
        yield
    finally:
        file.write_bytes(whole)


async def test_a_folder_is_one_databases_and_is_there_before(made: Made) -> None:
    with reachable_folder() as other:
        with pytest.raises(Conflict, match="another database"):
            await EmbeddedPostgres(other / "data", durable=False, backups=made.backups).__aenter__()
        with pytest.raises(InvalidInput, match="is no folder"):
            await EmbeddedPostgres(other / "data", durable=False, backups=Backups(other / "nothing")).__aenter__()


def test_what_no_day_needs_any_more_goes(tmp_path: Path) -> None:
    backups, today = Backups(tmp_path), datetime(2026, 11, 26, tzinfo=UTC)
    backups.base.mkdir()
    backups.wal.mkdir()
    for days, number in ((20, 2), (15, 4), (13, 6), (1, 8)):
        made = tmp_path / "made"
        made.mkdir()
        ranges = f'{{"WAL-Ranges": [{{"Timeline": 1, "Start-LSN": "1/{number:X}000028", "End-LSN": "1/F000000"}}]}}'
        (made / "backup_manifest").write_text(ranges)
        backups.add(made, today - timedelta(days=days))
    names = [f"00000001{1:08X}{number:08X}" for number in range(10)] + ["00000002.history", f"{2:08X}{1:08X}{3:08X}"]
    for name in names:
        (backups.wal / f"{name}.gz").touch()
    backups.expire(today, 14)
    assert [(today - copy.at).days for copy in backups.copies()] == [15, 13, 1]
    kept = {f"{name}.gz" for name in (*names[4:10], "00000002.history")}
    assert {path.name for path in backups.wal.iterdir()} == kept
    assert backups.before(today - timedelta(days=14)).copy.at == today - timedelta(days=15)
