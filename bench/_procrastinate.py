"""The baseline of dispatching: procrastinate, a task queue on PostgreSQL, with tasks that do nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg
import procrastinate

SCHEMA = "procrastinate_bench"
CONCURRENCIES = (1, 4, 16)
TRIAL = 400
DEFERRING = 32
CONNECTIONS_MAX = 16


class Rate(NamedTuple):
    """Tasks a second: from the first one deferred to the last one done, and with deferring left out."""

    tasks_s: float
    working_s: float
    concurrency: int


async def measure(dsn: str, tasks: int) -> Rate:
    """Run so many tasks at the concurrency that did best in a short trial of each."""
    trials = [await _run(dsn, TRIAL, concurrency) for concurrency in CONCURRENCIES]
    best = max(trials, key=lambda rate: rate.tasks_s)
    for rate in trials:
        print(f"procrastinate, {rate.concurrency} at a time: {rate.tasks_s:.0f}/s", flush=True)
    return await _run(dsn, tasks, best.concurrency)


async def _run(dsn: str, tasks: int, concurrency: int) -> Rate:
    """Defer each task as an application does, one call each, and have one worker run them as they come."""
    ended = asyncio.Event()
    done = 0
    async with _fresh(dsn) as conninfo:
        app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=conninfo, min_size=4, max_size=CONNECTIONS_MAX)
        )

        @app.task(name="nothing")
        async def nothing(number: int) -> None:  # noqa: ARG001 - as a real one has arguments
            nonlocal done
            done += 1
            if done == tasks:
                ended.set()

        numbers = iter(range(tasks))

        async def defer() -> None:
            for number in numbers:
                await nothing.defer_async(number=number)

        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for _ in range(DEFERRING):
                    group.create_task(defer())
            deferred = time.monotonic()
            worker = asyncio.ensure_future(  # noqa: TID251 - it ends right here, by cancelling, which it takes as an order
                app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
            )
            await ended.wait()
            now = time.monotonic()
            worker.cancel()
            await asyncio.wait([worker])
    return Rate(tasks / (now - began), tasks / (now - deferred), concurrency)


@asynccontextmanager
async def _fresh(dsn: str) -> AsyncIterator[str]:
    """A schema of its own, gone at the end; yields how psycopg reaches it."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    server = await asyncpg.connect(dsn)
    try:
        await server.execute(f"CREATE SCHEMA {SCHEMA}")
        try:
            yield f"{dsn}{'&' if '?' in dsn else '?'}options=-csearch_path%3D{SCHEMA}"
        finally:
            await server.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    finally:
        await server.close()
