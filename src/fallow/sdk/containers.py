"""Containers on other people's machines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.domain.orders import Order
from fallow.sdk.results import ItemResult, RunResult
from fallow.sdk.runs import RunCalls, RunOptions, completed, order_of, without_fuel
from fallow.sdk.transfers import Source
from fallow.sdk.wire import arguments
from fallow.verticals.compute.core.work import ContainerWork


class Image(TypedDict, total=False):
    """What is run: an image by its `name` in a registry, or an `archive` of one (OCI, or from `docker save`).

    `pull_secret` names the secret (USER:PASSWORD) that a private registry is shown. `entrypoint` and `workdir` go over
    the image's own; `platform` is linux/amd64 when it is not given.
    """

    name: str
    archive: Path
    entrypoint: Sequence[str]
    workdir: str
    pull_secret: str
    platform: str


class ContainerCalls(RunCalls):
    """Work in containers, which nodes run without network: all that a program needs is in its image or its inputs."""

    async def container_order(
        self,
        image: Image,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        items: Sequence[Source] = (),
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Order:
        """Upload what a container needs, and make the order for it; nothing is bought yet.

        Raises:
            InvalidInput: the image is not named as images are, or an option is for other kinds of work.
        """
        told = completed(options)
        without_fuel(told, "A container")
        archive = image.get("archive")
        archives, input_hashes, item_hashes = await self._upload_work([archive] if archive else [], inputs, items)
        work = {
            "kind": "container",
            "args": list(args),
            "env": dict(env or {}),
            "inputs": input_hashes,
            **arguments(
                image=image.get("name"),
                archive=archives[0] if archives else None,
                platform=image.get("platform"),
                entrypoint=list(image.get("entrypoint", ())) or None,
                workdir=image.get("workdir"),
                pull_secret=image.get("pull_secret"),
                output_mib=told.pop("output_mib", None),
                checkpoint_s=told.pop("checkpoint_s", None),
            ),
        }
        try:
            checked = msgspec.convert(work, ContainerWork)
        except msgspec.ValidationError as error:
            raise InvalidInput("sdk.container", f"The container cannot be ordered: {error}.") from error
        return order_of(checked, item_hashes, told, own_bytes=archive.stat().st_size if archive else 0)

    async def run_container(
        self,
        image: Image,
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run a container and wait for its end. Inputs are files in its /in, by name; it leaves its own in /out.

        A program that fails is no error: see `ok`, `exit_code` and `reason` of the result.
        """
        return await self._run_order(await self.container_order(image, args, inputs, env=env, **options))

    async def map_container(
        self,
        image: Image,
        items: Sequence[Source],
        args: Sequence[str] = (),
        inputs: Mapping[str, Source] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        ordered: bool = False,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[ItemResult, None]:
        """Run a container once for each item, which it finds as /in/input; see `map_wasm`."""
        if not items:
            return
        order = await self.container_order(image, args, inputs, items=items, env=env, **options)
        async with aclosing(self._map_order(order, ordered=ordered)) as results:
            async for result in results:
                yield result
