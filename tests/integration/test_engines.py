"""Real PostgreSQL and NATS under our supervisor, with everything killed that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import nats
import pytest

from fallow.adapters.engines import launch, supervisor
from fallow.adapters.engines import nats as nats_engine
from fallow.adapters.engines.binaries import find_nats, find_postgres
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.engines.process import LOG_LIMIT, Child, Program, open_log, spawn, wait_until
from fallow.adapters.engines.users import choose_user
from fallow.domain.errors import Conflict, FallowError, InvalidInput, Unavailable
from tests.engines import child_environment, fresh_database, reachable_folder, running_engines

ROOT = os.geteuid() == 0
BOUND = 120.0
LOGIN = {"user": "fallow", "password": 'quo"te $ and ä'}

SUPERVISING_PROCESS = """
import asyncio, json, sys
from pathlib import Path
import asyncpg
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.engines.postgres import EmbeddedPostgres

async def main(folder):
    async with EmbeddedPostgres(folder) as pg, EmbeddedNats(folder) as bus:
        connection = await asyncpg.connect(pg.dsn())
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.execute("INSERT INTO kept VALUES (42)")
        print(json.dumps([pg.pid, bus.pid]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as path:
        yield path


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


def processes_in(folder: Path) -> list[int]:
    """Every living process that works in the folder or was started with it as an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            started_with_it = str(folder).encode() in (entry / "cmdline").read_bytes()
            if started_with_it or (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return found


def processor_time(pid: int) -> int:
    """What a process has computed, in the kernel's ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def program_of(pid: int | None) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def gone(folder: Path) -> bool:
    return await wait_until(lambda: not processes_in(folder), BOUND)


@asynccontextmanager
async def supervising_process(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISING_PROCESS, str(folder), stdin=DEVNULL, stdout=PIPE, env=child_environment()
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def test_data_survives_a_stop_and_a_start(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as pg, connected(pg.dsn()) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert await gone(folder)
    async with EmbeddedPostgres(folder) as pg, connected(pg.dsn()) as connection:
        assert await connection.fetchval("SELECT n FROM kept") == 7
        assert await connection.fetchval("SHOW data_checksums") == "on"
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"


async def test_a_killed_postmaster_comes_back_with_every_acknowledged_row(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as pg:
        acknowledged: list[int] = []
        enough = asyncio.Event()

        async def write_until_it_breaks() -> None:
            async with connected(pg.dsn()) as connection:
                for n in range(1_000_000):
                    await connection.execute("INSERT INTO kept VALUES ($1)", n)
                    acknowledged.append(n)
                    if n == 20:
                        enough.set()

        async with connected(pg.dsn()) as connection:
            await connection.execute("CREATE TABLE kept (n int)")
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO kept VALUES (-1)")
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(expect_loss_of_connection(write_until_it_breaks()))
                await enough.wait()
                assert pg.pid is not None
                os.kill(pg.pid, signal.SIGKILL)
                await writer
        async with asyncio.timeout(BOUND):
            await pg.wait_restarts(1)
        assert pg.restarts == 1
        async with connected(pg.dsn()) as connection:
            rows = {row["n"] for row in await connection.fetch("SELECT n FROM kept")}
        assert rows >= set(acknowledged)
        assert -1 not in rows


async def expect_loss_of_connection(work: Awaitable[object]) -> None:
    # The last one is what asyncpg says when the loss comes between two of its own steps.
    lost = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)
    with pytest.raises(lost):
        await work


async def test_a_busy_backend_does_not_keep_a_killed_postmaster_down(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as pg, asyncio.TaskGroup() as group:
        async with connected(pg.dsn()) as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            # Pure computing: such a backend never looks whether its postmaster lives.
            query = connection.execute("DO $$ BEGIN LOOP NULL; END LOOP; END $$")
            busy = group.create_task(expect_loss_of_connection(query))
            assert await wait_until(lambda: processor_time(pid) > 1, BOUND)
            assert pg.pid is not None
            os.kill(pg.pid, signal.SIGKILL)
            async with asyncio.timeout(BOUND):
                await pg.wait_restarts(1)
                await busy
        async with connected(pg.dsn()) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_no_engine_outlives_a_killed_supervisor(folder: Path) -> None:
    async with supervising_process(folder) as child:
        assert child.stdout is not None
        engines = json.loads(await child.stdout.readline())
        assert set(engines) <= set(processes_in(folder))
        child.kill()
        await child.wait()
        # At once: what is still going down is waited for, not tripped over.
        async with EmbeddedPostgres(folder) as pg, connected(pg.dsn()) as connection:
            assert pg.pid not in engines
            assert await connection.fetchval("SELECT n FROM kept") == 42
            async with EmbeddedNats(folder) as bus:
                client = await nats.connect(bus.url)
                await client.close()
    assert await gone(folder)


def unfinished(folder: Path, inside: str = "") -> list[Path]:
    """What initdb has begun and not finished."""
    return list(folder.glob(f".postgres.*/{inside}"))


async def test_a_supervisor_killed_during_initdb_leaves_nothing_in_the_way(folder: Path) -> None:
    async with supervising_process(folder) as child:
        assert await wait_until(lambda: bool(unfinished(folder, "data/base")), BOUND, every=0.001)
        child.kill()
        await child.wait()
    assert not (folder / "postgres").exists()
    async with EmbeddedPostgres(folder) as pg, connected(pg.dsn()) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert not unfinished(folder)
    assert await gone(folder)


async def test_a_stop_request_to_the_supervising_process_leaves_no_engine(folder: Path) -> None:
    async with supervising_process(folder) as child:
        assert child.stdout is not None
        await child.stdout.readline()
        child.terminate()
        await child.wait()
        assert await gone(folder)


async def test_a_cancelled_start_leaves_no_engine(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        pass
    pg = EmbeddedPostgres(folder)
    async with asyncio.TaskGroup() as group:
        start = group.create_task(pg.__aenter__())
        assert await wait_until(lambda: bool(processes_in(folder)), BOUND, every=0.001)
        start.cancel()
    assert start.cancelled()
    assert not processes_in(folder)
    async with EmbeddedPostgres(folder) as again:
        assert again.pid is not None


async def test_what_a_killed_postmaster_leaves_behind_is_ended_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.adapters.engines.postgres._FIRST_PATIENCE", 0.1)
    monkeypatch.setattr("fallow.adapters.engines.leftovers._GRACE", 3.0)
    async with EmbeddedPostgres(folder) as pg:
        assert pg.pid is not None
        stuck = next(pid for pid in processes_in(folder) if pid != pg.pid)
        os.kill(stuck, signal.SIGSTOP)
        os.kill(pg.pid, signal.SIGKILL)
    assert not processes_in(folder)


async def test_the_callers_exception_passes_through_unchanged(folder: Path) -> None:
    with pytest.raises(KeyError):
        async with EmbeddedNats(folder):
            raise KeyError
    assert await gone(folder)


async def test_a_number_of_a_stranger_in_postmaster_pid_is_no_obstacle(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        left_behind = (folder / "postgres" / "postmaster.pid").read_text()
    stranger = await spawn_sleeper(folder)
    try:
        lines = [str(stranger.pid), *left_behind.splitlines()[1:]]
        (folder / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        async with EmbeddedPostgres(folder) as pg, connected(pg.dsn()) as connection:
            assert await connection.fetchval("SELECT 1") == 1
            assert not stranger.ended
    finally:
        await stranger.stop([(signal.SIGKILL, BOUND)])


async def spawn_sleeper(folder: Path) -> Child:
    sleep = shutil.which("sleep")
    assert sleep is not None
    user = choose_user(None, folder / "postgres")
    return await spawn(Program((sleep, "1000"), user, folder / "logs" / "sleep.log", signal.SIGKILL))


async def test_no_engine_runs_as_root(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as pg, EmbeddedNats(folder) as bus:
        expected = choose_user(None, folder / "nowhere").uid
        processes = processes_in(folder)
        assert {pg.pid, bus.pid} < set(processes)
        assert {user_of(pid) for pid in processes} == {expected}
        assert expected != 0
        for secret in [*(folder / "secrets").iterdir(), folder / "nats" / "nats.conf"]:
            assert secret.stat().st_mode & 0o777 == 0o600
        assert pg.socket_dir.stat().st_mode & 0o777 == 0o700


async def test_every_connection_proves_its_password(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as pg:
        host = str(pg.socket_dir)
        for user in ("fallow", "postgres"):
            for password in ("wrong", ""):
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await asyncpg.connect(host=host, user=user, password=password, database="postgres")
        async with connected(pg.dsn("postgres", "postgres")) as connection:
            rules = await connection.fetch("SELECT type, database, user_name, auth_method FROM pg_hba_file_rules")
            copies = ("local", ["replication"], ["postgres"], "scram-sha-256")
            assert [tuple(rule.values()) for rule in rules] == [("local", ["all"], ["all"], "scram-sha-256"), copies]
            assert await connection.fetchval("SHOW listen_addresses") == ""
        async with connected(pg.dsn()) as connection:
            roles = await connection.fetchrow("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'fallow'")
            assert roles is not None
            assert not any(roles.values())


async def test_a_lost_secret_is_healed_or_named(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        pass
    (folder / "secrets" / "postgres-fallow").write_text("something else\n")
    async with EmbeddedPostgres(folder) as pg, connected(pg.dsn()) as connection:
        assert await connection.fetchval("SELECT current_user") == "fallow"
    (folder / "secrets" / "postgres").unlink()
    assert (await refusal(EmbeddedPostgres(folder), Conflict)).code == "engine.secret_missing"


async def open_and_close(engine: EmbeddedPostgres | EmbeddedNats) -> None:
    async with engine:
        pass


async def refusal(engine: EmbeddedPostgres | EmbeddedNats, kind: type[FallowError]) -> FallowError:
    with pytest.raises(kind) as caught:
        await open_and_close(engine)
    return caught.value


async def test_a_data_folder_has_one_supervisor(folder: Path) -> None:
    async with EmbeddedPostgres(folder), EmbeddedNats(folder):
        for second in (EmbeddedPostgres(folder), EmbeddedNats(folder)):
            error = await refusal(second, Conflict)
            assert error.code == "engine.data_in_use"
            assert str(os.getpid()) in error.message


async def test_data_of_another_major_version_is_told_apart(folder: Path) -> None:
    async with EmbeddedPostgres(folder):
        pass
    (folder / "postgres" / "PG_VERSION").write_text("15\n")
    error = await refusal(EmbeddedPostgres(folder), Conflict)
    assert error.code == "engine.postgres_version"
    assert "PostgreSQL 15" in error.message
    assert "pg_dump" in error.hint


async def test_a_foreign_folder_is_not_overwritten(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "thesis.txt").write_text("years of work")
    assert (await refusal(EmbeddedPostgres(folder), Conflict)).code == "engine.unknown_folder"
    assert (folder / "postgres" / "thesis.txt").read_text() == "years of work"


async def test_a_data_folder_out_of_reach_is_named(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    if ROOT:
        for engine in (EmbeddedPostgres(closed / "data"), EmbeddedNats(closed / "data")):
            error = await refusal(engine, InvalidInput)
            assert error.code == "engine.data_unreachable"
            assert str(closed) in error.hint
        assert not (closed / "data").exists()
        assert closed.stat().st_mode & 0o777 == 0o700
    else:  # ourselves we get there, and the programs run where they are installed
        await open_and_close(EmbeddedPostgres(closed / "data"))
        assert not (closed / "data" / "engines").exists()


async def test_programs_out_of_reach_are_copied_once(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    postgres, bus = find_postgres(), find_nats()
    for engine in (postgres, bus):
        for part in engine.parts:
            source, target = engine.base / part, closed / part
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    data = folder / "data"
    for _ in range(2):
        async with (
            EmbeddedPostgres(data, engine=replace(postgres, base=closed)) as pg,
            EmbeddedNats(data, engine=replace(bus, base=closed)) as server,
        ):
            runs = [program_of(pg.pid), program_of(server.pid)]
            assert all(path.is_relative_to(data / "engines" if ROOT else closed) for path in runs)
        if ROOT:
            shutil.rmtree(closed)  # the second start lives from the copies
            closed.mkdir(mode=0o700)
            assert len(list((data / "engines").iterdir())) == 2


async def test_a_path_too_long_for_a_socket_gets_a_short_one(folder: Path) -> None:
    data = folder / ("long" * 25)
    async with EmbeddedPostgres(data) as pg, connected(pg.dsn()) as connection:
        short = pg.socket_dir
        assert await connection.fetchval("SELECT 1") == 1
        assert (data / "postgres-socket.path").read_text().strip() == str(short)
        assert short.stat().st_mode & 0o777 == 0o700
    assert not short.exists()


async def test_nats_keeps_its_port_and_its_accounts_when_killed(folder: Path) -> None:
    async with EmbeddedNats(folder, config={"authorization": LOGIN}) as bus:
        url, pid = bus.url, bus.pid
        assert pid is not None
        await check_accounts(url)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(BOUND):
            await bus.wait_restarts(1)
        assert (bus.url, bus.restarts) == (url, 1)
        assert bus.pid not in {None, pid}
        await check_accounts(url)


async def check_accounts(url: str) -> None:
    client = await nats.connect(url, **LOGIN)
    assert client.max_payload == 1024 * 1024
    await client.close()
    # By hand: the client leaves its socket open when it is refused.
    reader, writer = await asyncio.open_connection(*url.removeprefix("nats://").split(":"))
    writer.write(b"CONNECT " + json.dumps({"user": "fallow", "pass": "wrong"}).encode() + b"\r\n")
    assert (await reader.readline()).startswith(b"INFO ")
    assert b"Authorization Violation" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_an_engine_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(Unavailable, match="Parse error"):
        await open_and_close(EmbeddedNats(folder, config="nonsense {"))
    with pytest.raises(Unavailable, match="shared_buffers"):
        await open_and_close(EmbeddedPostgres(folder, settings={"shared_buffers": "many"}))
    assert await gone(folder)


async def test_a_child_whose_parent_is_gone_does_not_become_an_engine() -> None:
    never = ("--parent", "1", "--signal", str(int(signal.SIGKILL)), "--", sys.executable, "-c", "print('alive')")
    child = await asyncio.create_subprocess_exec(sys.executable, launch.__file__, *never, stdin=DEVNULL, stdout=PIPE)
    said, _ = await child.communicate()
    assert (said, child.returncode) == (b"", launch.PARENT_GONE)


async def test_a_restart_that_fails_is_tried_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    needed, hidden = folder / "nats" / "ports", folder / "hidden"
    async with EmbeddedNats(folder) as bus:
        pid = bus.pid
        assert pid is not None
        needed.rename(hidden)
        os.kill(pid, signal.SIGKILL)
        assert await wait_until(lambda: "could not be started again" in caplog.text, BOUND)
        assert bus.pid is None
        hidden.rename(needed)
        async with asyncio.timeout(BOUND):
            await bus.wait_restarts(1)


def test_a_log_that_grew_too_large_is_put_aside(folder: Path) -> None:
    log = folder / "logs" / "engine.log"
    for size in (LOG_LIMIT, LOG_LIMIT + 1):
        handle = open_log(log)
        os.truncate(handle, size)
        os.close(handle)
    os.close(open_log(log))
    assert log.stat().st_size == 0
    assert log.with_name("engine.log.1").stat().st_size == LOG_LIMIT + 1


async def test_a_log_that_grows_too_large_while_it_is_written_is_put_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_LOOK_S", 0.05)
    log = folder / "logs" / "nats.log"
    kept = log.with_name("nats.log.1")
    async with EmbeddedNats(folder) as bus:
        assert bus.pid is not None
        os.truncate(log, LOG_LIMIT + 1)
        assert await wait_until(lambda: log.stat().st_size == 0, BOUND)
        assert b"Server is ready" in kept.read_bytes()
        assert (kept.stat().st_size, kept.stat().st_mode & 0o077) == (LOG_LIMIT + 1, 0)
        os.kill(bus.pid, signal.SIGHUP)
        assert await wait_until(lambda: b"Reloaded" in log.read_bytes(), BOUND)
        assert log.stat().st_size < LOG_LIMIT


async def test_a_failed_start_says_what_it_said_and_not_an_earlier_one(folder: Path) -> None:
    for wrong, other in (("first", "second"), ("second", "first")):
        with pytest.raises(Unavailable, match=wrong) as caught:
            await open_and_close(EmbeddedNats(folder, config={wrong: 1}))
        assert other not in caught.value.message


async def test_one_connection_does_not_fill_the_servers_memory_with_subscriptions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_engine, "MAX_SUBSCRIPTIONS", 2)
    cut_off = asyncio.Event()

    async def note() -> None:
        cut_off.set()  # which is what this client makes of the server's refusal

    async with EmbeddedNats(folder) as bus:
        client = await nats.connect(bus.url, closed_cb=note)
        for number in range(3):
            assert not client.is_closed
            await client.subscribe(f"subject.{number}")
        async with asyncio.timeout(BOUND):
            await cut_off.wait()
        assert "maximum subscriptions exceeded" in str(client.last_error)


async def test_the_engines_of_the_test_session(folder: Path) -> None:
    with running_engines(folder) as engines:
        async with fresh_database(engines) as one, fresh_database(engines) as two:
            async with connected(one) as connection:
                await connection.execute("CREATE TABLE mine (n int)")
            async with connected(two) as connection:
                assert await connection.fetchval("SELECT to_regclass('mine')") is None
        client = await nats.connect(engines.nats_url)
        await client.close()
    assert await gone(folder)
