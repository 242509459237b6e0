"""Forward-only migrations: numbered SQL files, each applied once, in order, and never edited after a release.

A schema is a folder with `0001_name.sql`, `0002_other.sql` and so on. Fallow's own lie next to this module in
`schema/`; a vertical brings its own folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from fallow.adapters.postgres.database import open_database
from fallow.domain.errors import Conflict, InvalidInput
from fallow.ports.database import Database, Transaction

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
# Any fixed number: it serialises the migrations of all processes on one database.
_LOCK = 0x66616C6C6F77
STEPS_S: Final = 6 * 3600.0
"""For one: a large network that waited no longer than for other statements would never start again."""
_BOOKKEEPING = """
CREATE SCHEMA IF NOT EXISTS fallow;
CREATE TABLE IF NOT EXISTS fallow.migration (
    schema text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema, number)
);
"""


class Migration(NamedTuple):
    """One released step of a schema."""

    schema: str
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        """What the file must still hash to once it was applied."""
        return hashlib.sha256(self.sql.encode()).digest()


def builtin(schema: str) -> list[Migration]:
    """Read the migrations of one of Fallow's own schemas.

    Raises:
        InvalidInput: as `load`.
    """
    return load(schema, files("fallow.adapters.postgres") / "schema" / schema)


def load(schema: str, folder: Traversable) -> list[Migration]:
    """Read a folder of migrations, in order.

    Raises:
        InvalidInput: `migrations.missing` or `migrations.bad_number`: there is none, or the numbers are not 1, 2, 3 …
    """
    found = [(match, item) for item in folder.iterdir() if (match := _FILE.fullmatch(item.name))]
    found.sort(key=lambda pair: pair[1].name)
    steps = [Migration(schema, int(m[1]), item.name, item.read_text("utf-8")) for m, item in found]
    if not steps:
        raise InvalidInput("migrations.missing", f"schema {schema} has no migrations")
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise InvalidInput("migrations.bad_number", f"the migrations of {schema} are not numbered 1, 2, 3 …")
    return steps


async def migrate_at(dsn: str, *schemas: Sequence[Migration]) -> list[str]:
    """Migrate the database there, however long a step takes that goes through a large table.

    Raises:
        FallowError: as `migrate` and `open_database`.
    """
    async with open_database(dsn, pool_size=1, statement_timeout_s=STEPS_S) as database:
        return await migrate(database, *schemas)


async def migrate(database: Database, *schemas: Sequence[Migration]) -> list[str]:
    """Apply what is missing, in one transaction, and return the names of what was applied.

    Raises:
        Conflict: `migrations.changed`: an applied file was edited; `migrations.newer`: the database was written by
            a newer Fallow. Nothing is changed then.
    """
    async with database.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await tx.execute(_BOOKKEEPING)
        return [name for steps in schemas for name in await _apply(tx, steps)]


async def _apply(tx: Transaction, steps: Sequence[Migration]) -> list[str]:
    schema = steps[0].schema
    rows = await tx.fetch("SELECT number, name, sha256 FROM fallow.migration WHERE schema = $1", schema)
    done: dict[int, bytes] = {row["number"]: row["sha256"] for row in rows}
    if done and max(done) > len(steps):
        raise Conflict(
            "migrations.newer",
            f"schema {schema} of the database is at step {max(done)}, this Fallow knows {len(steps)}",
            "Install the newer Fallow again.",
        )
    for step in steps:
        if done.get(step.number, step.sha256) != step.sha256:
            raise Conflict(
                "migrations.changed",
                f"{schema}/{step.name} was edited after it was applied",
                "Restore the released file and put the change into a new one.",
            )
    missing = [step for step in steps if step.number not in done]
    for step in missing:
        await tx.execute(step.sql)
        await tx.execute(
            "INSERT INTO fallow.migration (schema, number, name, sha256) VALUES ($1, $2, $3, $4)",
            schema,
            step.number,
            step.name,
            step.sha256,
        )
    return [f"{schema}/{step.name}" for step in missing]
