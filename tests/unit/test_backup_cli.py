"""What an operator types about backups, where no engine has to run for it."""

from __future__ import annotations

import errno
import gzip
import io
import json
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from fallow.adapters.engines.backups import BASE, MANIFEST, Backups
from fallow.adapters.engines.restoring import Restored, restore
from fallow.bootstrap.backing_up import LATE, SECRETS, backups_of, restore_network, warn_if_late
from fallow.bootstrap.settings import Settings
from fallow.cli import backup
from fallow.domain.errors import Conflict, InvalidInput, NotFound
from tests.engines import reachable_folder


@pytest.mark.parametrize("text", ["2026-11-26 12:00:00", "2026-11-26T12:00:00Z", "2026-11-26 14:00:00+02:00"])
def test_times_are_utc_unless_they_say_otherwise(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[datetime | None] = []

    async def restore(_data: Path, _environment: object, _folder: Path, at: datetime | None) -> object:
        asked.append(at)
        raise InvalidInput("test.enough", "That is all.")

    monkeypatch.setattr("fallow.bootstrap.backing_up.restore_network", restore)
    with pytest.raises(InvalidInput, match="That is all"):
        backup.restore(to=text, data=tmp_path)
    assert asked == [datetime(2026, 11, 26, 12, tzinfo=UTC)]
    assert not capsys.readouterr().out


def test_what_is_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"backup\.time"):
        backup.restore(to="yesterday", data=tmp_path)


@pytest.mark.parametrize("until", [datetime(2026, 11, 26, 12, tzinfo=UTC), None])
def test_programs_are_told_what_was_restored(
    until: datetime | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Restored(until, tmp_path / "postgres.before-1" if until else None)
    monkeypatch.setattr("fallow.bootstrap.backing_up.restore_network", AsyncMock(return_value=found))
    backup.restore(data=tmp_path, json=True)
    said = capsys.readouterr()
    before = {"until": "2026-11-26 12:00:00", "before": str(found.before)} if until else {"until": "", "before": ""}
    assert (json.loads(said.out), said.err) == (before, "")


def test_where_nothing_is_backed_up_no_other_folder_is_taken_for_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"backup_folder names no folder"):
        backup.ls(data=tmp_path)


def test_copies_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"backup\.folder"):
        backup.ls(folder=tmp_path, data=tmp_path)
    for at in ("20261126T120000.000000Z", "20261127T120000.000001Z"):
        copied(tmp_path, at)
    (tmp_path / "base" / ".half").mkdir()
    backup.ls(folder=tmp_path, data=tmp_path, json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"copies": ["2026-11-26 12:00:00", "2026-11-27 12:00:01"], "latest": ""}
    for text, copy in zip(shown["copies"], Backups(tmp_path).copies(), strict=True):
        typed = datetime.fromisoformat(text).replace(tzinfo=UTC)
        assert Backups(tmp_path).before(typed).copy == copy, "what is shown can be typed"


def copied(folder: Path, at: str) -> Path:
    """Have a copy as it would lie there."""
    copy = folder / "base" / at
    copy.mkdir(parents=True)
    ranges = '{"WAL-Ranges": [{"Timeline": 1, "Start-LSN": "1/2000028", "End-LSN": "1/F000000"}]}'
    (copy / MANIFEST).write_text(ranges)
    return copy


