"""Other object stores, each for a while on this machine: what they need, and how they are started and spoken to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bench._objects import BIN, S3, Account, Client, Processes
from fallow.bootstrap.listening import free_port
from tests.network import processes_of

BUILD = Path(__file__).parents[1] / "build" / "peers"
STARTED_S = 60.0


class Missing(Exception):
    """Something cannot be installed here; says what."""


class Served(NamedTuple):
    """A store that runs. `account` is of S3's kind, where it has one."""

    client: Client
    account: Account | None
    processes: Processes


@contextmanager
def program(folder: Path, *command: object, **variables: str) -> Iterator[None]:
    """Run a program in a session of its own, its words to a log; it is ended with all that it started."""
    log = folder / f"{Path(str(command[0])).name}.log"
    with log.open("a") as sink:
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder,
            env={**os.environ, **variables}, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def installed(name: str, *packages: str) -> Path:
    """Return the programs of packages of PyPI, in an environment of their own.

    Raises:
        Missing: they cannot be installed.
    """
    folder = BUILD / name
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", folder)
        _run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        (folder / "done").touch()
    return folder / "bin"


def unpacked(name: str, *packages: str) -> Path:
    """Return the folder in which Debian's packages lie, unpacked and not installed.

    Raises:
        Missing: they cannot be had.
    """
    folder = BUILD / name
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _run("apt-get", "download", *packages, cwd=folder)
        for package in folder.glob("*.deb"):
            _run("dpkg", "-x", package, folder)
        (folder / "done").touch()
    return folder


def _run(*command: object, cwd: Path | None = None) -> None:
    words = [*map(str, command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, check=False)
    except OSError as error:
        raise Missing(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        raise Missing(f"{' '.join(words)}: {done.stderr[-500:].strip()}")


def until_answers(url: str, log: Path) -> None:
    """Wait until somebody speaks HTTP there."""
    ends = time.monotonic() + STARTED_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own server
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > ends:
                raise RuntimeError(f"nothing answers at {url}: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)
        else:
            return


def program_of(arguments: Sequence[str]) -> str:
    """The program, or the script that Python runs."""
    names = [Path(word).name for word in arguments[:2]]
    return names[1] if len(names) > 1 and names[0].startswith("python") else "".join(names[:1])


@contextmanager
def rclone(folder: Path) -> Iterator[Served]:
    """`rclone serve s3`: one copy of each object, as a file."""
    port = free_port("127.0.0.1")
    account = Account(f"http://127.0.0.1:{port}", "bench", "bench-secret")
    keys = f"{account.access_key},{account.secret}"
    (folder / "objects").mkdir()
    command = (BIN / "rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, folder / "objects")
    with program(folder, *command, RCLONE_CONFIG=os.devnull):
        until_answers(account.endpoint, folder / "rclone.log")
        yield Served(S3(account), account, Processes(lambda: processes_of(folder), program_of))
