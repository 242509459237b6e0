"""Images in an engine's store: brought in from archives and registries once, and kept for the next run."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import msgspec

from fallow.domain.errors import InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.ports.public_only import PublicOnly
from fallow.ports.vertical.work import Assignment
from fallow.verticals.compute.core.images import read_reference
from fallow.verticals.compute.core.work import ContainerWork
from fallow.verticals.compute.worker.engine import Engine
from fallow.verticals.compute.worker.image_check import remove
from fallow.verticals.compute.worker.image_child import Answer, Task
from fallow.verticals.compute.worker.registry import Credentials, Registry
from fallow.verticals.compute.worker.transfers import Ended, fetched, unless_cancelled

IMAGE_BYTES_MAX: Final = 4 << 30
"""Of one image without compression."""
PULL_S: Final = 1800.0
SILENCE_S: Final = 60.0
"""How long a registry may say nothing."""
DATA_BUDGET: Final = "owner.data_budget"
_CHILD: Final = "fallow.verticals.compute.worker.image_child"
_log = logging.getLogger(__name__)


class Images:
    """Images by their ids, at most about `bytes_max` of them when none is in use.

    `folder` holds a file for each of them: its name is the image's id, its content the image's bytes, its time of
    change the last use. Beside them lies a file for each archive that was taken, and for each repository that an image
    was pulled from, with the id of its image.
    """

    def __init__(self, engine: Engine, folder: Path, bytes_max: int) -> None:
        self._internet: Callable[[], httpx2.AsyncBaseTransport] = PublicOnly
        self._engine = engine
        self._folder = folder
        self._bytes_max = bytes_max
        self._lock = asyncio.Lock()
        self._users: dict[str, int] = {}

    async def reconcile(self) -> None:
        """Forget what the engine does not have, and have removed what is not known here: both are left by a kill.

        Where there is no image, nothing in the engine is kept: most machines never run a container. A note that was
        written when the machine lost its power may be empty since, or hold zeros: it is as good as none.
        """
        for path in self._folder.iterdir():
            if path.is_file() and not path.read_text(errors="replace").isalnum():
                path.unlink()
        known = {path.name for path in self._folder.iterdir() if "." not in path.name}
        if not known:
            await self._engine.erase()
            return
        there = await self._engine.loaded()
        for image in known - there:
            self._path(image).unlink()
        for image in there - known:
            await self._engine.forget(image)
        for path in self._folder.glob("*.partial"):
            await asyncio.to_thread(remove, path)
        for path in self._folder.glob("*.*"):
            if path.read_text() not in known & there:
                path.unlink()

    @asynccontextmanager
    async def held(self, work: ContainerWork, assignment: Assignment) -> AsyncIterator[str]:
        """Hold the image of a piece of work, which is not removed meanwhile; gives its id.

        Raises:
            InvalidInput, TooMuch: the image cannot be used.
            Unavailable: this machine cannot have it now.
            Ended: it could not be fetched, or the assignment was cancelled.
        """
        image = ""
        while not image:
            brought = await unless_cancelled(assignment.cancel, self._brought(work, assignment))
            async with self._lock:
                if self._path(brought).exists():  # and has not had to make room for another one
                    image = brought
                    self._users[image] = self._users.get(image, 0) + 1
        try:
            await asyncio.to_thread(os.utime, self._path(image))
            yield image
        finally:
            self._users[image] -= 1

    async def _brought(self, work: ContainerWork, assignment: Assignment) -> str:
        layout = self._folder / f"{secrets.token_hex(8)}.partial"
        try:
            if work.archive is not None:
                return await self._uploaded(work.archive, work.platform, assignment, layout)
            return await self._pulled(work, assignment, layout)
        finally:
            await asyncio.to_thread(remove, layout)

    async def _uploaded(self, sha256: str, platform: str, assignment: Assignment, layout: Path) -> str:
        known = self._folder / f"{sha256}.{platform.replace('/', '-')}"
        with contextlib.suppress(FileNotFoundError):
            image = known.read_text()
            if self._path(image).exists():
                return image
        archive = assignment.workspace / "image.tar"
        try:
            await fetched(assignment, sha256, archive)
            image = await self._taken(Task(str(layout), platform, IMAGE_BYTES_MAX, str(archive)))
        finally:
            archive.unlink(missing_ok=True)
        known.write_text(image)
        return image

    async def _pulled(self, work: ContainerWork, assignment: Assignment, layout: Path) -> str:
        """The registry is asked each time: a name may stand for another image now, or not be this buyer's any more.

        An image that another repository brought is fetched again: a manifest may name what its registry does not have.
        """
        reference, credentials = read_reference(work.image), _credentials(work, assignment)
        try:
            client = httpx2.AsyncClient(transport=self._internet(), timeout=SILENCE_S)
            async with asyncio.timeout(PULL_S), client:
                registry = Registry(client, reference, credentials, assignment.line)
                pulled = await registry.manifest(work.platform)
                image = pulled.config.hex
                known = self._folder / f"{image}.{_digest(f'{reference.host}/{reference.path}')}"
                if known.exists() and self._path(image).exists():
                    return image
                if not assignment.line.has_room(pulled.size):
                    _log.info("an image of %d MiB goes beyond the month's data", pulled.size >> 20)
                    raise Ended(DATA_BUDGET, "owner")
                await registry.download(pulled, layout, bytes_max=IMAGE_BYTES_MAX)
        except (Unavailable, TimeoutError) as error:
            _log.warning("an image could not be pulled: %s", error)
            raise Ended("image.unavailable", "nobody") from error
        except (NotAllowed, NotFound) as error:
            raise InvalidInput(error.code, error.message) from error
        image = await self._taken(Task(str(layout), work.platform, IMAGE_BYTES_MAX))
        known.write_text(image)
        return image

    async def _taken(self, task: Task) -> str:
        """Check a layout and have the engine take it over."""
        answer = await check(task)
        async with self._lock:  # one at a time: they would take each other's place
            if not self._path(answer.image).exists():
                await self._make_room(answer.unpacked_bytes)
                await self._engine.load(Path(task.layout), answer.image)
                self._path(answer.image).write_text(str(answer.unpacked_bytes))
        return answer.image

    async def _make_room(self, wanted_bytes: int) -> None:
        paths = [path for path in self._folder.iterdir() if "." not in path.name and not self._users.get(path.name)]
        found = [(path.stat().st_mtime, int(path.read_text()), path) for path in paths]
        excess = sum(size for _, size, _ in found) + wanted_bytes - self._bytes_max
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            await self._engine.forget(path.name)
            path.unlink()
            excess -= size

    def _path(self, image: str) -> Path:
        return self._folder / image


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _credentials(work: ContainerWork, assignment: Assignment) -> Credentials | None:
    """How the buyer is known to the registry. Raises InvalidInput when he has not said it as he meant to."""
    if not work.pull_secret:
        return None
    user, colon, password = assignment.secrets.get(work.pull_secret, "").partition(":")
    if not colon:
        raise InvalidInput("compute.pull_secret", f"The secret {work.pull_secret} is not of the form USER:PASSWORD.")
    return Credentials(user, password)


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
