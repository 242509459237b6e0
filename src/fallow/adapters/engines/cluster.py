"""PostgreSQL's data folder: made once, checked at each start, and the accounts inside."""

from __future__ import annotations

import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import asyncpg

from fallow.adapters.engines.folders import give_to, private_folder, secret, write_private
from fallow.adapters.engines.leftovers import clear_leftovers
from fallow.adapters.engines.process import ENVIRONMENT, Program, run
from fallow.adapters.engines.users import EngineUser
from fallow.domain.errors import Conflict, Unavailable
from fallow.ports.files import sync

SUPERUSER = "postgres"
OWNER = "fallow"
DATABASE = "fallow"
_SECRETS = {SUPERUSER: "postgres", OWNER: "postgres-fallow"}
PORT = 5432  # only a part of the socket's file name: nothing listens on TCP
_INITDB_SECONDS = 300.0
_CONNECT_SECONDS = 20.0
_COPY_SECONDS = 12 * 3600.0
_RUBBISH_PATIENCE = 1.0
_ACCESS = """\
# Written at every start. Each connection proves its password; there is no other way in. By the second a copy is made.
local all all scram-sha-256
local replication postgres scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL data folder `folder` in the data folder `data`, of `user`, for programs of version `major`."""

    data: Path
    folder: Path
    programs: Path
    major: str
    user: EngineUser

    @property
    def exists(self) -> bool:
        """Whether it has been made, completely: it gets its name only then."""
        return (self.folder / "PG_VERSION").exists()

    def check(self) -> None:
        """Make sure that this version of PostgreSQL can run it.

        Raises:
            Conflict: another major version made it, or the folder holds something else.
        """
        if self.exists:
            found = (self.folder / "PG_VERSION").read_text("ascii").strip()
            if found != self.major:
                raise _wrong_version(self.folder, found, self.major)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise Conflict(
                "engine.unknown_folder",
                f"{self.folder} is not empty, and what is in it is no PostgreSQL data.",
                "Move it away, or choose another data folder.",
            )

    async def create(self, *, durable: bool) -> None:
        """Run initdb in a temporary folder, then give it its name: a crash half way leaves only rubbish behind.

        Raises:
            Unavailable: initdb failed.
        """
        for rubbish in self.data.glob(".postgres.*"):
            await clear_leftovers(rubbish / "data", "postgres", _RUBBISH_PATIENCE)
            shutil.rmtree(rubbish, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=".postgres.", dir=self.data))
        try:
            give_to(temporary, self.user)
            await self._initdb(temporary, durable=durable)
            (temporary / "data").rename(self.folder)
            sync(self.data)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    async def _initdb(self, temporary: Path, *, durable: bool) -> None:
        password = temporary / "password"
        write_private(password, self.password(SUPERUSER) + "\n", self.user)
        argv = (
            str(self.programs / "initdb"),
            *("--pgdata", str(private_folder(temporary / "data", self.user))),
            *("--username", SUPERUSER, "--pwfile", str(password)),
            *("--auth", "scram-sha-256", "--data-checksums", "--encoding", "UTF8"),
            *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *(() if durable else ("--no-sync",)),
        )
        log = self.data / "logs" / "initdb.log"
        await run(Program(argv, self.user, log, signal.SIGKILL), _INITDB_SECONDS)

    def write_access_rules(self) -> None:
        """Replace pg_hba.conf by the one rule that we stand for."""
        write_private(self.folder / "pg_hba.conf", _ACCESS, self.user)

    async def copy(self, socket: Path, to: Path) -> None:
        """Copy all of it, running, to a folder that is made; with it what it takes of the log of changes to be whole.

        That comes as it is written: at the end PostgreSQL might have it no more (`--wal-method fetch`).

        Raises:
            Unavailable: that failed.
        """
        argv = (
            str(self.programs / "pg_basebackup"),
            *("--host", str(socket), "--port", str(PORT), "--username", SUPERUSER, "--no-password"),
            *("--pgdata", str(to), "--format", "tar", "--gzip", "--wal-method", "stream", "--checkpoint", "fast"),
        )
        environment = ENVIRONMENT | {"PGPASSWORD": self.password(SUPERUSER)}
        log = self.data / "logs" / "backup.log"
        await run(Program(argv, self.user, log, signal.SIGKILL, environment=environment), _COPY_SECONDS)

    def password(self, role: str) -> str:
        """The password of one of the two roles, made at first use.

        Raises:
            Conflict: it is gone although the database exists.
        """
        # Ours can be set anew by the superuser, whose own cannot.
        return secret(self.data, _SECRETS[role], create=role == OWNER or not self.exists)

    def dsn(self, socket: Path, role: str, database: str) -> str:
        """A URL that asyncpg and libpq understand."""
        user, password = quote(role, safe=""), quote(self.password(role), safe="")
        query = urlencode({"host": str(socket), "port": PORT}, quote_via=quote)
        return f"postgresql://{user}:{password}@/{quote(database, safe='')}?{query}"

    async def ensure_database(self, socket: Path) -> None:
        """Make sure that the role and the database are there and the password is the one we keep.

        Raises:
            Conflict: the superuser's password does not open it.
            Unavailable: the server does not answer.
        """
        if not (self.data / "secrets" / _SECRETS[OWNER]).exists():
            await self._create_database(socket)  # a new one: no failed login in its log
            return
        try:
            connection = await _connect(self.dsn(socket, OWNER, DATABASE))
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError):
            await self._create_database(socket)
        else:
            await connection.close()

    async def _create_database(self, socket: Path) -> None:
        try:
            connection = await _connect(self.dsn(socket, SUPERUSER, "postgres"))
        except asyncpg.InvalidPasswordError as error:
            raise Conflict(
                "engine.secret_wrong",
                f"The password in {self.data / 'secrets'} does not open the database in {self.folder}.",
                "Restore both from the same backup.",
            ) from error
        try:
            await self._create_missing(connection)
        finally:
            await connection.close()

    async def _create_missing(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        verb = "ALTER" if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", OWNER) else "CREATE"
        # DDL takes no parameters, so the server quotes them for us.
        role = await connection.fetchval(
            "SELECT format('%s ROLE %I LOGIN PASSWORD %L', $1::text, $2::text, $3::text)",
            *(verb, OWNER, self.password(OWNER)),
        )
        await connection.execute(role)
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f'CREATE DATABASE "{DATABASE}" OWNER "{OWNER}"')
        # The other databases are the superuser's.
        await connection.execute(f'REVOKE ALL ON DATABASE "postgres", template1, "{DATABASE}" FROM PUBLIC')


async def _connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError) as error:
        raise Unavailable("engine.no_answer", f"PostgreSQL does not answer: {error}.", "Try again.") from error


def _wrong_version(folder: Path, found: str, wanted: str) -> Conflict:
    return Conflict(
        "engine.postgres_version",
        f"The data in {folder} was made by PostgreSQL {found}; this installation brings PostgreSQL {wanted},"
        " which cannot read it.",
        f"Install the previous version of Fallow, dump with pg_dump, move {folder} away, start this version and"
        " restore the dump; or run pg_upgrade.",
    )
