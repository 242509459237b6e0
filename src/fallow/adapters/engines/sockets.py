"""The folder of a Unix socket: private, and with a path short enough for the kernel."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fallow.adapters.engines.folders import give_to, private_folder, write_private
from fallow.adapters.engines.users import EngineUser

_LONGEST = 107  # bytes in sockaddr_un, less the final zero
_PREFIX = "fallow-"


@contextmanager
def socket_folder(data: Path, name: str, file_name: str, user: EngineUser) -> Iterator[Path]:
    """A folder, mode 0700 and owned by `user`, where a socket called `file_name` fits.

    It is `<data>/<name>`, or, where that is too long, a new one in the system's temporary folder, whose path is
    then recorded in `<data>/<name>.path` and which is removed at the end (or by the next run).
    """
    usual = data / name
    record = data / f"{name}.path"
    _remove_recorded(record)
    if len(bytes(usual / file_name)) <= _LONGEST:
        yield private_folder(usual, user)
        return
    short = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        give_to(short, user)
        write_private(record, f"{short}\n")
        yield short
    finally:
        _remove_recorded(record)


def _remove_recorded(record: Path) -> None:
    """Remove the short folder of an earlier run, if what the record names still looks like one of ours."""
    try:
        folder = Path(record.read_text("utf-8").strip())
    except FileNotFoundError:
        return
    if folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)  # does not follow links
    record.unlink()
