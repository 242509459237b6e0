"""Python scripts and functions on other people's machines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Unpack

from fallow.domain.orders import Order
from fallow.sdk.bundle import Bundle, Tell, bundle_script, silent
from fallow.sdk.functions import CALL, pack_call, pack_function, read_value
from fallow.sdk.live import LiveCalls
from fallow.sdk.results import ItemResult, RunResult
from fallow.sdk.runs import RunOptions, completed, order_of, without_fuel
from fallow.sdk.transfers import Source
from fallow.sdk.wire import arguments
from fallow.verticals.compute.core.work import PythonWork

MIB = 1 << 20


class PythonCalls(LiveCalls):
    """Work written in Python. Nodes run it in a sandbox without network: what it needs is bundled here.

    `python` is the version that a node must have (`3.11`; the running one when it is not given), and `tell` is told
    what takes long. Whatever `bundle_script` raises, the methods that take a script raise.
    """

    async def python_order(
        self,
        script: Path,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        items: Sequence[Source] = (),
        env: Mapping[str, str] | None = None,
        python: str | None = None,
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> Order:
        """Bundle a script with its dependencies (PEP 723), upload it, and make the order; nothing is bought yet."""
        bundle = await asyncio.to_thread(bundle_script, script, python=python, tell=tell)
        return await self._bundle_order(bundle, args, inputs, items=items, env=env, **options)

    async def run_python(
        self,
        script: Path,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run a script and wait for its end. Inputs are files in its /in, by name; it leaves its own in /out.

        A script that fails is no error: see `ok`, `exit_code` and `reason` of the result.
        """
        order = await self.python_order(script, args, inputs, env=env, python=python, tell=tell, **options)
        return await self._run_order(order)

    async def map_python(
        self,
        script: Path,
        items: Sequence[Source],
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        ordered: bool = False,
        python: str | None = None,
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[ItemResult, None]:
        """Run a script once for each item, which it finds as /in/input; see `map_wasm`."""
        if not items:
            return
        order = await self.python_order(script, args, inputs, items=items, env=env, python=python, tell=tell, **options)
        async with aclosing(self._map_order(order, ordered=ordered)) as results:
            async for result in results:
                yield result

    async def run(
        self,
        fn: Callable[..., Any],
        *args: object,
        dependencies: Sequence[str] = (),
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call a plain function with these arguments on somebody's machine, and return what it returns.

        It must return what JSON can hold, or bytes: what a stranger's machine sends is never unpickled. Packages that
        it imports are named in `dependencies`, as pip takes them.

        Raises:
            InvalidInput: it, or an argument, cannot be sent; or it raised, and the message holds its traceback.
            FallowError: it could not be bought, or nobody could do it.
        """
        bundle = await asyncio.to_thread(pack_function, fn, dependencies=dependencies, tell=tell)
        order = await self._bundle_order(bundle, (), {CALL: pack_call(args, {})}, **options)
        return await read_value(await self._run_order(order))

    async def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[object],
        *,
        ordered: bool = True,
        dependencies: Sequence[str] = (),
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[Any, None]:
        """Call a plain function once for each item, on many machines; what it returns comes in the items' order.

        With `ordered=False` it comes as it is ready: let the function return its item along where you need to know
        which it was. See `run` for what it may return and what is raised; the first failure ends the iteration.
        Whoever stops reading, or is stopped by a failure, leaves the job running: give it a `job_id` to `cancel` it.
        """
        calls = [pack_call((item,), {}) for item in items]
        if not calls:
            return
        bundle = await asyncio.to_thread(pack_function, fn, dependencies=dependencies, tell=tell)
        order = await self._bundle_order(bundle, (), None, items=calls, **options)
        async with aclosing(self._map_order(order, ordered=ordered)) as results:
            async for result in results:
                yield await read_value(result)

    async def _bundle_order(
        self,
        bundle: Bundle,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        items: Sequence[Source] = (),
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Order:
        told = completed(options)
        without_fuel(told, "Python")
        (bundle_hash,), input_hashes, item_hashes = await self._upload_work([bundle.path], inputs, items)
        work = PythonWork(
            bundle=bundle_hash,
            entry=bundle.entry,
            args=list(args),
            env=dict(env or {}),
            inputs=input_hashes,
            python=bundle.python,
            platform=bundle.platform,
            **arguments(output_mib=told.pop("output_mib", None), checkpoint_s=told.pop("checkpoint_s", None)),
        )
        # The archive lies there, and what comes out of it.
        return order_of(work, item_hashes, told, own_bytes=bundle.archive_bytes + bundle.unpacked_bytes)
