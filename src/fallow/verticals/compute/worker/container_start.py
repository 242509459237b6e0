"""How a container begins: what podman is told, and what it says when it does not begin.

What its program sees: the image, read-only; /in, read-only; /out, /work and /checkpoint on the disk, and /tmp in
memory. No network, no capability, no new privilege, the engine's own seccomp filter; started by root it is nobody
outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.verticals.compute.worker.checkpoints import FOLDER
from fallow.verticals.compute.worker.course import within
from fallow.verticals.compute.worker.keeper import Keeper
from fallow.verticals.compute.worker.podman import Podman, last_error

PROCESSES_MAX: Final = 256
FILES_MAX: Final = 1024
GROUPS_PARENT: Final = "/fallow"
HOST_IDS: Final = "1879048192:65536"
"""Users that a container of root's has outside, from 0x70000000 on: neither accounts nor systemd use them."""
START_S: Final = 60.0
END_S: Final = 15.0
NICE: Final = 10
_MIB: Final = 1 << 20
_TMP: Final = "/tmp"  # noqa: S108 - the container's own
_RUNTIMES_OWN: Final = 512 * _MIB
"""Without control groups the limit of memory already holds for the runtime, before it becomes the program."""
_LOOK_EVERY_S: Final = 0.01
_SHARE_OF_TMP: Final = 4
_ERROR_BYTES_MAX: Final = 64 * 1024
_NO_PROGRAM: Final = {126: "its program or its working folder cannot be used", 127: "the program is not there"}
_log = logging.getLogger(__name__)
_OF_THE_IMAGE: Final = (b'exec: "', b'workdir "', b"chdir to cwd")
"""Engine and runtime use the same codes for what is wrong with themselves."""
_NO_USER: Final = (b"unable to find user", b"no matching entries in passwd", b"no matching entries in group")


class ContainerJob(NamedTuple):
    """One run. `image` is an image's id in the store; `folder` holds its folders, and gets stdout and stderr.

    `gpus` are graphics processors by their UUIDs, handed in through NVIDIA's description of them (CDI).
    """

    name: str
    image: str
    entrypoint: tuple[str, ...]
    args: tuple[str, ...]
    workdir: str
    env: Mapping[str, str]
    folder: Path
    memory_bytes_max: int
    disk_bytes_max: int
    cpu_milli: int
    time_limit_s: float
    gpus: tuple[str, ...] = ()


