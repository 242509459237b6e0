"""Backs the network up, all the time; and puts its database back to a time that the backups reach."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fallow.adapters.engines.backups import Backups
from fallow.adapters.engines.folders import data_lock, make_data_folder
from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.engines.restoring import Restored, restore
from fallow.adapters.engines.users import choose_user
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.bootstrap.settings import FILE, Settings, load_settings
from fallow.bootstrap.settling import open_archive
from fallow.domain.epochs.manifest import STATEMENT, path_of
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotFound
from fallow.domain.metrics import Family, gauge_if_known
from fallow.ports.archive import Archive
from fallow.ports.files import sync
from fallow.ports.measuring import Measure
from fallow.ports.tasks import background

COPY_EVERY: Final = timedelta(days=1)
LOOK_S: Final = 600.0
"""How often it is looked whether a copy is due; one that failed is tried again after so long."""
LATE: Final = timedelta(seconds=LOOK_S)
SECRETS: Final = "secrets"
NETWORK: Final = ("network.json", "ports.json", FILE)
"""What a network is, beside its database, keys and what was written once (archive, chain, blobs)."""

_log = logging.getLogger(__name__)


def backups_of(settings: Settings) -> Backups | None:
    """Where the settings want backups, if they do.

    Raises:
        InvalidInput: the database is not ours to back up (`backup.foreign_database`).
    """
    if not settings.backup_folder:
        return None
    if settings.postgres_url:
        raise InvalidInput(
            "backup.foreign_database",
            "Only the embedded PostgreSQL is backed up by Fallow.",
            "Back your own up as you do anyway, and leave backup_folder empty.",
        )
    return Backups(Path(settings.backup_folder))


@asynccontextmanager
async def backing_up(data: Path, postgres: EmbeddedPostgres, backups: Backups, days: int) -> AsyncIterator[None]:
    """Make a copy a day while the context is open. What fails is logged, and tried again."""
    async with background(_keep(data, postgres, backups, days)):
        yield


async def _keep(data: Path, postgres: EmbeddedPostgres, backups: Backups, days: int) -> None:
    while True:
        try:
            await back_up_if_due(data, postgres, backups, days)
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(warn_if_late, backups, _now())
        except (FallowError, OSError) as error:
            _log.error("ALARM backup.failed: %s", error)
            await asyncio.sleep(LOOK_S)


def copy_age(backups: Backups | None) -> Measure:
    """Tell how old the newest copy is. Where the folder is not there this fails, and is counted as that."""

    async def measure() -> Sequence[Family]:
        age_s = (_now() - await asyncio.to_thread(backups.copied)).total_seconds() if backups else None
        says = "How long ago the last copy of the whole database was complete, where there are backups."
        return [gauge_if_known("fallow_backup_copy_age_seconds", says, age_s)]

    return measure


def warn_if_late(backups: Backups, now: datetime) -> None:
    """Log it where changes do not come to the backups any more: a network that runs has some every minute."""
    latest = backups.latest()
    if latest is None or latest < now - LATE:
        _log.error("ALARM backup.late: no change has come to %s since %s; see logs/postgres.log", backups.wal, latest)


async def back_up_if_due(data: Path, postgres: EmbeddedPostgres, backups: Backups, days: int) -> bool:
    """Copy the database, and what else the network is, if the last copy is a day old; whether it was.

    A restore may have taken changes from a disk that is not there for ever: behind it a new copy is made at once.
    """
    copies = await asyncio.to_thread(backups.copies)
    if copies and copies[-1].at > _now() - COPY_EVERY and copies[-1].timeline == postgres.timeline():
        return False
    await asyncio.to_thread(_copy_network, data, backups.network)
    await postgres.copy(backups, _now)
    await asyncio.to_thread(backups.expire, _now(), days)
    return True


async def restore_network(
    data: Path, environment: Mapping[str, str], folder: Path | None, at: datetime | None
) -> Restored:
    """Put a network that does not run back to a time, or (None) to the latest that its backups have.

    Its backups are in `folder`, or where its settings say. Where the data folder is new, its keys and settings are
    taken from there, too.

    Raises:
        InvalidInput: there are no backups (`backup.folder`).
        NotFound: there are no keys among them (`backup.no_keys`).
        Conflict: it runs (`engine.data_in_use`), or an epoch was closed since then (`backup.epoch_closed`).
        FallowError: see `restoring.restore`.
    """
    settings = load_settings(data, environment, {})
    backups = backups_in(folder, settings)
    make_data_folder(data, choose_user(settings.engine_user or None, data / "postgres"))
    with data_lock(data, "fallow up"):
        if not (data / SECRETS).exists():
            await asyncio.to_thread(_take_network, backups.network, data)
            settings = load_settings(data, environment, {})
        agreement = _Agreement(open_archive(data, settings), latest=at is None)
        user = settings.engine_user or None
        return await restore(data, backups, at, user=user, agree=agreement.look, now=_now())


def backups_in(folder: Path | None, settings: Settings) -> Backups:
    """The backups in a folder, or in the one of the settings.

    Raises:
        InvalidInput: there are none (`backup.folder`).
    """
    hint = "Name the folder that the setting backup_folder named: --from FOLDER"
    if folder is None and not settings.backup_folder:
        raise InvalidInput("backup.folder", "The setting backup_folder names no folder: nothing is backed up.", hint)
    found = Backups((folder or Path(settings.backup_folder)).absolute())
    if not found.base.is_dir():
        raise InvalidInput("backup.folder", f"{found.folder} has no backups.", hint)
    return found


class _Agreement:
    """What was said to the world stays said: a closed epoch's statement is signed, and its root may be on a chain."""

    def __init__(self, archive: Archive, *, latest: bool) -> None:
        self._archive = archive
        self._latest = latest

    async def look(self, dsn: str) -> None:
        """Refuse a database that does not know of the end of an epoch whose statement is in the archive."""
        async with open_database(dsn, pool_size=1) as database, database.transaction() as tx:
            ended = await PostgresIngestStore().ended(tx)
        said = await asyncio.to_thread(_last_said, self._archive)
        if said is None or (ended is not None and said <= ended.epoch):
            return
        text = f"Epoch {said} was closed and signed after that time: who is owed what by then cannot be taken back."
        if not self._latest:
            raise Conflict("backup.epoch_closed", text, "Restore to a later time, or to the latest (without a time).")
        _log.warning("%s The latest that the backups have is from before it.", text)


