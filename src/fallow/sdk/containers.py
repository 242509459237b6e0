"""Containers on other people's machines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec

from fallow.domain.errors import InvalidInput
from fallow.domain.orders import Order, Requirements
from fallow.sdk.accounts import new_id
from fallow.sdk.results import ItemResult, RunResult
from fallow.sdk.runs import RunCalls, RunOptions, completed
from fallow.sdk.transfers import Source
from fallow.sdk.wire import arguments
from fallow.verticals.compute.core.work import ContainerWork

MIB = 1 << 20


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
        if told.pop("fuel", None) is not None:
            raise InvalidInput("sdk.fuel", "Containers are not metered by fuel.", "Bound them with time_limit_s.")
        archive, names = image.get("archive"), list(inputs or {})
        sources = [*([archive] if archive else []), *(inputs or {}).values(), *items]
        hashes = await self._upload_all(sources)
        archive_hash = hashes.pop(0) if archive else None
        work = {
            "kind": "container",
            "args": list(args),
            "env": dict(env or {}),
            "inputs": dict(zip(names, hashes, strict=False)),
            **arguments(
                image=image.get("name"),
                archive=archive_hash,
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
        asked: Requirements = told.pop("requirements", None) or Requirements()
        # The archive lies on the node's disk beside what the program itself needs.
        own_mib = -(-archive.stat().st_size // MIB) if archive else 0
        requirements = msgspec.structs.replace(asked, disk_mib=asked.disk_mib + own_mib)
        return Order(
            id=new_id(),
            vertical="compute",
            work=msgspec.to_builtins(checked),
            items=hashes[len(names) :],
            requirements=requirements,
            **told,
        )

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
