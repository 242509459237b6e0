"""Containers for code without asyncio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Unpack

from fallow.domain.orders import Order
from fallow.sdk.client import AsyncClient
from fallow.sdk.containers import Image
from fallow.sdk.loop import Loop
from fallow.sdk.runs import RunOptions
from fallow.sdk.sync_results import SyncItemResult, SyncRunResult
from fallow.sdk.transfers import Source


class SyncContainerCalls:
    """`ContainerCalls`, waited for."""

    _client: AsyncClient
    _loop: Loop

    def container_order(
        self,
        image: Image,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        items: Sequence[Source] = (),
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Order:
        """See `AsyncClient.container_order`."""
        return self._loop.run(self._client.container_order(image, args, inputs, items=items, env=env, **options))

    def run_container(
        self,
        image: Image,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> SyncRunResult:
        """See `AsyncClient.run_container`."""
        work = self._client.run_container(image, args, inputs, env=env, **options)
        return SyncRunResult(self._loop.run(work), self._loop)

    def map_container(
        self,
        image: Image,
        items: Sequence[Source],
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        ordered: bool = False,
        **options: Unpack[RunOptions],
    ) -> Iterator[SyncItemResult]:
        """See `AsyncClient.map_container`."""
        source = self._client.map_container(image, items, args, inputs, env=env, ordered=ordered, **options)
        return (SyncItemResult(result, self._loop) for result in self._loop.each(source))
