"""The same client for code without asyncio: it drives an AsyncClient on a loop in a thread of its own."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, Unpack

from fallow.domain.orders import Order
from fallow.domain.streams import LogSource
from fallow.sdk.client import AsyncClient
from fallow.sdk.jobs import Event
from fallow.sdk.loop import Loop
from fallow.sdk.patience import PATIENCE_S, Told, nobody
from fallow.sdk.runs import RunOptions
from fallow.sdk.sync_calls import SyncAccountCalls, SyncCheckCalls, SyncJobCalls
from fallow.sdk.sync_containers import SyncContainerCalls
from fallow.sdk.sync_python import SyncPythonCalls
from fallow.sdk.sync_results import SyncItemResult, SyncRunResult
from fallow.sdk.transfers import READ_BYTES_MAX, Source


class Client(SyncJobCalls, SyncPythonCalls, SyncContainerCalls, SyncAccountCalls, SyncCheckCalls):
    """`AsyncClient` for code without asyncio: the same methods, which wait for their results."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        ca: Path | ssl.SSLContext | None = None,
        patience_s: float = PATIENCE_S,
        on_wait: Told = nobody,
        client: AsyncClient | None = None,
    ) -> None:
        self._client = client or AsyncClient(url, api_key, ca=ca, patience_s=patience_s, on_wait=on_wait)
        self._loop = Loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._loop.stop(self._client.close())

    def upload(self, source: Source) -> str:
        """See `AsyncClient.upload`."""
        return self._loop.run(self._client.upload(source))

    def download(self, sha256: str, path: Path) -> int:
        """See `AsyncClient.download`."""
        return self._loop.run(self._client.download(sha256, path))

    def read(self, sha256: str, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """See `AsyncClient.read`."""
        return self._loop.run(self._client.read(sha256, bytes_max=bytes_max))

    def wasm_order(
        self,
        program: Source,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        items: Sequence[Source] = (),
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Order:
        """See `AsyncClient.wasm_order`."""
        return self._loop.run(self._client.wasm_order(program, args, inputs, items=items, env=env, **options))

    def run_wasm(
        self,
        program: Source,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> SyncRunResult:
        """See `AsyncClient.run_wasm`."""
        return SyncRunResult(
            self._loop.run(self._client.run_wasm(program, args, inputs, env=env, **options)), self._loop
        )

    def map_wasm(
        self,
        program: Source,
        items: Sequence[Source],
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        ordered: bool = False,
        **options: Unpack[RunOptions],
    ) -> Iterator[SyncItemResult]:
        """See `AsyncClient.map_wasm`."""
        source = self._client.map_wasm(program, items, args, inputs, env=env, ordered=ordered, **options)
        return (SyncItemResult(result, self._loop) for result in self._loop.each(source))

    def results(self, job_id: str, *, watch: Callable[[Event], None] | None = None) -> Iterator[SyncItemResult]:
        """See `AsyncClient.results`; `watch` is called in the client's own thread."""
        source = self._client.results(job_id, watch=watch)
        return (SyncItemResult(result, self._loop) for result in self._loop.each(source))

    def logs(
        self, job_id: str, index: int = 0, *, source: LogSource = "stdout", follow: bool = False
    ) -> Iterator[bytes]:
        """See `AsyncClient.logs`."""
        return self._loop.each(self._client.logs(job_id, index, source=source, follow=follow))

    def result(self, job_id: str, index: int = 0) -> SyncItemResult:
        """See `AsyncClient.result`."""
        return SyncItemResult(self._loop.run(self._client.result(job_id, index)), self._loop)
