"""Methods of the asynchronous client as methods that wait, with the same parameters: one line each, and typed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from fallow.sdk.client import AsyncClient
from fallow.sdk.loop import Loop
from fallow.sdk.results import ItemResult, RunResult
from fallow.sdk.sync_results import SyncItemResult, SyncRunResult

P = ParamSpec("P")
T = TypeVar("T")
Waited = Callable[Concatenate["Waiting", P], T]


class Waiting:
    """An asynchronous client, and the loop that drives it in a thread of its own."""

    _client: AsyncClient
    _loop: Loop


def waits(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Waited[P, T]:
    """Wait for what a method returns."""

    @wraps(method)
    def call(self: Waiting, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._client, *args, **kwargs))

    return call


def waits_for_item(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, ItemResult]]) -> Waited[P, SyncItemResult]:
    """Wait for how an item ended."""

    @wraps(method)
    def call(self: Waiting, /, *args: P.args, **kwargs: P.kwargs) -> SyncItemResult:
        return SyncItemResult(self._loop.run(method(self._client, *args, **kwargs)), self._loop)

    return call


def waits_for_run(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, RunResult]]) -> Waited[P, SyncRunResult]:
    """Wait for how a job of one item ended."""

    @wraps(method)
    def call(self: Waiting, /, *args: P.args, **kwargs: P.kwargs) -> SyncRunResult:
        return SyncRunResult(self._loop.run(method(self._client, *args, **kwargs)), self._loop)

    return call


def iterates(method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> Waited[P, Iterator[T]]:
    """Wait for one after the other; functions that are given along are called in the client's own thread."""

    @wraps(method)
    def call(self: Waiting, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._loop.each(method(self._client, *args, **kwargs))

    return call


def iterates_items(
    method: Callable[Concatenate[Any, P], AsyncIterator[ItemResult]],
) -> Waited[P, Iterator[SyncItemResult]]:
    """Wait for one item's end after the other."""

    @wraps(method)
    def call(self: Waiting, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[SyncItemResult]:
        return (SyncItemResult(result, self._loop) for result in self._loop.each(method(self._client, *args, **kwargs)))

    return call
