"""PostgreSQL as our child: `async with EmbeddedPostgres(data) as pg: connect(pg.dsn())`."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Self

from fallow.adapters.engines.backups import Backups
from fallow.adapters.engines.binaries import Engine, find_postgres, usable_base
from fallow.adapters.engines.cluster import DATABASE, OWNER, PORT, SUPERUSER, Cluster
from fallow.adapters.engines.folders import data_lock, make_data_folder
from fallow.adapters.engines.leftovers import clear_leftovers, processes_on
from fallow.adapters.engines.process import Child, Program, spawn
from fallow.adapters.engines.sockets import socket_folder
from fallow.adapters.engines.supervisor import Supervisor
from fallow.adapters.engines.users import choose_user
from fallow.domain.errors import NotFound, Unavailable

_PROGRAM = "postgres"
# Fast shutdown; then the immediate one, which the next start repairs; then by force.
_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 8.0), (signal.SIGKILL, 5.0))
_START_SECONDS = 600.0  # repairing after a crash may take long, and interrupting it only starts it anew
_FIRST_PATIENCE = 6.0
_AGAIN_PATIENCE = 0.3  # the postmaster is known to be dead: what still works is lost anyway
_ATTEMPTS = 5
_READY = ("ready", "standby")

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
    "wal_compression": "on",
    "io_method": "sync",  # no idle worker processes
    "max_worker_processes": "4",
    "max_logical_replication_workers": "0",
    "autovacuum_worker_slots": "4",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "cluster_name": "fallow",
}
_NOT_DURABLE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """PostgreSQL in `<data>/postgres`, reached through a private Unix socket and by password only.

    `user` is whom it runs as when we are root (see `users.choose_user`). `settings` go on top of ours.
    `durable=False` gives up safety against power cuts for speed; it is meant for tests. What is changed goes to
    `backups`, if there are some.

    Opening the context starts it, makes the database `fallow` owned by the role `fallow`, and supervises it from
    then on; when it is left, or was not opened after all, nothing works on the data any more. Open it in the main
    thread (see `process`). It raises:
        InvalidInput: the data folder cannot be used, or not be reached by the engine's user.
        Conflict: somebody else runs this data folder, or its data is of another version or owner.
        NotFound: the programs are not installed, or there is no unprivileged user.
        Unavailable: it did not start; the message carries its last words.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        user: str | None = None,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        engine: Engine | None = None,
        backups: Backups | None = None,
    ) -> None:
        self._data = data_dir.resolve()
        self._folder = self._data / "postgres"
        self._requested_user = user
        self._settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        if backups is not None:
            self._settings |= backups.settings()
        self._backups = backups
        self._durable = durable
        self._engine = engine
        self._patience = _FIRST_PATIENCE
        self._stack = AsyncExitStack()
        self._cluster: Cluster | None = None
        self._socket: Path | None = None
        self._supervisor: Supervisor | None = None

    @property
    def pid(self) -> int | None:
        """Process number of the postmaster; None while it is down."""
        return self._running().pid

    @property
    def restarts(self) -> int:
        """How often it ended by itself and was brought back."""
        return self._running().restarts

    async def wait_restarts(self, count: int) -> None:
        """Wait until it has been brought back at least `count` times."""
        await self._running().wait_restarts(count)

    @property
    def socket_dir(self) -> Path:
        """The folder of its socket."""
        if self._socket is None:
            raise _not_running()
        return self._socket

    def dsn(self, role: str = OWNER, database: str = DATABASE) -> str:
        """A URL, password included, for asyncpg or libpq. Roles: `fallow`, and the superuser `postgres`.

        Raises:
            NotFound: there is no such role.
            Unavailable: it is not running.
        """
        if role not in {OWNER, SUPERUSER}:
            raise NotFound("engine.unknown_role", f"No password is kept for role {role!r}.", f"Use {OWNER!r}.")
        if self._cluster is None:
            raise _not_running()
        return self._cluster.dsn(self.socket_dir, role, database)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            cluster = self._cluster = await asyncio.to_thread(self._prepare, stack)
            await clear_leftovers(self._folder, _PROGRAM, _FIRST_PATIENCE)
            # A postmaster that was killed, as by a cancelled start, leaves its children behind for a moment.
            stack.push_async_callback(clear_leftovers, self._folder, _PROGRAM, _FIRST_PATIENCE)
            await asyncio.to_thread(cluster.check)
            if not cluster.exists:
                await cluster.create(durable=self._durable)
            cluster.password(SUPERUSER)  # fails now, and clearly, if it is lost
            if self._backups is not None:
                await asyncio.to_thread(self._backups.prepare, self._folder, cluster.user)
            self._socket = stack.enter_context(
                socket_folder(self._data, "postgres-socket", f".s.PGSQL.{PORT}.lock", cluster.user)
            )
            supervisor = Supervisor("PostgreSQL", self._start, _STEPS)
            self._supervisor = await stack.enter_async_context(supervisor)
            self._patience = _AGAIN_PATIENCE
            await cluster.ensure_database(self._socket)
            self._stack = stack.pop_all()
        return self

    def timeline(self) -> int:
        """Which course of things it is on: each restore begins another one, and leaves the history of it."""
        return max((int(file.stem, 16) for file in (self._folder / "pg_wal").glob("*.history")), default=1)

    async def copy(self, backups: Backups, at: Callable[[], datetime]) -> None:
        """Copy the whole database to `backups`, while it is worked with; `at` tells when that is done.

        Raises:
            Unavailable: that failed; nothing half is left.
        """
        if self._cluster is None:
            raise _not_running()
        made = backups.base / f".{secrets.token_hex(8)}"
        try:
            await self._cluster.copy(self.socket_dir, made)
            backups.add(made, at())
        finally:
            await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stack.aclose()
        finally:
            self._supervisor = self._socket = self._cluster = None

    def _prepare(self, stack: AsyncExitStack) -> Cluster:
        user = choose_user(self._requested_user, self._folder)
        make_data_folder(self._data, user)
        stack.enter_context(data_lock(self._data, "postgres"))
        engine = self._engine or find_postgres()
        base = usable_base(engine, self._data, user)
        programs = (base / engine.programs[0]).parent
        return Cluster(self._data, self._folder, programs, engine.major, user)

    async def _start(self) -> Child:
        """Start until it is not in the way of its own past any more."""
        for attempt in range(1, _ATTEMPTS + 1):
            await clear_leftovers(self._folder, _PROGRAM, self._patience)
            try:
                return await self._start_once()
            except Unavailable as error:
                if attempt == _ATTEMPTS or "still in use" not in error.message:
                    raise
                # Shared memory of an earlier run that some process we cannot see holds on to.
                await asyncio.sleep(0.2 * attempt)
        raise AssertionError  # the last attempt returned or raised

    async def _start_once(self) -> Child:
        cluster, socket = self._cluster, self._socket
        if cluster is None or socket is None:
            raise _not_running()
        await asyncio.to_thread(self._clean, cluster)
        quoted = '"' + str(socket).replace('"', '""') + '"'
        settings = {**self._settings, "unix_socket_directories": quoted}
        argv = [str(cluster.programs / _PROGRAM), "-D", str(self._folder)]
        argv += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self._data / "logs" / "postgres.log"
        child = await spawn(Program(tuple(argv), cluster.user, log, signal.SIGQUIT))
        try:
            await child.ready(lambda: _is_ready(self._folder, child.pid), _START_SECONDS)
        except BaseException:
            await child.stop(_STEPS[1:])
            raise
        return child

    def _clean(self, cluster: Cluster) -> None:
        """Write the access rules, and forget a process number that now belongs to a stranger."""
        cluster.write_access_rules()
        # PostgreSQL clears these files itself, unless a process with that number lives. We have looked: none works
        # on this data. The one in the socket's folder is not needed for anything.
        for lock in (self._folder / "postmaster.pid", self.socket_dir / f".s.PGSQL.{PORT}.lock"):
            number = _first_number(lock)
            if number is not None and Path(f"/proc/{number}").exists() and not processes_on(self._folder, _PROGRAM):
                lock.unlink(missing_ok=True)

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise _not_running()
        return self._supervisor


def _is_ready(folder: Path, pid: int) -> bool:
    """The postmaster writes its number in line 1 and its state in line 8; restoring a backup it can be read already."""
    try:
        lines = (folder / "postmaster.pid").read_text("ascii", "replace").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in _READY  # noqa: PLR2004 - said above


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii", "replace").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _not_running() -> Unavailable:
    return Unavailable("engine.not_running", "PostgreSQL is not running.", "Open its context first.")
