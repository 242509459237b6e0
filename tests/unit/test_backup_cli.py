"""What an operator types about backups, where no engine has to run for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fallow.adapters.engines.backups import Backups
from fallow.bootstrap.backing_up import LATE, backups_of, warn_if_late
from fallow.bootstrap.settings import Settings
from fallow.cli import backup
from fallow.domain.errors import InvalidInput


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


def test_copies_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput, match=r"backup\.folder"):
        backup.ls(folder=tmp_path, data=tmp_path)
    (tmp_path / "base" / "20261126T120000.000000Z").mkdir(parents=True)
    (tmp_path / "base" / ".half").mkdir()
    backup.ls(folder=tmp_path, data=tmp_path, json=True)
    assert json.loads(capsys.readouterr().out) == {"copies": ["2026-11-26 12:00:00"], "latest": ""}


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
