"""Puts the embedded PostgreSQL back to a time that its backups reach. What was there is kept beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import asyncpg

from fallow.adapters.engines.backups import BASE, BASE_WAL, MANIFEST, UNPACKED, Backups, Copy
from fallow.adapters.engines.binaries import find_postgres, usable_base
from fallow.adapters.engines.cluster import DATABASE, SUPERUSER
from fallow.adapters.engines.folders import give_to, private_folder
from fallow.adapters.engines.leftovers import clear_leftovers
from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.engines.process import Program, run
from fallow.adapters.engines.users import EngineUser, choose_user
from fallow.domain.errors import Conflict, Unavailable
from fallow.ports.files import sync

_PATIENCE_S: Final = 6.0
_VERIFY_S: Final = 6 * 3600.0
_PROMOTE_S: Final = 600
_LOOK_S: Final = 0.05

Agree = Callable[[str], Awaitable[None]]
"""Looks at the database as it was, by its URL, before anything is written to it. Raises where it may not be used."""


class Restored(NamedTuple):
    """When the last change was that the database has, if any, and where what was there before is kept."""

    until: datetime | None
    before: Path | None


async def restore(
    data: Path, backups: Backups, at: datetime | None, *, user: str | None, agree: Agree, now: datetime
) -> Restored:
    """Put the database of a data folder back to `at`, or to the latest that there is. Hold the folder's lock.

    Raises:
        NotFound: no copy is so old (`backup.none`).
        Conflict: the copy or a history is damaged (`backup.damaged`).
        Unavailable: the log of changes does not reach so far (`backup.short`), or PostgreSQL did not start.
        FallowError: what `agree` raises. After any error the database is what it was.
    """
    engine_user, folder = choose_user(user, data / "postgres"), data / "postgres"
    start = await asyncio.to_thread(backups.before, at)
    await clear_leftovers(folder, "postgres", _PATIENCE_S)
    async with _unpacked(data, start.copy, engine_user) as unpacked:
        before = data / f"postgres.before-{now:%Y%m%dT%H%M%SZ}" if folder.exists() else None
        if before is not None:
            folder.rename(before)
        try:
            unpacked.rename(folder)
            settings = backups.restoring(at, start.course, before)
            async with EmbeddedPostgres(data, user=user, settings=settings) as postgres:
                until = await _recovered(postgres, at, agree)
        except BaseException:
            await asyncio.to_thread(_put_back, folder, before)
            raise
    sync(data)
    return Restored(until, before)


@asynccontextmanager
async def _unpacked(data: Path, copy: Copy, user: EngineUser) -> AsyncIterator[Path]:
    """Unpack a copy and verify each file of it, in a folder that is gone at the end, if it is still there."""
    temporary = Path(tempfile.mkdtemp(prefix=".postgres.", dir=data))
    try:
        give_to(temporary, user)
        folder = private_folder(temporary / "data", user)
        try:
            await asyncio.to_thread(_unpack, copy.folder, folder, user)
            await _verify(data, copy, folder, user)
        except (*UNPACKED, tarfile.TarError, Unavailable) as error:
            hint = "Restore from an older copy (a time before it), and look after that disk."
            raise Conflict("backup.damaged", f"{copy.folder} is damaged: {error}", hint) from error
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)


def _unpack(copy: Path, folder: Path, user: EngineUser) -> None:
    for archive, to in ((BASE, folder), (BASE_WAL, folder / "pg_wal")):
        with tarfile.open(copy / archive) as packed:
            # Python has such filters from 3.11.4 on; what this one would refuse is refused here by all.
            packed.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in packed:
                _check_plain(member)
                packed.extract(member, to)
    for parent, _, files in os.walk(folder):
        Path(parent).chmod(0o700)
        for path in (Path(parent), *(Path(parent, name) for name in files)):
            give_to(path, user)
    signal_file = folder / "recovery.signal"
    signal_file.touch(0o600)
    give_to(signal_file, user)


def _check_plain(member: tarfile.TarInfo) -> None:
    """Let files and folders through that lie below: PostgreSQL's own copies have nothing else."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise tarfile.TarError(f"{member.name!r} is no file of a copy")


async def _verify(data: Path, copy: Copy, folder: Path, user: EngineUser) -> None:
    engine = find_postgres()
    programs = (usable_base(engine, data, user) / engine.programs[0]).parent
    options = ("--no-parse-wal", "--ignore", "recovery.signal", "--manifest-path", str(copy.folder / MANIFEST))
    argv = (str(programs / "pg_verifybackup"), *options, str(folder))
    await run(Program(argv, user, data / "logs" / "backup.log", signal.SIGKILL), _VERIFY_S)


async def _recovered(postgres: EmbeddedPostgres, at: datetime | None, agree: Agree) -> datetime | None:
    """Wait until it has come to that time, and let it go on from there; returns when the last change was."""
    try:
        connection = await asyncpg.connect(postgres.dsn(SUPERUSER, DATABASE))
        try:
            reached = "SELECT pg_get_wal_replay_pause_state() = 'paused'" if at else "SELECT NOT pg_is_in_recovery()"
            while not await connection.fetchval(reached):  # noqa: ASYNC110 - another process sets no event of ours
                await asyncio.sleep(_LOOK_S)
            until: datetime | None = await connection.fetchval("SELECT pg_last_xact_replay_timestamp()")
            await agree(postgres.dsn())
            if at is not None and not await connection.fetchval("SELECT pg_promote(true, $1)", _PROMOTE_S):
                raise Unavailable(
                    "backup.slow",
                    f"PostgreSQL did not go on from that time within {_PROMOTE_S} s.",
                    "What was there before is back: type it again, on a machine with less other work.",
                )
            return until
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(
            "backup.short",
            f"The backups do not reach so far: PostgreSQL ended while it went through them ({error}).",
            "Look at: fallow backup ls. Without a time the latest that there is is restored.",
        ) from error


def _put_back(folder: Path, before: Path | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if before is not None:
        before.rename(folder)
