"""Images in podman's store: brought in from archives and registries once, and kept for the next run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.ports.vertical import Assignment
from fallow.verticals.compute.core.work import ContainerWork
from fallow.verticals.compute.worker.image_check import remove
from fallow.verticals.compute.worker.image_child import Answer, Task
from fallow.verticals.compute.worker.podman import Podman
from fallow.verticals.compute.worker.transfers import fetched, unless_cancelled

IMAGE_BYTES_MAX: Final = 4 << 30
"""Of one image without compression."""
_CHILD: Final = "fallow.verticals.compute.worker.image_child"


class Images:
    """Images by their ids, at most about `bytes_max` of them when none is in use.

    `folder` holds a file for each of them: its name is the image's id, its content the image's bytes, its time of
    change the last use. Beside them lies a file for each archive that was taken, with the id of its image.
    """

    def __init__(self, podman: Podman, folder: Path, bytes_max: int) -> None:
        self._podman = podman
        self._folder = folder
        self._bytes_max = bytes_max
        self._lock = asyncio.Lock()
        self._users: dict[str, int] = {}

    async def reconcile(self) -> None:
        """Forget what podman does not have, and have removed what is not known here: both are left by a kill.

        Where there is no image, nothing of podman's is kept: most machines never run a container.
        """
        known = {path.name for path in self._folder.iterdir() if "." not in path.name}
        if not known:
            await self._podman.erase()
            return
        there = set((await self._podman.call("images", "--all", "--quiet", "--no-trunc")).split())
        there = {image.removeprefix("sha256:") for image in there}
        for image in known - there:
            self._path(image).unlink()
        for image in there - known:
            await self._podman.call("rmi", "--force", image)
        for path in self._folder.glob("*.partial"):
            await asyncio.to_thread(remove, path)

    @asynccontextmanager
    async def held(self, work: ContainerWork, assignment: Assignment) -> AsyncIterator[str]:
        """Hold the image of a piece of work, which is not removed meanwhile; gives its id.

        Raises:
            InvalidInput, TooMuch: the image cannot be used.
            Unavailable: this machine cannot have it now.
            Ended: it could not be fetched, or the assignment was cancelled.
        """
        async with self._lock:  # one at a time: they would take each other's place
            image = await unless_cancelled(assignment.cancel, self._brought(work, assignment))
            self._users[image] = self._users.get(image, 0) + 1
        try:
            await asyncio.to_thread(os.utime, self._path(image))
            yield image
        finally:
            self._users[image] -= 1

    async def _brought(self, work: ContainerWork, assignment: Assignment) -> str:
        known = self._folder / f"{work.archive}.archive"
        with contextlib.suppress(FileNotFoundError):
            image = known.read_text()
            if self._path(image).exists():
                return image
        layout = self._folder / f"{secrets.token_hex(8)}.partial"
        archive = assignment.workspace / "image.tar"
        try:
            await fetched(assignment, work.archive, archive)
            image = await self._taken(Task(str(layout), work.platform, IMAGE_BYTES_MAX, str(archive)))
        finally:
            archive.unlink(missing_ok=True)
            await asyncio.to_thread(remove, layout)
        known.write_text(image)
        return image

    async def _taken(self, task: Task) -> str:
        """Check a layout and have podman take it over."""
        answer = await check(task)
        if not self._path(answer.image).exists():
            await self._make_room(answer.unpacked_bytes)
            image = await self._podman.load(Path(task.layout))
            if image != answer.image:
                raise Unavailable("compute.podman", f"podman calls the image {image}, and not {answer.image}.")
            self._path(image).write_text(str(answer.unpacked_bytes))
        return answer.image

    async def _make_room(self, wanted_bytes: int) -> None:
        paths = [path for path in self._folder.iterdir() if "." not in path.name and not self._users.get(path.name)]
        found = [(path.stat().st_mtime, int(path.read_text()), path) for path in paths]
        excess = sum(size for _, size, _ in found) + wanted_bytes - self._bytes_max
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            await self._podman.call("rmi", "--force", path.name)
            path.unlink()
            excess -= size

    def _path(self, image: str) -> Path:
        return self._folder / image


async def check(task: Task) -> Answer:
    """Have an image checked by a child process.

    Raises:
        InvalidInput, TooMuch: it is not taken.
        Unavailable: it could not be checked.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", _CHILD, msgspec.json.encode(task).decode()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    try:
        answer = msgspec.json.decode(out, type=Answer)
    except msgspec.MsgspecError as error:
        why = err.decode(errors="replace").strip().rpartition("\n")[2] or f"it ended with {process.returncode}"
        raise Unavailable("compute.image_check", f"An image could not be checked: {why}.") from error
    if answer.refused:
        raise (TooMuch if answer.too_large else InvalidInput)("compute.image", answer.refused)
    return answer
