"""Python scripts and functions for code without asyncio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from fallow.domain.orders import Order
from fallow.sdk.bundle import Tell, silent
from fallow.sdk.client import AsyncClient
from fallow.sdk.loop import Loop
from fallow.sdk.runs import RunOptions
from fallow.sdk.sync_results import SyncItemResult, SyncRunResult
from fallow.sdk.transfers import Source


class SyncPythonCalls:
    """`PythonCalls`, waited for."""

    _client: AsyncClient
    _loop: Loop

    def python_order(
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
        """See `AsyncClient.python_order`."""
        return self._loop.run(
            self._client.python_order(script, args, inputs, items=items, env=env, python=python, tell=tell, **options)
        )

    def run_python(
        self,
        script: Path,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> SyncRunResult:
        """See `AsyncClient.run_python`."""
        work = self._client.run_python(script, args, inputs, env=env, python=python, tell=tell, **options)
        return SyncRunResult(self._loop.run(work), self._loop)

    def map_python(
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
    ) -> Iterator[SyncItemResult]:
        """See `AsyncClient.map_python`."""
        source = self._client.map_python(
            script, items, args, inputs, env=env, ordered=ordered, python=python, tell=tell, **options
        )
        return (SyncItemResult(result, self._loop) for result in self._loop.each(source))

    def run(
        self,
        fn: Callable[..., Any],
        *args: object,
        dependencies: Sequence[str] = (),
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """See `AsyncClient.run`."""
        return self._loop.run(self._client.run(fn, *args, dependencies=dependencies, tell=tell, **options))

    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[object],
        *,
        ordered: bool = True,
        dependencies: Sequence[str] = (),
        tell: Tell = silent,
        **options: Unpack[RunOptions],
    ) -> Iterator[Any]:
        """See `AsyncClient.map`."""
        source = self._client.map(fn, items, ordered=ordered, dependencies=dependencies, tell=tell, **options)
        return self._loop.each(source)
