"""Programs run on other people's machines: from files here to results here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotFound, TooMuch
from fallow.domain.jobs import FINAL
from fallow.domain.orders import COMPARED_MIN, Order, Requirements, Tolerance
from fallow.domain.views.jobs import ItemView, JobView
from fallow.ports.tasks import first_error
from fallow.sdk.accounts import new_id
from fallow.sdk.jobs import Event
from fallow.sdk.receipts import SigningCalls
from fallow.sdk.results import ItemResult, RunResult
from fallow.sdk.transfers import BEYOND_MEMORY, BlobCalls, Source
from fallow.sdk.wire import arguments
from fallow.verticals.compute.core.outcome import Outcome, decode_outcome
from fallow.verticals.compute.core.work import WasmWork

UPLOADS_AT_ONCE = 8
RESULTS_PAGE = 100
OUTCOME_BYTES_MAX = 16 << 20
MIB = 1 << 20


class RunOptions(TypedDict, total=False):
    """What an order may say beside its work; what is left out has the defaults of `Order` and of the kind of work.

    `job_id` names the job: 32 hex digits, such as `uuid.uuid4().hex`, fresh ones where it is left out. Whoever knows
    it beforehand can cancel what he stops waiting for. The same work under the same id is bought once.
    """

    job_id: str
    requirements: Requirements
    max_price_microusd_per_hour: int
    spot: bool
    budget_microusd: int | None
    time_limit_s: int
    retries: int
    label: str
    replicas: int
    compare: Literal["exact", "tolerance", "none"] | None
    tolerance: Tolerance | None
    fuel: int
    output_mib: int
    checkpoint_s: int
    until_stopped: bool


def completed(options: RunOptions) -> dict[str, Any]:
    """Options with what a tolerance says about the others: that results compare so, and that there are several."""
    told: dict[str, Any] = dict(options)
    if told.get("tolerance") is not None:
        told = {"compare": "tolerance", "replicas": COMPARED_MIN, **told}
    return told


def without_fuel(told: dict[str, Any], kind: str) -> None:
    """Refuse a bound of fuel for a kind of work that is not metered by it."""
    if told.pop("fuel", None) is not None:
        raise InvalidInput("sdk.fuel", f"{kind} is not metered by fuel.", "Bound it with time_limit_s.")


def order_of(work: msgspec.Struct, items: list[str], told: dict[str, Any], *, own_bytes: int = 0) -> Order:
    """Make the order of a piece of work. `own_bytes` lie on the node's disk beside what the program itself needs."""
    asked: Requirements = told.pop("requirements", None) or Requirements()
    requirements = msgspec.structs.replace(asked, disk_mib=asked.disk_mib + -(-own_bytes // MIB))
    builtin = msgspec.to_builtins(work)
    job_id = told.pop("job_id", None) or new_id()
    return Order(id=job_id, vertical="compute", work=builtin, items=items, requirements=requirements, **told)


class RunCalls(BlobCalls, SigningCalls):
    """Work on programs as a whole."""

    async def comparator(self, program: Source) -> Tolerance:
        """Upload a WASI program that compares two results, to be an order's `tolerance`."""
        return Tolerance(program=await self.upload(program))

    async def wasm_order(
        self,
        program: Source,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        items: Sequence[Source] = (),
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Order:
        """Upload what a WASI program needs, and make the order for it; nothing is bought yet."""
        told = completed(options)
        (program_hash,), input_hashes, item_hashes = await self._upload_work([program], inputs, items)
        work = WasmWork(
            program=program_hash,
            args=list(args),
            env=dict(env or {}),
            inputs=input_hashes,
            **arguments(
                fuel=told.pop("fuel", None),
                output_mib=told.pop("output_mib", None),
                checkpoint_s=told.pop("checkpoint_s", None),
            ),
        )
        return order_of(work, item_hashes, told)

    async def run_wasm(
        self,
        program: Source,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run a WASI program and wait for its end. Inputs are files in its /in, by name.

        A program that fails is no error: see `ok`, `exit_code` and `reason` of the result.

        Raises:
            FallowError: it could not be bought.
        """
        return await self._run_order(await self.wasm_order(program, args, inputs, env=env, **options))

    async def map_wasm(
        self,
        program: Source,
        items: Sequence[Source],
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        ordered: bool = False,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[ItemResult, None]:
        """Run a program once for each item, which it finds as /in/input; results come as they are ready.

        With `ordered` they come in the order of the items. Whoever stops reading leaves the job running: its id is
        on every result, for `cancel`.
        """
        if not items:
            return
        order = await self.wasm_order(program, args, inputs, items=items, env=env, **options)
        async with aclosing(self._map_order(order, ordered=ordered)) as results:
            async for result in results:
                yield result

    async def results(
        self, job_id: str, *, watch: Callable[[Event], None] | None = None
    ) -> AsyncGenerator[ItemResult, None]:
        """Results of a job's items as they are ready, each once, until the job has ended.

        `watch` is told every event on the way, for showing progress. What one machine left in place of a result hides
        no other's: see `fault`.
        """
        given: set[int] = set()
        came: set[int] = set()
        async with aclosing(self.events(job_id)) as events:
            async for event in events:
                if watch is not None:
                    watch(event)
                for item in await self._changed(job_id, event, given):
                    if item.state in FINAL and item.index not in given:
                        given.add(item.index)
                        result = await self._result(job_id, item)
                        if not result.fault:
                            came.add(item.index)
                        yield result
        await self._acknowledge(job_id, came)

    async def result(self, job_id: str, index: int = 0) -> ItemResult:
        """How one item of a job ended, or stands: see `ok` and `reason`."""
        result = await self._result(job_id, await self.item(job_id, index))
        await self._acknowledge(job_id, [] if result.fault else [index])
        return result

    async def _run_order(self, order: Order) -> RunResult:
        await self.submit(order)
        job = await self.wait(order.id)
        item = await self.item(order.id, 0)
        result = RunResult(self, job, item, *await self._outcome(item))
        await self._acknowledge(order.id, [] if result.fault else [0])
        return result

    async def _map_order(self, order: Order, *, ordered: bool) -> AsyncGenerator[ItemResult, None]:
        await self.submit(order)
        async with aclosing(self.results(order.id)) as results:
            async for result in _in_order(results) if ordered else results:
                yield result

    async def _changed(self, job_id: str, event: Event, given: set[int]) -> list[ItemView]:
        """Items that may be ready by this event."""
        if isinstance(event, JobView) or event.item is None:
            # It comes first, after a broken connection, and last: what is ready by then may have had its own before.
            return [item async for item in self.all_items(job_id)]
        if event.state not in FINAL or event.item in given:
            return []
        return await self.items(job_id, after=event.item - 1, limit=RESULTS_PAGE)

    async def _result(self, job_id: str, item: ItemView) -> ItemResult:
        return ItemResult(self, job_id, item, *await self._outcome(item))

    async def _outcome(self, item: ItemView) -> tuple[Outcome | None, str]:
        """What an item's machine left, or why that is no result."""
        if item.result is None:
            return None, ""
        try:
            return decode_outcome(await self.read(item.result, bytes_max=OUTCOME_BYTES_MAX)), ""
        except NotFound:
            return None, "result.missing"
        except UNREADABLE:
            return None, "result.unreadable"
        except TooMuch as error:
            if error.code != BEYOND_MEMORY:
                raise
            return None, "result.too_large"

    async def _upload_work(
        self, programs: Sequence[Source], inputs: Mapping[str, Source] | None, items: Sequence[Source]
    ) -> tuple[list[str], dict[str, str], list[str]]:
        """Upload all that an order names; returns the hashes of its programs, its inputs by name, and its items."""
        named = dict(inputs or {})
        hashes = iter(await self._upload_all([*programs, *named.values(), *items]))
        return list(islice(hashes, len(programs))), dict(zip(named, hashes, strict=False)), list(hashes)

    async def _upload_all(self, sources: Sequence[Source]) -> list[str]:
        slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def one(source: Source) -> str:
            async with slots:
                return await self.upload(source)

        with first_error():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(source)) for source in sources]
        return [task.result() for task in tasks]


async def _in_order(results: AsyncIterator[ItemResult]) -> AsyncIterator[ItemResult]:
    early: dict[int, ItemResult] = {}
    at = 0
    async for result in results:
        early[result.index] = result
        while at in early:
            yield early.pop(at)
            at += 1
