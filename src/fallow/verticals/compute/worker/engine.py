"""What is needed of an engine that runs containers. What its owner keeps in it is neither seen nor changed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from fallow.domain.errors import Unavailable
from fallow.verticals.compute.worker.cgroups import Group
from fallow.verticals.compute.worker.container_job import ContainerJob
from fallow.verticals.compute.worker.inside import Entrance

CALL_S: Final = 300.0
_NO_ROOM: Final = b"no space left on device"
_TAIL_CHARS: Final = 300


class Engine(Protocol):
    """One engine. Methods that call it raise Unavailable where it fails, and OSError where the disk is full.

    `groups` says that it bounds containers by control groups; `home` and `images` are folders of ours, the latter for
    keeping which images there are.
    """

    @property
    def name(self) -> str:
        """What its users call it."""
        ...

    @property
    def groups(self) -> bool:
        """See the class."""
        ...

    @property
    def removes(self) -> bool:
        """Whether a run removes its container when it ends."""
        ...

    @property
    def home(self) -> Path:
        """See the class."""
        ...

    @property
    def images(self) -> Path:
        """See the class."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """What it is called with: nothing of the agent's own."""
        ...

    def prepare(self) -> None:
        """Make its folders and settings."""
        ...

    async def ready(self) -> None:
        """Prepare, make sure that strangers' work can be left to it, and remove what a killed agent has left."""
        ...

    def command(self, *words: str) -> list[str]:
        """A whole command line."""
        ...

    async def call(self, *words: str) -> str:
        """Run a command and return what it prints."""
        ...

    def run_words(self, job: ContainerJob) -> list[str]:
        """What a run is started with. It ends when its program has, with that one's code."""
        ...

    def removal(self, name: str) -> tuple[str, ...]:
        """What removes a container, and ends it if it runs."""
        ...

    async def remove(self, name: str) -> None:
        """Remove a container, if it is there."""
        ...

    async def first(self, job: ContainerJob) -> int | None:
        """Pid of a run's first process; 0 when it has ended, None when it has not begun."""
        ...

    async def out_of_memory(self, job: ContainerJob) -> bool:
        """Whether it knows that a run that is over had too little memory, beside what its group says."""
        ...

    def group(self, pid: int) -> Group | None:
        """The control group of the container whose first process this is."""
        ...

    def entrance(self, group: Group | None) -> Entrance | None:
        """The way for commands into a container; None where there is none."""
        ...

    async def load(self, layout: Path, image: str) -> None:
        """Take over a layout's image, which was checked and has this id."""
        ...

    async def loaded(self) -> set[str]:
        """Ids of the images of ours that are there."""
        ...

    async def forget(self, image: str) -> None:
        """Remove one."""
        ...

    async def erase(self) -> None:
        """Remove all that we keep in it, and end what runs."""
        ...


async def called(name: str, line: Sequence[str], env: Mapping[str, str], what: str, folder: str = "/") -> str:
    """Run an engine's command in a folder and return what it prints.

    Raises:
        Unavailable: it fails, or does not end in CALL_S.
        OSError: the disk is full.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"compute.{name}", f"{name} does not start: {error.strerror}.") from error
    try:
        async with asyncio.timeout(CALL_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise Unavailable(f"compute.{name}", f"{name} {what} did not end in {CALL_S:g} s.") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if _NO_ROOM in err:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if process.returncode:
        raise Unavailable(f"compute.{name}", f"{name} {what} failed: {last_error(err).rstrip('.')}.")
    return out.decode(errors="replace")


def last_error(text: bytes) -> str:
    """The last line of what an engine complains of, without its own decoration."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ")[:_TAIL_CHARS] if lines else "it says nothing."