@pytest.mark.parametrize("said", ["", '{"WAL-Ranges": []}', '{"WAL-Ranges": [{"Timeline": 1, "Start-'])
def test_a_copy_whose_manifest_is_damaged_is_passed_over_for_an_older_one(
    said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = copied(tmp_path, "20261126T120000.000000Z"), copied(tmp_path, "20261127T120000.000000Z")
    (bad / MANIFEST).write_text(said)
    assert Backups(tmp_path).before(None).copy.folder == good
    assert "ALARM backup.damaged" in caplog.text


def test_a_damaged_history_is_said(tmp_path: Path) -> None:
    copied(tmp_path, "20261126T120000.000000Z")
    backups = Backups(tmp_path)
    backups.wal.mkdir()
    history = gzip.compress(b"1\t0/F000000\tno recovery target specified\n")
    for damaged in (history[:-9], history[:10] + b"\xff" * 20, gzip.compress(b"1\n")):
        (backups.wal / "00000002.history.gz").write_bytes(damaged)
        with pytest.raises(Conflict, match=r"backup\.damaged"):
            backups.before(None)


def test_changes_that_cannot_be_read_do_not_pass_for_their_end(tmp_path: Path) -> None:
    backups, beside, name = Backups(tmp_path), tmp_path / "before", "000000010000000000000001"
    (backups.wal / f"{name}.gz").mkdir(parents=True)
    (beside / "pg_wal" / "A").mkdir(parents=True)
    command = backups.restoring(None, 1, beside)["restore_command"]

    def ends_with(file: str) -> int:
        line = command.replace("%f", file).replace("%p", str(tmp_path / "got"))
        return subprocess.run(["/bin/sh", "-c", line], check=False, capture_output=True).returncode

    assert ends_with("nothing") == 1
    assert ends_with(name) > 125
    assert ends_with("A") > 125, "PostgreSQL gives up above that alone"


async def test_a_copy_that_cannot_be_unpacked_is_said_to_be_damaged(tmp_path: Path) -> None:
    copied(tmp_path, "20261126T120000.000000Z")
    (copy,) = Backups(tmp_path).copies()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as packed:
        entry = tarfile.TarInfo("file")
        entry.size = 1 << 20
        packed.addfile(entry, io.BytesIO(bytes(1 << 20)))
    packing = zlib.compressobj(wbits=31)
    whole = packing.compress(tar.getvalue()[: 1 << 19]) + packing.flush(zlib.Z_FULL_FLUSH)
    (copy.folder / BASE).write_bytes(whole + b"\xff" * 1000)
    with pytest.raises(Conflict, match=r"backup\.damaged"):
        await restore(tmp_path, Backups(tmp_path), None, user=None, agree=AsyncMock(), now=datetime.now(UTC))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the engine's user can enter."""
    with reachable_folder() as path:
        yield path


async def test_keys_come_to_a_new_folder_all_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, data = place / "backups", place / "data"
    (folder / "base").mkdir(parents=True)
    with pytest.raises(NotFound, match=r"backup\.no_keys"):
        await restore_network(data, {}, folder, None)
    assert not (data / SECRETS).exists()
    (folder / "network" / SECRETS).mkdir(parents=True)
    for name in ("a.key", "b.key", ".c.key.new"):
        (folder / "network" / SECRETS / name).write_text(name)
    copy2 = shutil.copy2

    def fails_at_the_second(source: Path, target: Path) -> None:
        if any(data.glob(".secrets.*/?.key")):
            raise OSError(errno.ENOSPC, "No space left on device")
        copy2(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copy2", fails_at_the_second)
        with pytest.raises(OSError, match="No space"):
            await restore_network(data, {}, folder, None)
    assert not (data / SECRETS).exists(), "what is not there would be taken for new"
    with pytest.raises(NotFound, match=r"backup\.none"):
        await restore_network(data, {}, folder, None)
    assert {path.name for path in (data / SECRETS).iterdir()} == {"a.key", "b.key"}


async def test_a_new_folder_is_of_the_user_of_the_settings_that_came_with_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "backups" / "base").mkdir(parents=True)
    (place / "backups" / "network" / SECRETS).mkdir(parents=True)
    (place / "backups" / "network" / "fallow.toml").write_text('engine_user = "nobody"\n')
    restoring = AsyncMock()
    monkeypatch.setattr("fallow.bootstrap.backing_up.restore", restoring)
    await restore_network(place / "data", {}, place / "backups", None)
    assert restoring.await_args_list[0].kwargs["user"] == "nobody"


def test_somebody_elses_database_is_not_backed_up() -> None:
    assert backups_of(Settings()) is None
    with pytest.raises(InvalidInput, match=r"backup\.foreign_database"):
        backups_of(Settings(postgres_url="postgresql://db/fallow", backup_folder="/mnt/backups"))


def test_changes_that_do_not_come_any_more_are_an_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backups, now = Backups(tmp_path), datetime.now(UTC)
    backups.wal.mkdir()
    warn_if_late(backups, now)
    assert "ALARM backup.late" in caplog.text
    caplog.clear()
    (backups.wal / "000000010000000000000001.gz").touch()
    warn_if_late(backups, now)
    assert not caplog.text
    warn_if_late(backups, now + LATE + timedelta(seconds=1))
    assert "ALARM backup.late" in caplog.text
