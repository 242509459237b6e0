"""fallow backup: what backups a network has, and how it goes back to one."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli.show import Json, say, show_json, table, tell
from fallow.cli.up import Data, data_folder
from fallow.domain.errors import InvalidInput

app = App(name="backup", help="Show a network's backups, and go back to one.")

From = Annotated[Path | None, Parameter(name="--from", help="The folder of the backups; else `backup_folder`.")]


@app.command(name="ls")
def ls(*, folder: From = None, data: Data = None, json: Json = False) -> None:
    """Show which times can be restored. Type it on the network's machine; it may run."""
    from fallow.bootstrap.backing_up import backups_in  # noqa: PLC0415 - heavy, and not needed for the help
    from fallow.bootstrap.settings import load_settings  # noqa: PLC0415 - as above

    backups = backups_in(folder, load_settings(data_folder(data), os.environ, {}))
    copies, latest = backups.copies(), backups.latest()
    if json:
        show_json({"copies": [_from(copy.at) for copy in copies], "latest": _text(latest) if latest else ""})
        return
    table(["COPY (UTC)"], ([_from(copy.at)] for copy in copies), empty="There is no copy yet.")
    if copies and latest:
        say(f"Any time from {_from(copies[0].at)} on can be restored. Changes came last at {_text(latest)}.")


@app.command
def restore(
    *,
    to: Annotated[
        str | None, Parameter(help='A time, as "2026-11-26 12:00:00" in UTC or with its zone; else the latest.')
    ] = None,
    folder: From = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Put the database back to a time. The network must not run. What was there stays beside it."""
    from fallow.bootstrap.backing_up import restore_network  # noqa: PLC0415 - as above

    found = asyncio.run(restore_network(data_folder(data), os.environ, folder, _time(to) if to else None))
    if json:
        show_json({"until": _text(found.until) if found.until else "", "before": str(found.before or "")})
        return
    tell(f"Restored. The last change in it is of {_text(found.until)} UTC." if found.until else "Restored.")
    if found.before:
        tell(f"What was there before is in {found.before}: delete it once all is well.")
    tell(f"Start the network: fallow up{f' --data {data}' if data is not None else ''}")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("backup.time", f"{text!r} is no time.", 'Write it as "2026-11-26 12:00:00".') from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _from(time: datetime) -> str:
    """The first whole second that can be restored by a copy: its own, cut off, would be before it."""
    return _text(time + timedelta(microseconds=999_999))


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
