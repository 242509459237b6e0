"""How a container begins, and what its engine says when it does not begin."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
from pathlib import Path
from typing import Final

import psutil

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.verticals.compute.worker.container_job import ContainerJob
from fallow.verticals.compute.worker.course import within
from fallow.verticals.compute.worker.engine import Engine, last_error
from fallow.verticals.compute.worker.keeper import Keeper

START_S: Final = 60.0
END_S: Final = 15.0
NICE: Final = 10
_LOOK_EVERY_S: Final = 0.01
_ERROR_BYTES_MAX: Final = 64 * 1024
_NO_PROGRAM: Final = {126: "its program or its working folder cannot be used", 127: "the program is not there"}
_log = logging.getLogger(__name__)
_OF_THE_IMAGE: Final = (b'exec: "', b'workdir "', b"chdir to cwd")
"""Engine and runtime use the same codes for what is wrong with themselves."""
_NO_USER: Final = (b"unable to find user", b"no matching entries in passwd", b"no matching entries in group")


class Launch:
    """An engine's command at work on one container, from its start until both are gone."""

    def __init__(self, job: ContainerJob, engine: Engine) -> None:
        """Start it. Raises Unavailable."""
        self._engine = engine
        self._job = job
        _write_privately(job.env_file, "".join(f"{name}={value}\n" for name, value in job.env.items()))
        with (job.folder / "stdout").open("wb") as stdout, (job.folder / "stderr").open("wb") as stderr:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - podman, with our arguments before the program's
                    engine.command(*engine.run_words(job)),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd="/",
                    env=engine.environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise self._failed(f"does not start: {error.strerror}.") from error
        self._fd = os.pidfd_open(self._process.pid)
        self._keeper = Keeper(self._fd, job.pid_file, engine.command(*engine.removal(job.name)), engine.environment)
        with contextlib.suppress(psutil.Error, OSError):  # it has failed already
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
            psutil.Process(self._process.pid).ionice(psutil.IOPRIO_CLASS_IDLE)

    async def pid(self, cancel: asyncio.Event) -> int | None:
        """Wait until the program begins and return the pid of its process; None when `cancel` was set before.

        Raises:
            InvalidInput: the image does not have what it is to run.
            Unavailable: podman cannot start it.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + START_S
        while (pid := await self._engine.first(self._job)) is None:
            if self._process.poll() is not None and await self._engine.first(self._job) is None:
                raise self._refusal()
            if loop.time() > ends:
                raise self._failed(f"has not started the container in {START_S:g} s.")
            if await within(cancel, _LOOK_EVERY_S):
                return None
        self._job.env_file.unlink()
        return pid

    async def exit_code(self) -> int:
        """Wait for podman, which ends after its program, and return that one's code.

        Raises:
            Unavailable: it does not end.
        """
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fd, ended.set)
        try:
            if not await within(ended, END_S):
                raise self._failed(f"has not ended {END_S:g} s after its program.")
        finally:
            loop.remove_reader(self._fd)
        return self._process.wait()

    async def close(self) -> None:
        """Leave nothing behind: no process, no container.

        Raises:
            Unavailable: the container cannot be removed.
        """
        try:
            if self._process.poll() is None or not self._engine.removes:
                self._process.kill()
                await self._engine.remove(self._job.name)
        finally:
            self._process.wait()
            self._keeper.dismiss()
            os.close(self._fd)

    def _refusal(self) -> InvalidInput | Unavailable:
        """Why it did not begin. The machine's own words, which name folders of its owner, do not reach the buyer."""
        stderr = self._job.folder / "stderr"
        with stderr.open("r+b") as file:
            said = file.read(_ERROR_BYTES_MAX)
            file.truncate(0)
        _log.warning("%s did not run an image: %s", self._engine.name, last_error(said))
        of_the_image = any(sign in said for sign in _OF_THE_IMAGE)
        why = _NO_PROGRAM.get(self._process.returncode) if of_the_image else None
        if any(sign in said for sign in _NO_USER):
            why = "it names a user that it does not have"
        if why is not None:
            return InvalidInput("compute.image", f"The image cannot be run so: {why}.")
        return self._failed(f"cannot run it: {last_error(said)}")

    def _failed(self, what: str) -> Unavailable:
        return Unavailable(f"compute.{self._engine.name}", f"{self._engine.name} {what}")


def _write_privately(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