def _last_said(archive: Archive) -> int | None:
    for epoch in sorted(map(int, archive.folders("epochs/")), reverse=True):
        try:
            archive.size(path_of(epoch, STATEMENT))
        except NotFound:
            continue
        return epoch
    return None


def _copy_network(data: Path, to: Path) -> None:
    """Copy keys and settings to backups; a file there is whole or as it was."""
    _copy_files(data, NETWORK, to)
    _copy_files(data / SECRETS, _names(data / SECRETS), to / SECRETS)
    os.sync()


def _take_network(source: Path, data: Path) -> None:
    """Copy them to a new data folder. Keys are there all at once: `fallow up` would make those anew that are not.

    Raises:
        NotFound: there are none (`backup.no_keys`).
    """
    if not (source / SECRETS).is_dir():
        raise NotFound("backup.no_keys", f"{source} has no keys.", f"Copy the network's {SECRETS} to {data} yourself.")
    _copy_files(source, NETWORK, data)
    coming = Path(tempfile.mkdtemp(prefix=f".{SECRETS}.", dir=data))
    try:
        _copy_files(source / SECRETS, _names(source / SECRETS), coming)
        os.sync()
        coming.rename(data / SECRETS)
        sync(data)
    finally:
        shutil.rmtree(coming, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("[!.]*") if path.is_file()]


def _copy_files(source: Path, names: Iterable[str], target: Path) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        if (source / name).exists():
            new = target / f".{name}.new"
            shutil.copy2(source / name, new)
            new.chmod(0o600)
            new.replace(target / name)


def _now() -> datetime:
    return datetime.now(UTC)