class Launch:
    """podman at work on one container, from its start until both are gone."""

    def __init__(self, job: ContainerJob, podman: Podman) -> None:
        """Start it. Raises Unavailable."""
        self._podman = podman
        self._job = job
        self._pid_file = job.folder / "pid"
        self._env_file = job.folder / "env"
        _write_privately(self._env_file, "".join(f"{name}={value}\n" for name, value in job.env.items()))
        with (job.folder / "stdout").open("wb") as stdout, (job.folder / "stderr").open("wb") as stderr:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - podman, with our arguments before the program's
                    podman.command("run", *self._arguments(), job.image, *job.args),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    cwd="/",
                    env=podman.environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable("compute.podman", f"podman does not start: {error.strerror}.") from error
        self._fd = os.pidfd_open(self._process.pid)
        self._keeper = Keeper(self._fd, self._pid_file, podman.command(*self._removal), podman.environment)
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
        while not self._pid_file.exists():
            if self._process.poll() is not None and not self._pid_file.exists():
                raise self._refusal()
            if loop.time() > ends:
                raise Unavailable("compute.podman", f"podman has not started the container in {START_S:g} s.")
            if await within(cancel, _LOOK_EVERY_S):
                return None
        self._env_file.unlink()
        return int(self._pid_file.read_text())

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
                raise Unavailable("compute.podman", f"podman has not ended {END_S:g} s after its program.")
        finally:
            loop.remove_reader(self._fd)
        return self._process.wait()

    async def close(self) -> None:
        """Leave nothing behind: no process, no container.

        Raises:
            Unavailable: the container cannot be removed.
        """
        try:
            if self._process.poll() is None:
                self._process.kill()
                await self._podman.call(*self._removal)
        finally:
            self._process.wait()
            self._keeper.dismiss()
            os.close(self._fd)

    @property
    def _removal(self) -> tuple[str, ...]:
        return ("rm", "--force", "--ignore", "--time", "0", self._job.name)

    def _arguments(self) -> list[str]:
        job = self._job
        words = ["--rm", "--name", job.name, "--pull", "never", "--log-driver", "none", "--sdnotify", "ignore"]
        words += ["--pidfile", str(self._pid_file), "--env-file", str(self._env_file), "--http-proxy=false"]
        words += ["--network", "none", "--no-hosts", "--hostname", "fallow", "--ipc", "private"]
        words += ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--systemd", "false", "--no-healthcheck"]
        words += ["--read-only", "--read-only-tmpfs=false", "--image-volume", "ignore"]
        tmp_bytes = max(_MIB, job.memory_bytes_max // _SHARE_OF_TMP)
        words += ["--tmpfs", f"{_TMP}:size={tmp_bytes},mode=1777,nosuid,nodev", "--shm-size", str(tmp_bytes)]
        for name, options in (("in", "ro"), ("out", "rw"), ("work", "rw"), (FOLDER, "rw")):
            words += ["--volume", f"{job.folder / name}:/{name}:{options},nosuid,nodev,Z"]
        words += [f"--device=nvidia.com/gpu={gpu}" for gpu in job.gpus]
        words += ["--workdir", job.workdir] if job.workdir else []
        words += ["--entrypoint", msgspec.json.encode(job.entrypoint).decode()] if job.entrypoint else []
        words += ["--uidmap", f"0:{HOST_IDS}", "--gidmap", f"0:{HOST_IDS}"] if os.geteuid() == 0 else []
        return words + self._limits()

    def _limits(self) -> list[str]:
        job = self._job
        cpu_s = math.ceil(job.time_limit_s * max(1.0, job.cpu_milli / 1000)) + 1
        limits = {
            "core": (resource.RLIMIT_CORE, 0),
            "nofile": (resource.RLIMIT_NOFILE, FILES_MAX),
            "nproc": (resource.RLIMIT_NPROC, PROCESSES_MAX),
            "fsize": (resource.RLIMIT_FSIZE, job.disk_bytes_max + 1),
            "cpu": (resource.RLIMIT_CPU, cpu_s),
            "memlock": (resource.RLIMIT_MEMLOCK, 0),
        }
        words = []
        if self._podman.groups:
            memory, cpus = str(job.memory_bytes_max), f"{job.cpu_milli / 1000:.3f}"
            words += ["--cgroup-parent", GROUPS_PARENT, "--cgroupns", "private", "--pids-limit", str(PROCESSES_MAX)]
            words += ["--memory", memory, "--memory-swap", memory, "--cpus", cpus, "--oom-score-adj", "1000"]
        else:
            limits["data"] = (resource.RLIMIT_DATA, job.memory_bytes_max + _RUNTIMES_OWN)
        for name, (kind, wanted) in limits.items():
            _, hard = resource.getrlimit(kind)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            words += ["--ulimit", f"{name}={value}:{value}"]
        return words

    def _refusal(self) -> InvalidInput | Unavailable:
        """Why it did not begin. The machine's own words, which name folders of its owner, do not reach the buyer."""
        stderr = self._job.folder / "stderr"
        with stderr.open("r+b") as file:
            said = file.read(_ERROR_BYTES_MAX)
            file.truncate(0)
        _log.warning("podman did not run an image: %s", last_error(said))
        of_the_image = any(sign in said for sign in _OF_THE_IMAGE)
        why = _NO_PROGRAM.get(self._process.returncode) if of_the_image else None
        if any(sign in said for sign in _NO_USER):
            why = "it names a user that it does not have"
        if why is not None:
            return InvalidInput("compute.image", f"The image cannot be run so: {why}.")
        return Unavailable("compute.podman", f"podman cannot run it: {last_error(said)}")


def _write_privately(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
