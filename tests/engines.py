"""Running engines for tests: one PostgreSQL and one NATS per test session, a fresh database per test.

The engines live in a child process that ends when its standard input does, so that they need no event loop of the
session's and never outlive the tests. Import the fixtures in `tests/conftest.py`:

    from tests.engines import engine_folder, engines, nats_url, postgres_dsn
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

import fallow
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.engines.postgres import EmbeddedPostgres

_ROOTS = [str(Path(fallow.__file__).parents[1]), str(Path(__file__).parents[1])]


@dataclass(frozen=True, slots=True)
class Engines:
    """Where the session's engines are. `templates` are PostgreSQL's URLs by role, with a place for the database."""

    templates: dict[str, str]
    nats_url: str

    def dsn(self, database: str, role: str = "fallow") -> str:
        """The URL of a database for `fallow` or the superuser `postgres`."""
        return self.templates[role].replace("DATABASE", quote(database, safe=""))


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that the engines' user can get into (pytest's own are 0700)."""
    folder = Path(tempfile.mkdtemp(prefix="fallow-test-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def child_environment() -> dict[str, str]:
    """The environment in which a child process finds Fallow and the tests, installed or not."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(_ROOTS)}


@contextmanager
def running_engines(folder: Path) -> Iterator[Engines]:
    """Run both engines in a child process, fast and without safety against power cuts."""
    argv = [sys.executable, __file__, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=child_environment(), start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            assert line, "the engines did not start; their words are above"
            yield Engines(**json.loads(line))
        finally:
            child.stdin.close()
            child.wait(120)


@asynccontextmanager
async def fresh_database(engines: Engines) -> AsyncIterator[str]:
    """An empty database owned by `fallow`, as a URL; dropped at the end, whoever is still connected."""
    name = f"test_{secrets.token_hex(8)}"
    admin = await asyncpg.connect(engines.dsn("postgres", role="postgres"))
    try:
        await admin.execute(f'CREATE DATABASE "{name}" OWNER fallow STRATEGY file_copy')
        try:
            yield engines.dsn(name)
        finally:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest.fixture
def engine_folder() -> Iterator[Path]:
    """A data folder for a test that runs engines of its own."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """The session's engines."""
    with reachable_folder() as folder, running_engines(folder) as running:
        yield running


@pytest.fixture
async def postgres_dsn(engines: Engines) -> AsyncIterator[str]:
    """The URL of an empty database of this test's own."""
    async with fresh_database(engines) as dsn:
        yield dsn


@pytest.fixture
def nats_url(engines: Engines) -> str:
    """The URL of the session's NATS, which anybody may use; keep to subjects of your own."""
    return engines.nats_url


async def _serve(folder: Path) -> None:
    async with EmbeddedPostgres(folder, durable=False) as pg, EmbeddedNats(folder) as bus:
        templates = {role: pg.dsn(role, "DATABASE") for role in ("fallow", "postgres")}
        print(json.dumps({"templates": templates, "nats_url": bus.url}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
